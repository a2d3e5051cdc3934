"""Jobs: made once whatever is asked twice, followed, fetched, deleted and forgotten."""
import base64
import hashlib
import json
import tempfile
import unittest

from jobs import (ASYNC, BLOCKER, CANCELLED, DONE, LAST_ID, LONG, LOW, ONE_BY_ONE, WORK, JobCase,
                  Stream, keyed, parse)
from support import (BUILD, JSON, QUICK, Client, Raw, ServerCase, ask, in_parallel, raw_request,
                     wait_until)


class Shared(JobCase, ServerCase):
    """With the server of the suite, on which pictures are made one by one."""
    flags = ONE_BY_ONE
    refused = JobCase.refused


class TestPut(Shared):

    def test_new(self):
        response = self.put(self.name(), {**WORK, "seed": 7})
        self.assertEqual(response.status, 201)
        self.assertEqual(response.headers["Location"], "/v1/jobs/test_new")
        self.assertNotIn("Preference-Applied", response.headers)
        job = response.json()
        self.assertEqual(set(job), {"id", "object", "status", "created", "request", "progress"})
        self.assertEqual((job["id"], job["object"], job["status"]), ("test_new", "job", "queued"))
        self.assertEqual(job["progress"], {"step": 0, "steps": 48})
        self.assertEqual({name: job["request"][name] for name in ("seed", "n", "steps", "model")},
                         {"seed": 7, "n": 2, "steps": 24, "model": "tiny-pg-32"})

    def test_completed(self):
        """What it says of itself is true: the same request gives the same pictures."""
        self.admit(self.name(), WORK)
        job = self.over(self.name())
        self.assertEqual(set(job), {"id", "object", "status", "created", "finished", "expires",
                                    "request", "progress", "model_digest", "timings", "cost", "images"})
        self.assertEqual(job["progress"], {"step": 48, "steps": 48})
        self.assertEqual(job["expires"], job["finished"] + 3600)
        self.assertEqual([image["url"] for image in job["images"]],
                         [f"/v1/jobs/{self.name()}/images/{i}" for i in range(2)])
        self.assertEqual(self.pictures(self.name()), self.made_anew(job["request"]))

    def test_seed_left_open(self):
        """It is settled when the job is made, and differs from job to job."""
        body = {name: value for name, value in QUICK.items() if name != "seed"}
        seeds = [self.admit(self.name(str(i)), body)["request"]["seed"] for i in range(2)]
        self.assertNotEqual(*seeds)
        for i, seed in enumerate(seeds):
            job = self.over(self.name(str(i)))
            self.assertEqual(job["request"]["seed"], seed)
            self.assertEqual(self.pictures(self.name(str(i))), self.made_anew(job["request"]))
            self.assertEqual(self.put(self.name(str(i)), body).json(), job)

    def test_again(self):
        """However it is written; whatever has become of the job."""
        blocker = self.block()
        self.admit(self.name(), LOW)
        same = [json.dumps(LOW, indent=3).encode(), json.dumps(dict(reversed(LOW.items()))).encode()]
        before = self.server.metrics()
        for body in same:
            response = self.put(self.name(), body, headers=JSON)
            self.assertEqual(response.status, 200)
            self.assertNotIn("Location", response.headers)
            self.assertNotIn("finished", response.json())
        self.assertEqual(self.server.metrics()["in_progress_pictures"],
                         before["in_progress_pictures"])
        blocker.close()
        job = self.over(self.name())
        self.server.wait_for_pictures(0)
        before = self.server.metrics()
        for body in same:
            response = self.put(self.name(), body, headers=JSON)
            self.assertEqual((response.status, response.json()), (200, job))
        self.assertEqual(self.server.metrics()[DONE], before[DONE])

    def test_another_body(self):
        for body in ({**LONG, "class": 1}, QUICK):
            self.put(self.name(), body)
            for other in ({"seed": 9}, {"steps": 3}, {"format": "png"}, {"deadline_ms": 3600000},
                          {"priority": "low"}, {"class": 2}, {"class": None}, {"partial_images": 1}):
                detail = self.refused(self.put(self.name(), {**body, **other}), 409, "conflict")
                self.assertEqual(detail, "test_another_body is the job of another request")
            self.delete(self.name())

    def test_malformed(self):
        """Nothing is made of it, and the id stays free."""
        for body, status, slug in [(b"{", 400, "malformed"), ({"steps": 0}, 422, "invalid"),
                                   ({"model": "none"}, 404, "unknown-model"),
                                   ({"size": "33x33"}, 422, "invalid")]:
            self.refused(self.put(self.name(), body, headers=JSON), status, slug)
        self.refused(self.put(self.name(), QUICK, headers={}), 415, "media-type")
        self.refused(self.get(self.name()), 404, "unknown-job")

    def test_ids(self):
        for job in ("a", "A.b_c-9" + "x" * 57):
            self.assertEqual(self.admit(job, QUICK)["id"], job)
            self.over(job)
            self.refused(self.get(job + "x" * 57), 404, "unknown-job")
        for job in ("x" * 65, "a%20b", "a:b", "%C3%A4", "x" * 2000, ".", ".."):
            self.refused(self.put(job, QUICK), 422, "invalid")
            self.refused(self.get(job), 404, "unknown-job")
        for path in ("", "a/b", "a%2Fb"):
            self.refused(self.put(path, QUICK), 404, "not-found")

    def test_too_many(self):
        blocker = self.block()
        names = [self.name(str(i)) for i in range(9)]
        answers = [self.put(job, {**LOW, "n": 8, "seed": i}) for i, job in enumerate(names)]
        full = [job for job, answer in zip(names, answers) if answer.status != 201]
        self.assertTrue(0 < len(full) < 9, full)
        self.assertEqual({answer.status for answer in answers}, {201, 429})
        for job in full:
            self.refused(self.get(job), 404, "unknown-job")
        for job in names:
            if job not in full:
                self.delete(job)
        blocker.close()
        self.server.wait_for_pictures(0)


