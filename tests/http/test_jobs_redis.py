"""Jobs that replicas share in a Redis: a real one, and replicas that are stopped, frozen and killed."""
import base64
import hashlib
import re
import signal
import socket
import threading
import time
import unittest

from jobs import ASYNC, LAST_ID, LONG, WORK, JobCase, Stream, keyed, parse
from redis_server import Redis
from stall import Stall
from support import ENDLESS, JSON, PATIENCE_S, QUICK, SERVER, TINY, Client, ask, run_program, wait_until
from test_webhooks import Receiver, SECRET

LEASE = ("--jobs-lease-ms", 3000)
ALONE = ("--workers", 1, "--batch", 1)
STEPS = 12
# On a replica that is held it stands still at its preview, when half of its steps are done.
SOME = {"steps": STEPS, "seed": 1, "solver": "heun", "partial_images": 1}
FILLERS = ("filler-1", "filler-2")
JOBS_DONE = 'jobs_total{outcome="done"}'
CLAIMED, LOST = 'job_leases_total{fate="claimed"}', 'job_leases_total{fate="lost"}'


class FleetCase(JobCase):
    """Every test has a Redis and replicas of its own."""

    def redis(self, *flags, **settings):
        redis = Redis(*flags, **settings)
        self.addCleanup(redis.stop)
        return redis.start()

    def replica(self, redis, *flags, **settings):
        server = self.start("--jobs", redis.url(), *LEASE, *flags, **settings)
        server.wait_for_log("event=redis-up")
        return server

    def stalling(self, redis, *flags):
        """A replica of which hold() and release() may be asked."""
        stall = Stall()
        server = self.replica(redis, *flags, env=stall.environment)
        self.addCleanup(stall.close)  # before it is stopped
        server.stall = stall
        return server

    def hold(self, *servers):
        """What they begin from now on is not finished until they are released."""
        for server in servers:
            server.stall.arm()

    def release(self, *servers):
        for server in servers:
            server.stall.release()

    def kill(self, server):
        server.signal(signal.SIGKILL)
        server.stop(-signal.SIGKILL)

    def holder(self, *servers):
        """The server that runs pictures, then the others."""
        those = wait_until(lambda: [s for s in servers if s.metrics()["in_progress_pictures"]], "a replica at work")
        return those[0], *[s for s in servers if s is not those[0]]

    def count(self, name, *servers):
        return sum(server.metrics()[name] for server in servers)

    def fill(self, server):
        """Give a replica all the jobs it takes at a time."""
        for name in FILLERS:
            self.admit(name, ENDLESS, server)
        server.wait_for_pictures(len(FILLERS) * ENDLESS["n"])

    def empty(self, server):
        for name in FILLERS:
            self.delete(name, server)

    def unreachable(self, response):
        self.assertIn("Redis", self.refused(response, 503, "store-unreachable", retry=True))