class TestDelete(Shared):

    def gone(self, job):
        for response in (self.get(job), self.get(job, "/events"), self.get(job, "/images/0"),
                         ask(self.server, "DELETE", f"/v1/jobs/{job}")):
            detail = self.refused(response, 410, "gone")
            self.assertEqual(detail, "the job was deleted, or its time is over")

    def test_unknown(self):
        for response in (self.get("none"), self.get("none", "/events"), self.get("none", "/images/0"),
                         ask(self.server, "DELETE", "/v1/jobs/none")):
            self.assertEqual(self.refused(response, 404, "unknown-job"), "there is no such job")

    def test_queued(self):
        blocker = self.block()
        before = self.server.metrics()
        self.admit(self.name(), {**LOW, "n": 8})
        self.delete(self.name())
        self.gone(self.name())
        self.server.wait_for_pictures(BLOCKER["n"])
        self.assertEqual(self.server.metrics()[CANCELLED], before[CANCELLED] + 8)
        blocker.close()
        self.server.wait_for_pictures(0)

    def test_running(self):
        self.admit(self.name(), LONG)
        self.until_running(self.name())
        state = self.state(self.name())
        self.assertEqual((state["status"], state["progress"]["steps"]), ("running", 256))
        self.refused(self.get(self.name(), "/images/0"), 409, "not-ready", retry=True)
        self.delete(self.name())
        self.gone(self.name())
        self.server.wait_for_pictures(0)

    def test_completed(self):
        self.admit(self.name(), QUICK)
        self.over(self.name())
        self.delete(self.name())
        self.gone(self.name())

    def test_the_id_is_free_again(self):
        for seed in range(3):
            self.admit(self.name(), {**QUICK, "seed": seed})
            self.assertEqual(self.over(self.name())["request"]["seed"], seed)
            self.delete(self.name())

    def test_those_who_follow_are_told(self):
        self.admit(self.name(), LONG)
        streams = [Stream(self.server, "GET", f"/v1/jobs/{self.name()}/events") for _ in range(4)]
        self.assertEqual({stream.next()[:2] for stream in streams}, {(1, "queued")})
        self.delete(self.name())
        for stream in streams:
            number, name, problem = stream.rest()[-1]
            self.assertEqual((number, name), (LAST_ID, "error"))
            self.assertEqual((problem["type"], problem["status"], problem["detail"]),
                             ("urn:brickwork:problem:cancelled", 409, "the job was deleted"))
        self.server.wait_for_pictures(0)

    def test_those_who_wait_are_told(self):
        client = Client(self.server)
        self.addCleanup(client.close)
        client.send("POST", "/v1/generate", LONG, keyed(self.name()))
        wait_until(lambda: self.get(self.name()).status == 200, "the job")
        stream = Stream(self.server, "POST", "/v1/generate", LONG,
                        keyed(self.name(), Accept="text/event-stream"))
        self.assertEqual(stream.next()[1], "queued")
        self.delete(self.name())
        self.assertEqual(self.refused(client.receive(), 409, "cancelled"), "the job was deleted")
        self.assertEqual(stream.rest()[-1][1], "error")


class TestEvents(Shared):

    def test_from_the_beginning(self):
        blocker = self.block()
        self.admit(self.name(), LOW)
        streams = [Stream(self.server, "GET", f"/v1/jobs/{self.name()}/events") for _ in range(5)]
        first = streams[0].next()
        self.assertEqual((first[0], first[1], first[2]["pictures"], first[2]["steps"]),
                         (1, "queued", 2, 24))
        blocker.close()
        stories = [stream.rest() for stream in streams]
        self.assertEqual(stories[1:], [[first, *stories[0]]] * 4)
        story = stories[1]
        self.assertEqual([number for number, *_ in story], [*range(1, len(story)), LAST_ID])
        names = [name for _, name, _ in story]
        self.assertEqual({name: names.count(name) for name in set(names)},
                         {"queued": 1, "progress": 48, "partial": 4, "completed": 1})
        for picture in range(2):
            mine = [data for _, name, data in story
                    if name == "progress" and data["picture"] == picture]
            self.assertEqual([data["step"] for data in mine], [*range(1, 25)])
            previews = [data for _, name, data in story
                        if name == "partial" and data["picture"] == picture]
            self.assertEqual([data["partial"] for data in previews], [0, 1])
            for data in previews:
                self.assertEqual(base64.b64decode(data["b64"])[:2], b"\xff\xd8")
        self.assertEqual(story[-1][1:], ("completed", self.state(self.name())))

    def test_from_the_middle(self):
        self.admit(self.name(), LONG)
        path = f"/v1/jobs/{self.name()}/events"
        stream = Stream(self.server, "GET", path)
        story = [stream.next() for _ in range(10)]
        for seen in (0, 1, 5, 9):
            again = Stream(self.server, "GET", path, None, {"Last-Event-ID": str(seen)})
            self.assertEqual([again.next() for _ in range(10 - seen)], story[seen:])
            again.client.close()
        late = Stream(self.server, "GET", path, None, {"Last-Event-ID": str(LAST_ID)})
        self.assertGreater(late.next()[0], 10)  # there was no such event: what is new
        self.delete(self.name())
        self.assertEqual([s.rest()[-1][1] for s in (stream, late)], ["error"] * 2)

    def test_when_it_is_over(self):
        """Only the last event is left, for those who have not seen it."""
        self.admit(self.name(), WORK)
        job = self.over(self.name())
        for headers in ({}, {"Last-Event-ID": "0"}, {"Last-Event-ID": "17"}, {"Last-Event-ID": ""},
                        {"Last-Event-ID": str(LAST_ID - 1)}, {"Accept": "text/*"}):
            response = self.get(self.name(), "/events", headers)
            self.assertEqual((response.status, response.type), (200, "text/event-stream"))
            self.assertEqual(response.headers["Cache-Control"], "no-store")
            self.assertEqual(parse(response.body.decode()), [(LAST_ID, "completed", job)])
        for seen in (LAST_ID, LAST_ID + 1):
            response = self.get(self.name(), "/events", {"Last-Event-ID": str(seen)})
            self.assertEqual((response.status, response.body), (204, b""))

    def test_nonsense(self):
        self.admit(self.name(), QUICK)
        for value in ("x", "-1", "1.5", "1 2", "9" * 30):
            self.refused(self.get(self.name(), "/events", {"Last-Event-ID": value}), 400, "malformed")
        for value in ("application/json", "text/event-stream;q=0", "image/*"):
            self.refused(self.get(self.name(), "/events", {"Accept": value}), 406, "not-acceptable")

    def test_those_who_leave_end_nothing(self):
        blocker = self.block()
        self.admit(self.name(), LOW)
        for _ in range(3):
            stream = Stream(self.server, "GET", f"/v1/jobs/{self.name()}/events")
            stream.next()
            stream.client.close()
        with Raw(self.server) as raw:  # asked for the header only, which nothing may follow
            raw.send(raw_request(b"HEAD", f"/v1/jobs/{self.name()}/events".encode()))
            self.assertRegex(raw.read_to_end(), rb"(?s)^HTTP/1.1 200 (?!.*Transfer-Encoding).*\r\n\r\n$")
        blocker.close()
        self.over(self.name())
        self.assertEqual(len(self.pictures(self.name())), 2)