class TestReplicas(FleetCase):
    """What clients see of several replicas is what they see of one."""

    def test_any_answers(self):
        redis = self.redis()
        servers = [self.replica(redis) for _ in range(3)]
        a, b, c = servers
        self.admit("one", WORK, a)
        state = self.over("one", b)
        pictures = self.pictures("one", b)
        self.assertEqual(pictures, self.made_anew(WORK, c))
        for server in servers:
            self.assertEqual((self.state("one", server), self.pictures("one", server)), (state, pictures))
            events = parse(self.get("one", "/events", server=server).body.decode())
            self.assertEqual(events, [(LAST_ID, "completed", state)])
            seen = self.get("one", "/events", {"Last-Event-ID": str(LAST_ID)}, server=server)
            self.assertEqual(seen.status, 204)
            tag = self.get("one", "/images/1", server=server).headers["ETag"]
            self.assertEqual(self.get("one", "/images/1", {"If-None-Match": tag}, server).status, 304)
            self.refused(self.get("one", "/images/7", server=server), 404, "unknown-job")
            self.refused(self.get("two", server=server), 404, "unknown-job")
            again = self.put("one", WORK, server)
            self.assertEqual((again.status, again.json()), (200, state))
            self.refused(self.put("one", QUICK, server), 409, "conflict")
        self.assertEqual(self.count(JOBS_DONE, *servers), 1)

    def test_requests_sent_twice(self):
        """Idempotency-Key and Prefer, at any replica, in any form."""
        redis = self.redis()
        a, b = self.replica(redis), self.replica(redis)
        picture = self.made_anew(QUICK, a)[0]
        for server in (a, b, a):
            response = ask(server, "POST", "/v1/generate", QUICK, keyed("k"))
            self.assertEqual((response.status, response.body), (200, picture))
        for server in (a, b):
            response = ask(server, "POST", "/v1/generate", QUICK, keyed("k", Accept="application/json"))
            self.assertEqual((response.status, response.images()), (200, [picture]))
        for server in (a, b):
            events = parse(ask(server, "POST", "/v1/generate", QUICK,
                               keyed("e", Accept="text/event-stream")).body.decode())
            self.assertEqual(events[-1][:2], (LAST_ID, "completed"))
            self.assertTrue(events[-1][2]["images"][0]["b64"])
        self.refused(ask(b, "POST", "/v1/generate", {"steps": 9}, keyed("k")), 409, "conflict")
        taken = ask(b, "POST", "/v1/generate", QUICK, ASYNC)
        self.assertEqual((taken.status, taken.headers["Preference-Applied"]), (202, "respond-async"))
        job = taken.headers["Location"].rsplit("/", 1)[1]
        self.over(job, a)
        self.assertEqual(self.count(JOBS_DONE, a, b), 3)

    def test_at_the_same_time(self):
        """One id, many clients, all replicas: one job."""
        redis = self.redis()
        servers = [self.replica(redis) for _ in range(2)]
        replies = []
        threads = [threading.Thread(target=lambda s=s: replies.append(self.put("one", WORK, s).status))
                   for s in servers * 8]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(replies), [200] * 15 + [201])
        self.over("one", servers[0])
        self.assertEqual(self.count(JOBS_DONE, *servers), 1)

    def test_events(self):
        """Of a job that another replica runs, as they come, and on from where a stream broke off."""
        redis = self.redis()
        a, b = (self.stalling(redis, *ALONE) for _ in range(2))
        self.hold(a, b)
        self.admit("one", SOME, a)
        held, other = self.holder(a, b)
        streams = [Stream(server, "GET", "/v1/jobs/one/events") for server in (held, other)]
        first = [streams[1].next() for _ in range(5)]
        self.assertEqual([(number, name) for number, name, _ in first],
                         [(1, "queued")] + [(i, "progress") for i in range(2, 6)])
        resumed = Stream(other, "GET", "/v1/jobs/one/events", None, {"Last-Event-ID": "3"})
        self.assertEqual(other.metrics()["streams"], 2)
        self.release(a, b)
        events = [streams[0].rest(), first + streams[1].rest()]
        self.assertEqual(events[0], events[1])
        self.assertEqual(resumed.rest(), events[0][3:])
        kinds = [name for _, name, _ in events[0]]
        self.assertEqual([kinds.count(kind) for kind in ("queued", "progress", "partial", "completed")],
                         [1, STEPS, 1, 1])
        self.assertEqual(events[0][-1], (LAST_ID, "completed", self.state("one", other)))
        wait_until(lambda: other.metrics()["streams"] == 0, "the end of the streams")

    def test_deleted(self):
        """From any replica, whoever runs it; who waits for it is told."""
        redis = self.redis()
        a, b = self.replica(redis, *ALONE), self.replica(redis, *ALONE)
        self.admit("running", LONG, a)
        held, other = self.holder(a, b)
        stream = Stream(other, "GET", "/v1/jobs/running/events")
        stream.next()
        waiting = Client(held)
        waiting.send("POST", "/v1/generate", LONG, keyed("waiting"))
        wait_until(lambda: self.get("waiting", server=other).status == 200, "the job")
        for job in ("running", "waiting"):
            self.delete(job, other)
        number, name, problem = stream.rest()[-1]
        self.assertEqual((number, name, problem["type"]),
                         (LAST_ID, "error", "urn:brickwork:problem:cancelled"))
        self.refused(waiting.receive(), 409, "cancelled")
        waiting.close()
        for server in (a, b):
            server.wait_for_pictures(0)
            for job in ("running", "waiting"):
                self.refused(self.get(job, server=server), 410, "gone")
                self.refused(self.get(job, "/images/0", server=server), 410, "gone")
                self.refused(self.get(job, "/events", server=server), 410, "gone")
                self.refused(self.get(job, server=server, method="DELETE"), 410, "gone")
        self.refused(self.get("nobody", server=a, method="DELETE"), 404, "unknown-job")
        self.admit("running", QUICK, other)  # an id may be used again
        self.over("running", held)
        self.delete("running", held)
        self.refused(self.get("running", server=other), 410, "gone")
        self.assertEqual(self.count('jobs_total{outcome="cancelled"}', a, b), 2)
        self.assertEqual(sum(redis.ask("XLEN", key) for key in redis.ask("KEYS", "brickwork:queue:*")), 0)

    def test_forgotten(self):
        redis = self.redis()
        server = self.replica(redis, "--jobs-keep-s", 3)
        self.admit("one", QUICK, server)
        wait_until(lambda: self.get("one", server=server).status == 410, "its time to be over")
        self.refused(self.get("one", server=server), 410, "gone")
        wait_until(lambda: self.get("one", server=server).status == 404, "to be forgotten")
        wait_until(lambda: all(key.startswith(b"brickwork:queue:") for key in redis.ask("KEYS", "*")),
                   "no keys but the queues")

    def test_order_of_the_queue(self):
        redis = self.redis()
        server = self.replica(redis, *ALONE)
        self.fill(server)
        for job in ("low", "normal", "high"):
            self.admit(job, {**QUICK, "priority": job}, server)
        wait_until(lambda: server.metrics()['stored_jobs{state="open"}'] == 5, "all of them counted")
        self.empty(server)
        self.over("low", server)
        server.wait_for_log("event=job-over id=low")
        over = [line for line in server.lines if "event=job-over" in line and "outcome=done" in line]
        self.assertEqual([line.split(" id=")[1].split()[0] for line in over], ["high", "normal", "low"])

    def test_larger_than_the_bound(self):
        """A job that was taken is made, beside other work, and holds up none behind it."""
        redis = self.redis()
        server = self.replica(redis, *ALONE, "--queue-ms", 200)
        over = threading.Event()

        def keep_busy():
            with Client(server) as client:
                while not over.is_set():
                    client.ask("POST", "/v1/generate", {**QUICK, "steps": 8})

        others = [threading.Thread(target=keep_busy) for _ in range(4)]
        for one in others:
            one.start()
        try:
            wait_until(lambda: server.metrics()['pictures_total{outcome="done"}'] > 8, "others at work")
            self.admit("large", {**LONG, "size": "96x96"}, server)
            self.admit("small", QUICK, server)
            self.over("small", server)
            self.until_running("large", server)
            self.delete("large", server)
        finally:
            over.set()
            for one in others:
                one.join()

    def test_as_many_as_may_wait(self):
        redis = self.redis()
        server = self.replica(redis, *ALONE)
        self.fill(server)
        redis.ask("EVAL", "for i = 1, 16382 do redis.call('XADD', KEYS[1], '*', 'key', 'x') end", 1,
                  "brickwork:queue:low")
        self.refused(self.put("more", QUICK, server), 429, "queue-full", retry=True)
        self.refused(ask(server, "POST", "/v1/generate", QUICK, keyed("more")), 429, "queue-full", True)
        self.empty(server)  # what stands for no job is swept out
        wait_until(lambda: self.put("more", QUICK, server).status in (200, 201), "room")
        self.over("more", server)

    def test_deadlines(self):
        """A promise of the replica that was asked, kept by another if it dies, late though it be."""
        redis = self.redis()
        a, b = self.stalling(redis, *ALONE), self.replica(redis, *ALONE)
        self.hold(a)
        response = self.put("no", {**SOME, "deadline_ms": 1}, a)
        self.assertEqual((response.status, response.json()["type"]),
                         (503, "urn:brickwork:problem:deadline-infeasible"))
        self.refused(self.get("no", server=b), 404, "unknown-job")
        self.admit("yes", {**SOME, "deadline_ms": 3600000}, a)
        self.until_running("yes", b)
        self.assertEqual(b.metrics()["in_progress_pictures"], 0)
        self.assertEqual(self.put("yes", {**SOME, "deadline_ms": 3600000}, b).status, 200)
        self.kill(a)
        self.over("yes", b)
        self.assertEqual(self.pictures("yes", b), self.made_anew(self.state("yes", b)["request"], b))

    def test_deadlines_while_redis_is_slow(self):
        """They count from when the request arrived."""
        redis = self.redis()
        server = self.replica(redis, *ALONE)
        redis.process.send_signal(signal.SIGSTOP)
        with Client(server) as client:
            client.send("POST", "/v1/generate", {**QUICK, "deadline_ms": 1000}, keyed("late"))
            ask(server, "GET", "/livez")  # after it has arrived
            time.sleep(1.5)
            redis.process.send_signal(signal.SIGCONT)
            self.refused(client.receive(), 503, "deadline-infeasible")

    def test_clients_leave(self):
        """Whoever follows a job or waits for it may go; the job stays."""
        redis = self.redis()
        a, b = self.replica(redis, *ALONE), self.replica(redis, *ALONE)
        self.admit("one", LONG, a)
        held, other = self.holder(a, b)
        for server in (held, other):
            stream = Stream(server, "GET", "/v1/jobs/one/events")
            stream.next()
            waiting = Client(server)
            waiting.send("POST", "/v1/generate", LONG, keyed("one"))
            wait_until(lambda s=server: s.metrics()["streams"] == 1, "the stream")
            stream.client.close()
            waiting.close()
            wait_until(lambda s=server: s.metrics()["streams"] == 0, "nobody to follow")
            wait_until(lambda s=server: s.metrics()["connections"] == 1, "nobody but who asks this")
        self.assertNotIn("finished", self.state("one", other))
        self.assertEqual(self.count("in_progress_pictures", a, b), 1)
        self.delete("one", other)

    def test_given_back(self):
        """What a replica has asked for when it is told to stop, it leaves to another, which need not wait for its lease."""
        def asking():
            flags = re.findall(r"(?m) flags=(\S+)", redis.ask("CLIENT", "LIST").decode())
            return sum("b" in one for one in flags)

        redis, patient = self.redis(), ("--jobs-lease-ms", 60000)
        b = self.replica(redis, *ALONE, *patient)
        self.fill(b)
        a = self.replica(redis, *ALONE, *patient)
        a.process.send_signal(signal.SIGSTOP)
        self.admit("one", QUICK, b)
        redis.ask("CLIENT", "PAUSE", PATIENCE_S * 1000, "WRITE")
        wait_until(lambda: asking() == 1, "the other to renew its leases")
        a.process.send_signal(signal.SIGCONT)
        wait_until(lambda: asking() == 2, "it to ask for a job")
        a.signal()
        a.wait_for_log("event=draining")
        redis.ask("CLIENT", "UNPAUSE")
        self.assertEqual(a.wait(), 0)
        self.assertEqual(self.state("one", b)["status"], "queued")
        self.empty(b)
        self.over("one", b)
        self.assertEqual(b.metrics()[CLAIMED], 0)

    def test_trace(self):
        """The trace of a request goes with its job, to whoever runs it."""
        redis = self.redis()
        a = self.replica(redis, *ALONE)
        self.fill(a)
        b = self.replica(redis, *ALONE)
        trace = "0af7651916cd43dd8448eb211c80319c"
        response = self.put("one", QUICK, a, {**JSON, "traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        self.assertEqual(response.status, 201)
        self.over("one", b)
        b.wait_for_log("event=job-over id=one")
        lines = [line for server in (a, b) for line in server.lines if "event=job-over id=one" in line]
        self.assertEqual(len(lines), 1)
        self.assertIn(f"trace={trace}", lines[0])
        self.assertEqual(self.count('admissions_total{decision="admitted"}', a, b), 3)
        self.empty(a)

    def test_keys_do_not_see_each_other(self):
        redis = self.redis()
        path = self.folder() + "/keys"
        with open(path, "w", encoding="ascii") as file:
            for name in ("alice", "bob"):
                file.write(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n")
        a, b = (self.replica(redis, "--keys-file", path) for _ in range(2))
        alice, bob = ({**JSON, "Authorization": f"Bearer {name}"} for name in ("alice", "bob"))
        self.assertEqual(self.put("one", QUICK, a, alice).status, 201)
        self.refused(self.get("one", headers=bob, server=b), 404, "unknown-job")
        wait_until(lambda: "finished" in self.get("one", headers=alice, server=b).json(), "its end")
        self.assertEqual(self.put("one", WORK, b, bob).status, 201)


class TestAccidents(FleetCase):
    """Replicas and Redis come and go; every job ends once."""

    def told(self):
        """A receiver of webhooks and the flags for it."""
        receiver = Receiver()
        self.addCleanup(receiver.close)
        path = self.folder() + "/secret"
        with open(path, "w", encoding="ascii") as file:
            file.write("whsec_" + base64.b64encode(SECRET).decode())
        return receiver, ("--webhook-allow", f"127.0.0.1:{receiver.port}", "--webhook-secret-file", path)

    def check_once(self, job, receiver, body, *servers):
        """It ended once, was told once, and its pictures are right."""
        state = self.over(job, servers[0])
        self.assertEqual(self.pictures(job, servers[0]), self.made_anew(body, servers[-1]))
        self.assertEqual(self.count(JOBS_DONE, *servers), 1)
        self.assertEqual(receiver.next()[1]["webhook-id"][:4], "msg_")
        self.assertTrue(receiver.calls.empty())
        return state

    def test_killed(self):
        redis = self.redis()
        receiver, flags = self.told()
        a, b, c = (self.stalling(redis, *ALONE, *flags) for _ in range(3))
        self.hold(a, b, c)
        self.admit("one", {**SOME, "webhook": receiver.url}, a)
        held, other, third = self.holder(a, b, c)
        self.release(other, third)
        stream = Stream(other, "GET", "/v1/jobs/one/events")
        seen = [stream.next() for _ in range(STEPS // 2)]
        self.kill(held)
        events = seen + stream.rest()
        self.assertEqual([number for number, _, _ in events], [*range(1, STEPS + 3), LAST_ID])
        self.assertEqual([name for _, name, _ in events].count("completed"), 1)
        state = self.check_once("one", receiver, SOME, other, third)
        self.assertEqual(events[-1][2], state)
        self.assertEqual(self.count(CLAIMED, other, third), 1)

    def test_killed_with_many(self):
        """Whatever was promised is made, each once."""
        redis = self.redis()
        a, b = self.replica(redis, *ALONE), self.replica(redis, *ALONE)
        body = {**QUICK, "steps": 48}
        jobs = [f"job-{i}" for i in range(8)]
        for job in jobs:
            self.admit(job, body, a)
        wait_until(lambda: self.count(JOBS_DONE, a, b) >= 2, "some of them to be over")
        done = a.metrics()[JOBS_DONE]
        self.kill(a)
        for job in jobs:
            self.over(job, b)
        ended = [line for line in a.lines if "event=job-over" in line]
        self.assertGreaterEqual(len(ended), done)
        self.assertEqual(len(ended) + b.metrics()[JOBS_DONE], len(jobs))

    def test_frozen(self):
        """Its lease runs out; what it says when it thaws is refused."""
        redis = self.redis()
        receiver, flags = self.told()
        a, b = (self.stalling(redis, *ALONE, *flags) for _ in range(2))
        self.hold(a, b)
        self.admit("one", {**SOME, "webhook": receiver.url}, a)
        held, other = self.holder(a, b)
        self.release(other)
        self.until_running("one", other)
        held.process.send_signal(signal.SIGSTOP)
        try:
            state = self.over("one", other)
        finally:
            held.process.send_signal(signal.SIGCONT)
        held.wait_for_log("event=job-taken-over.*id=one")
        self.release(held)
        held.wait_for_pictures(0)
        self.assertEqual((held.metrics()[LOST], other.metrics()[CLAIMED]), (1, 1))
        self.assertEqual(self.check_once("one", receiver, SOME, held, other), state)

    def test_told_to_stop(self):
        """What it has taken it finishes; what waits is left to others; streams go on elsewhere."""
        redis = self.redis()
        a = self.stalling(redis, *ALONE)
        self.hold(a)
        jobs = [f"job-{i}" for i in range(6)]
        for job in jobs:
            self.admit(job, SOME, a)
        stream = Stream(a, "GET", "/v1/jobs/job-5/events")
        waiting = Client(a)
        waiting.send("POST", "/v1/generate", {**QUICK, "priority": "low"}, keyed("waiting"))
        wait_until(lambda: redis.ask("XLEN", "brickwork:queue:low") == 1, "the job")
        a.signal()
        self.refused(waiting.receive(), 503, "draining", retry=True)
        waiting.close()
        self.assertEqual(stream.rest(), [])
        self.release(a)
        a.stop()
        left = sum(redis.ask("XLEN", f"brickwork:queue:{name}") for name in ("normal", "low"))
        self.assertGreater(left, 0)
        self.assertEqual(redis.ask("XPENDING", "brickwork:queue:normal", "replicas")[0], 0)
        b = self.replica(redis, *ALONE)
        for job in (*jobs, "waiting"):
            self.over(job, b)
        self.assertEqual(b.metrics()[JOBS_DONE], left)
        self.assertEqual(b.metrics()[CLAIMED], 0)

    def test_redis_goes_and_comes_back(self):
        redis = self.redis(durable=True)
        receiver, flags = self.told()
        a, b = (self.stalling(redis, *ALONE, *flags) for _ in range(2))
        self.admit("before", QUICK, a)
        self.over("before", a)
        self.hold(a, b)
        self.admit("one", {**SOME, "webhook": receiver.url}, a)
        held, other = self.holder(a, b)
        stream = Stream(other, "GET", "/v1/jobs/one/events")
        seen = stream.next()
        redis.kill()
        self.release(a, b)
        for server in (a, b):
            server.wait_for_log("event=redis-down")
            self.assertEqual(ask(server, "GET", "/readyz").status, 200)
            self.assertEqual(server.metrics()["job_store_up"], 0)
            self.unreachable(self.put("new", QUICK, server))
            self.unreachable(self.put("new", {**QUICK, "deadline_ms": 100000}, server))
            self.unreachable(self.get("before", server=server))
            self.unreachable(self.get("before", server=server, method="DELETE"))
            self.unreachable(self.get("before", "/events", server=server))
            self.unreachable(self.get("before", "/images/0", server=server))
            self.unreachable(ask(server, "POST", "/v1/generate", QUICK, keyed("new")))
            self.unreachable(ask(server, "POST", "/v1/generate", QUICK, ASYNC))
            self.assertEqual(ask(server, "POST", "/v1/generate", QUICK).status, 200)
        held.wait_for_pictures(0)  # made meanwhile
        redis.start()
        events = [seen, *stream.rest()]
        numbers = [number for number, _, _ in events]  # some may be missing: it was over when Redis was found again
        self.assertEqual((numbers, numbers[-1]), (sorted(set(numbers)), LAST_ID))
        self.over("one", other)
        for server in (a, b):
            wait_until(lambda s=server: s.metrics()["job_store_up"] == 1, "the connection")
            self.assertEqual(self.put("before", QUICK, server).status, 200)
            self.admit(f"new-{server.address[1]}", QUICK, server)
        self.assertEqual(receiver.next()[1]["webhook-id"][:4], "msg_")
        self.assertEqual(self.pictures("one", held), self.made_anew(SOME, other))
        wait_until(lambda: self.count(JOBS_DONE, a, b) == 4, "two more jobs")
        self.assertTrue(receiver.calls.empty())

    def test_stopped_without_redis(self):
        """A job that it cannot store any more is left to others."""
        redis = self.redis(durable=True)
        a = self.stalling(redis, *ALONE)
        self.hold(a)
        self.admit("one", SOME, a)
        self.until_running("one", a)
        redis.kill()
        a.wait_for_log("event=redis-down")
        self.release(a)
        a.stop()
        redis.start()
        b = self.replica(redis, *ALONE)
        self.over("one", b)
        self.assertEqual(b.metrics()[CLAIMED], 1)

    def stopped_while_set(self, name, refusing, taking):
        """A replica with a job is told to stop while Redis has that setting; the job at another."""
        redis = self.redis()
        server = self.stalling(redis, *ALONE)
        self.hold(server)
        self.admit("a", SOME, server)
        self.until_running("a", server)
        redis.ask("CONFIG", "SET", name, refusing)
        server.signal()
        server.wait_for_log("event=draining")
        self.release(server)
        server.stop()
        redis.ask("CONFIG", "SET", name, taking)
        return self.over("a", self.replica(redis))

    def test_redis_is_full(self):
        """It takes no events any more, but what the job came to."""
        job = self.stopped_while_set("maxmemory", "1", "0")
        self.assertEqual(job["images"][0]["url"], "/v1/jobs/a/images/0")

    def test_redis_takes_nothing(self):
        """A replica that is told to stop does not wait for it for ever."""
        self.stopped_while_set("min-replicas-to-write", "1", "0")

    def test_redis_comes_late(self):
        redis = Redis()
        self.addCleanup(redis.stop)
        server = self.start("--jobs", redis.url().replace("127.0.0.1", "localhost"), *LEASE)
        server.wait_for_log("event=redis-down .*reason=")
        self.unreachable(self.put("one", QUICK, server))
        redis.start()
        server.wait_for_log("event=redis-up")
        self.admit("one", QUICK, server)
        self.over("one", server)

    def test_redis_has_forgotten(self):
        """Nothing is durable that Redis does not keep; the service goes on."""
        redis = self.redis()
        server = self.replica(redis, *ALONE)
        self.admit("one", LONG, server)
        self.until_running("one", server)
        redis.ask("FLUSHALL")
        server.wait_for_pictures(0)
        self.refused(self.get("one", server=server), 404, "unknown-job")
        self.admit("one", QUICK, server)
        self.over("one", server)

    def test_the_end_of_many(self):
        """A job that was the end of every replica that took it is given up."""
        redis = self.redis()
        server = self.replica(redis, *ALONE)
        self.fill(server)
        self.admit("one", QUICK, server)
        key = hashlib.sha256(b"\none").hexdigest()
        redis.ask("HSET", f"brickwork:job:{key}", "takes", 8)
        self.empty(server)
        job = self.over("one", server, "failed")
        self.assertIn("8 attempts", job["problem"]["detail"])
        self.refused(self.get("one", "/images/0", server=server), 409, "conflict")


class TestStrangers(FleetCase):
    """What Redis holds may come from anybody."""

    def test_foreign_content(self):
        redis = self.redis()
        server = self.replica(redis, *ALONE)
        self.fill(server)
        def key_of(job):
            return hashlib.sha256(f"\n{job}".encode()).hexdigest()
        names = ["text", "headless", "cut", "swapped", "fine"]
        for name in names:
            self.admit(name, QUICK, server)
        redis.ask("DEL", f"brickwork:job:{key_of('text')}")
        redis.ask("SET", f"brickwork:job:{key_of('text')}", b"\x00\xff" * 9)
        redis.ask("HDEL", f"brickwork:job:{key_of('headless')}", "head")
        head = redis.ask("HGET", f"brickwork:job:{key_of('cut')}", "head")
        redis.ask("HSET", f"brickwork:job:{key_of('cut')}", "head", head[:-9])
        redis.ask("HSET", f"brickwork:job:{key_of('swapped')}", "head", head)
        for junk in ("q", "e", "d", "e x", b"\xff" * 70, "d " + "0" * 64):
            redis.ask("PUBLISH", "brickwork:news", junk)
        redis.ask("XADD", "brickwork:queue:high", "*", "a", "b", "c", "d")
        redis.ask("XADD", "brickwork:queue:high", "*", "key", key_of("nobody"))
        self.unreachable(self.get("text", server=server))
        server.wait_for_log("event=redis-refuses")
        self.refused(self.get("headless", server=server), 404, "unknown-job")
        for name in ("cut", "swapped"):
            self.refused(self.get(name, server=server), 500, "internal")
            self.refused(self.put(name, QUICK, server), 500, "internal")
        self.empty(server)
        self.over("fine", server)
        server.wait_for_log("event=job-broken")
        for name in ("cut", "swapped"):
            wait_until(lambda n=name: self.get(n, server=server).status == 410, "it to be removed")
        redis.ask("HSET", f"brickwork:job:{key_of('fine')}", "p0", b"no picture")
        self.refused(self.get("fine", "/images/0", server=server), 500, "internal")
        redis.ask("HDEL", f"brickwork:job:{key_of('fine')}", "p0")
        self.refused(self.get("fine", "/images/0", server=server), 410, "gone")

    def test_hostile_records(self):
        """Records whose digest is right, and whose content is not."""
        redis = self.redis()
        server = self.replica(redis)
        for i, (body, result) in enumerate([("{}", "x"), ("{}", ""), ("x", "{}"), ("{}", "{}\n{}"),
                                            ("{}\r", "{}"), ("{}", "{}"), ("{}", '{"problem":{"status":99}}'),
                                            ('{"steps":0}', '{"problem":{"status":500}}')]):
            rest = (f"id h{i}\nowner \nfingerprint {'0' * 64}\ncreated 1\noutcome failed\nfinished 2\n"
                    f"body {len(body)}\n{body}\nresult {len(result)}\n{result}\npictures 0\n").encode()
            head = b"brickwork-record 1 %010d %s\n" % (95 + len(rest),
                                                       hashlib.sha256(rest).hexdigest().encode())
            key = hashlib.sha256(f"\nh{i}".encode()).hexdigest()
            redis.ask("HSET", f"brickwork:job:{key}", "head", head + rest, "size", 95 + len(rest),
                      "over", 1, "step", "x", "steps", -5)
            for part in ("", "/events", "/images/0"):
                self.assertEqual(self.get(f"h{i}", part, server=server).status, 500, (body, result, part))
            ask(server, "POST", "/v1/generate", QUICK, keyed(f"h{i}"))
        body = '{"steps":1}'  # says neither format nor seed, which every record of ours does
        rest = (f"id open\nowner \nfingerprint {'0' * 64}\ncreated 1\noutcome open\nfinished 0\n"
                f"body {len(body)}\n{body}\nresult 0\n\npictures 0\n").encode()
        head = b"brickwork-record 1 %010d %s\n" % (95 + len(rest), hashlib.sha256(rest).hexdigest().encode())
        key = hashlib.sha256(b"\nopen").hexdigest()
        redis.ask("HSET", f"brickwork:job:{key}", "head", head + rest, "size", 95 + len(rest), "takes", 0)
        redis.ask("XADD", "brickwork:queue:low", "*", "key", key)
        wait_until(lambda: redis.ask("HEXISTS", f"brickwork:job:{key}", "over"), "its end")
        self.admit("one", QUICK, server)
        self.over("one", server)

    def test_no_redis_at_all(self):
        """Something listens and answers in another tongue, or not at all."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            server = self.start("--jobs", f"redis://127.0.0.1:{port}", *LEASE)
            connection = listener.accept()[0]
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            server.wait_for_log("event=redis-down .*reason=")
            connection.close()
            self.unreachable(self.put("one", QUICK, server))
            server.stop()

    def test_password(self):
        redis = self.redis(password="sesame open/1")
        for login in (":sesame%20open%2F1@", "default:sesame%20open%2F1@"):
            server = self.start("--jobs", redis.url(login, "/3"), *LEASE)
            server.wait_for_log("event=redis-up")
            self.admit("one" + login[:2].strip(":"), QUICK, server)
            self.over("one" + login[:2].strip(":"), server)
            self.assertNotIn("sesame", "\n".join(server.lines))
        for login in (":wrong@", ""):
            server = self.start("--jobs", redis.url(login), *LEASE)
            self.assertRegex(server.wait_for_log("event=redis-down"), "WRONGPASS|NOAUTH")
            self.assertNotIn("wrong", "\n".join(server.lines).replace("WRONGPASS", ""))
            self.unreachable(self.put("one", QUICK, server))
        shown = run_program(SERVER, "--jobs", redis.url(":sesame@"), "--check-config").stdout
        self.assertIn(f"jobs = redis://:***@127.0.0.1:{redis.port}\n", shown)
        self.assertNotIn("sesame", shown)

    def test_urls_that_are_refused(self):
        for url, reason in [("rediss://:secret@h", "TLS"), ("redis://", "host"), ("http://h", "redis://"),
                            ("redis://:secret@h:0", "port"), ("redis://:secret@h/x", "/0 to")]:
            result = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", "--jobs", url)
            self.assertEqual((result.returncode, result.stderr.count("\n")), (2, 1), result.stderr)
            self.assertIn(reason, result.stderr)
            self.assertNotIn("secret", result.stderr)


if __name__ == "__main__":
    unittest.main()