class TestImages(Shared):

    def test_fetched(self):
        self.admit(self.name(), {**WORK, "format": "png"})
        self.over(self.name())
        for i in range(2):
            response = self.get(self.name(), f"/images/{i}")
            self.assertEqual((response.status, response.type), (200, "image/png"))
            self.assertEqual(response.headers["ETag"],
                             f'"{hashlib.sha256(response.body).hexdigest()}"')
            self.assertEqual(response.headers["Cache-Control"], "private, no-cache")
            head = self.get(self.name(), f"/images/{i}", method="HEAD")
            self.assertEqual((head.status, head.body), (200, b""))
            for name in ("ETag", "Content-Type", "Content-Length"):
                self.assertEqual(head.headers[name], response.headers[name])
        for i in ("2", "7", "8", "-1", "x", "00", "1.0", "00000000"):
            self.refused(self.get(self.name(), f"/images/{i}"), 404, "unknown-job")

    def test_known_already(self):
        self.admit(self.name(), QUICK)
        self.over(self.name())
        picture = self.get(self.name(), "/images/0")
        tag = picture.headers["ETag"]
        for known in (tag, "*", f"W/{tag}", f'"other", {tag}'):
            response = self.get(self.name(), "/images/0", {"If-None-Match": known})
            self.assertEqual((response.status, response.body), (304, b""))
            for name in ("ETag", "Cache-Control"):
                self.assertEqual(response.headers[name], picture.headers[name])
        response = self.get(self.name(), "/images/0", {"If-None-Match": '"other"'})
        self.assertEqual((response.status, response.body), (200, picture.body))

    def test_form(self):
        self.admit(self.name(), {**QUICK, "format": "webp"})
        self.over(self.name())
        for accept in ("image/png", "image/webp;q=0, */*", "application/json"):
            detail = self.refused(self.get(self.name(), "/images/0", {"Accept": accept}), 406,
                                  "not-acceptable")
            self.assertEqual(detail, "this picture comes as image/webp")
        for accept in ("image/*", "image/png;q=1, image/webp;q=0.1"):
            self.assertEqual(self.get(self.name(), "/images/0", {"Accept": accept}).status, 200)


class TestAsync(Shared):

    def ask(self, body, headers):
        return ask(self.server, "POST", "/v1/generate", body, headers)

    def test_accepted(self):
        response = self.ask(WORK, ASYNC)
        self.assertEqual((response.status, response.headers["Preference-Applied"]),
                         (202, "respond-async"))
        job = response.json()
        self.assertEqual(response.headers["Location"], f"/v1/jobs/{job['id']}")
        self.assertRegex(job["id"], "^[0-9a-f]{16}$")
        self.assertEqual(job["status"], "queued")
        self.over(job["id"])
        self.assertEqual(self.pictures(job["id"]), self.made_anew(job["request"]))
        self.assertNotEqual(self.ask(WORK, ASYNC).json()["id"], job["id"])

    def test_with_a_key(self):
        headers = {**ASYNC, "Idempotency-Key": self.name()}
        for _ in range(2):
            response = self.ask(WORK, headers)
            self.assertEqual(response.status, 202)
            self.assertEqual(response.headers["Location"], f"/v1/jobs/{self.name()}")
            self.over(self.name())
        self.refused(self.ask(QUICK, headers), 409, "conflict")
        self.assertEqual(self.ask(WORK, keyed(self.name())).images(), self.pictures(self.name()))

    def test_only_if_it_is_preferred(self):
        for prefer in ("wait=10", "respond-asynchronously", 'respond-async="no"'):
            response = self.ask(QUICK, {**JSON, "Prefer": prefer})
            self.assertEqual((response.status, response.type), (200, "image/jpeg"))
        response = self.ask(QUICK, {**JSON, "Prefer": "wait=10, Respond-Async"})
        self.assertEqual(response.status, 202)
        self.refused(self.ask({"steps": 0}, ASYNC), 422, "invalid")


class TestIdempotencyKey(Shared):

    def ask(self, body, key=None, **fields):
        return ask(self.server, "POST", "/v1/generate", body, keyed(key or self.name(), **fields))

    def test_again(self):
        """In any form, and nothing is computed twice."""
        body = {"steps": 2, "partial_images": 1}
        first = self.ask(body)
        self.assertEqual((first.status, first.type), (200, "image/jpeg"))
        before = self.server.metrics()
        for _ in range(2):
            again = self.ask(body)
            self.assertEqual((again.status, again.body), (200, first.body))
            for name in ("Content-Type", "Vary", "Server-Timing", "Brickwork-Seed",
                         "Brickwork-Excess-Loss", "Brickwork-Model-Digest", "Brickwork-Request"):
                self.assertEqual(again.headers[name], first.headers[name], name)
        whole = self.ask(body, Accept="application/json", **{"X-Request-Id": "mine"})
        self.assertEqual((whole.images(), whole.json()["id"]), ([first.body], "mine"))
        self.assertEqual(str(whole.json()["request"]["seed"]), first.headers["Brickwork-Seed"])
        stream = self.ask(body, Accept="text/event-stream", **{"X-Request-Id": "mine"})
        self.assertEqual((stream.status, stream.type), (200, "text/event-stream"))
        self.assertEqual(parse(stream.body.decode()), [(LAST_ID, "completed", whole.json())])
        after = self.server.metrics()
        self.assertEqual((after[DONE], after["admissions_total{decision=\"admitted\"}"]),
                         (before[DONE], before["admissions_total{decision=\"admitted\"}"]))
        self.assertEqual(self.pictures(self.name()), [first.body])

    def test_again_as_json(self):
        """All that was said the first time, except who asked."""
        first, again = (self.ask(WORK).json() for _ in range(2))
        self.assertEqual(len(first["images"]), 2)
        self.assertNotEqual(first.pop("id"), again.pop("id"))
        self.assertEqual(first, again)

    def test_several_pictures(self):
        first = self.ask({**QUICK, "n": 3})
        self.assertEqual((first.type, len(first.images())), ("application/json", 3))
        self.assertEqual(self.ask({**QUICK, "n": 3}).images(), first.images())
        self.refused(self.ask({**QUICK, "n": 3}, Accept="image/jpeg"), 406, "not-acceptable")

    def test_while_it_runs(self):
        """Whoever asks meanwhile waits for the same pictures."""
        blocker = self.block()
        body = {**QUICK, "priority": "low"}
        before = self.server.metrics()
        streams = [Stream(self.server, "POST", "/v1/generate", body,
                          keyed(self.name(), Accept="text/event-stream")) for _ in range(2)]
        self.assertEqual([stream.next()[:2] for stream in streams], [(1, "queued")] * 2)
        clients = [Client(self.server) for _ in range(3)]
        for client, accept in zip(clients, ("image/jpeg", "application/json", "*/*")):
            self.addCleanup(client.close)
            client.send("POST", "/v1/generate", body, keyed(self.name(), Accept=accept))
        self.server.wait_for_pictures(BLOCKER["n"] + 1)
        blocker.close()
        picture, whole, default = (client.receive() for client in clients)
        self.assertEqual([picture.status, whole.status, default.status], [200] * 3)
        self.assertEqual(picture.body, self.made_anew(QUICK)[0])
        self.assertEqual(default.body, picture.body)
        self.assertEqual(whole.images(), [picture.body])
        for stream in streams:
            number, name, data = stream.rest()[-1]
            self.assertEqual((number, name), (LAST_ID, "completed"))
            self.assertEqual([base64.b64decode(image["b64"]) for image in data["images"]],
                             [picture.body])
        self.server.wait_for_pictures(0)
        self.assertEqual(self.server.metrics()[DONE], before[DONE] + 2)  # ours, and the one made anew

    def test_many_at_once(self):
        before = self.server.metrics()[DONE]
        answers = in_parallel(12, lambda i: self.ask(QUICK))
        self.assertEqual({answer.status for answer in answers}, {200})
        self.assertEqual(len({answer.body for answer in answers}), 1)
        self.assertEqual(self.server.metrics()[DONE], before + 1)

    def test_another_body(self):
        self.ask(QUICK)
        self.assertEqual(self.refused(self.ask({**QUICK, "steps": 3}), 409, "conflict"),
                         "test_another_body is the job of another request")

    def test_malformed(self):
        for key in ("a b", "x" * 65, '"a"', "a,b", " "):
            detail = self.refused(self.ask(QUICK, key), 400, "malformed")
            self.assertIn("Idempotency-Key is not", detail)
        empty = ask(self.server, "POST", "/v1/generate", QUICK, {**JSON, "Idempotency-Key": ""})
        self.refused(empty, 400, "malformed")

    def test_client_that_leaves(self):
        """Its job goes on, and is there when it comes again."""
        blocker = self.block()
        body = {**QUICK, "priority": "low"}
        for accept in ("image/jpeg", "text/event-stream"):
            client = Client(self.server)
            client.send("POST", "/v1/generate", body, keyed(self.name(), Accept=accept))
            wait_until(lambda: self.get(self.name()).status == 200, "the job")
            client.close()
        self.server.wait_for_pictures(BLOCKER["n"] + 1)
        blocker.close()
        self.over(self.name())
        self.assertEqual(self.ask(body).body, self.pictures(self.name())[0])


class TestFailed(JobCase):
    """The server runs with a JPEG library that fails."""

    def test_failed(self):
        if BUILD.name in ("asan", "tsan"):
            self.skipTest("the library has to be loaded before the sanitizer's")
        server = self.start(env={"LD_PRELOAD": str(BUILD / "fault.so")})
        self.admit("a", WORK, server)
        job = self.over("a", server, "failed")
        self.assertEqual(set(job), {"id", "object", "status", "created", "finished", "expires",
                                    "request", "progress", "problem"})
        problem = job["problem"]
        self.assertEqual((problem["type"], problem["status"], problem["instance"]),
                         ("urn:brickwork:problem:internal", 500, "a"))
        self.refused(self.get("a", "/images/0", server=server), 409, "conflict")
        response = self.get("a", "/events", server=server)
        self.assertEqual(parse(response.body.decode()),
                         [(LAST_ID, "error", {**problem, "instance": response.headers["X-Request-Id"]})])
        response = self.get("a", "/events", {"Last-Event-ID": str(LAST_ID)}, server)
        self.assertEqual(response.status, 204)
        for key in ("b", "b"):  # new, and from the job
            response = ask(server, "POST", "/v1/generate", QUICK, keyed(key))
            self.refused(response, 500, "internal")
        response = ask(server, "POST", "/v1/generate", QUICK, keyed("b", Accept="text/event-stream"))
        self.assertEqual([event[:2] for event in parse(response.body.decode())], [(LAST_ID, "error")])


class TestLimits(JobCase):

    def test_kept_for_a_time(self):
        server = self.start("--jobs-keep-s", 1)
        self.admit("a", QUICK, server)
        wait_until(lambda: self.get("a", server=server).status == 410, "the end of its time")
        for part in ("", "/events", "/images/0"):
            self.refused(self.get("a", part, server=server), 410, "gone")
        self.admit("a", {**QUICK, "seed": 2}, server)

    def test_kept_up_to_a_size(self):
        """The oldest go first, and the last is kept whatever its size."""
        server = self.start("--jobs-bytes", 1 << 20)
        body = {"steps": 1, "size": "256x256", "solver": "euler", "format": "png", "n": 3}
        sizes = {}
        for job in "abcd":
            self.admit(job, {**body, "seed": ord(job)}, server)
            sizes[job] = sum(image["bytes"] for image in self.over(job, server)["images"])
        self.assertTrue(all(1 << 18 < size < 1 << 20 for size in sizes.values()), sizes)
        kept = [job for job in "abcd" if self.get(job, server=server).status == 200]
        self.assertEqual(kept, list("abcd")[-len(kept):])
        room = sum(sizes[job] for job in kept)
        self.assertLess(room, 1 << 20)
        self.assertGreater(room + sizes["abcd"[-len(kept) - 1]], (1 << 20) - 16384)  # less is said of them
        self.refused(self.get("a", server=server), 410, "gone")
        self.assertEqual(len(self.pictures("d", server)), 3)


class TestOwners(JobCase):

    def test_invisible_to_others(self):
        with tempfile.NamedTemporaryFile("w") as file:
            for name in ("alice", "bob"):
                file.write(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n")
            file.flush()
            server = self.start("--keys-file", file.name)
        alice, bob = ({**JSON, "Authorization": f"Bearer {name}"} for name in ("alice", "bob"))
        self.assertEqual(self.put("a", WORK, server, alice).status, 201)
        wait_until(lambda: "images" in self.get("a", "", alice, server).json(), "the end of the job")
        for part in ("", "/events", "/images/0"):
            self.assertEqual(self.get("a", part, alice, server).status, 200)
            self.refused(self.get("a", part, bob, server), 404, "unknown-job")
            self.refused(self.get("a", part, {}, server), 401, "unauthorized")
        self.refused(ask(server, "DELETE", "/v1/jobs/a", None, bob), 404, "unknown-job")
        self.assertEqual(self.put("a", QUICK, server, bob).status, 201)
        self.assertEqual(ask(server, "DELETE", "/v1/jobs/a", None, bob).status, 204)
        self.assertEqual(self.get("a", "", bob, server).status, 410)
        self.assertEqual(self.get("a", "", alice, server).status, 200)


if __name__ == "__main__":
    unittest.main()
