"""Faults of the machine: threads that stop, clocks that jump, descriptors, disks and files that go."""
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from jobs import JobCase, Stream
from stall import Stall
from support import BUILD, ENDLESS, JSON, QUICK, ROOT, SERVER, TINY, Client, Server, ask, run_program, wait_until
from test_webhooks import WebhookCase

STALLED = "urn:brickwork:problem:stalled"


class TestWorkers(unittest.TestCase):
    """A worker that stops is noticed by whoever asks whether the service lives."""

    def start(self, *flags):
        self.stall = self.enterContext(Stall())
        return Server("--stall-ms", 1000, "--workers", 2, "--threads", 1, *flags, env=self.stall.environment)

    def alive(self, server):
        probes = [ask(server, "GET", path) for path in ("/livez", "/readyz")]
        self.assertEqual(len({probe.status for probe in probes}), 1, "they agree")
        for probe in probes:
            if probe.status == 503:
                self.assertEqual((probe.type, probe.json()["type"]), ("application/problem+json", STALLED))
                self.assertEqual(probe.json()["detail"], "1 of 2 workers have ended or make no progress")
                self.assertEqual(probe.headers["Retry-After"], "1")
        return probes[0].status == 200

    def test_stands_still(self):
        server = self.start()
        self.addCleanup(server.stop)
        wanted = ask(server, "POST", "/v1/generate", QUICK).body
        self.stall.arm()
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            self.assertIn("worker=", server.wait_for_log("event=worker-dead"))
            self.assertFalse(self.alive(server))
            self.assertEqual(server.metrics()["workers_dead"], 1)
            png = ask(server, "POST", "/v1/generate", {**QUICK, "format": "png"})  # the other one works
            self.assertEqual(png.status, 200)
            self.stall.release()
            self.assertEqual(client.receive().body, wanted)
        server.wait_for_log("event=worker-back")
        self.assertTrue(self.alive(server))
        self.assertEqual(server.metrics()["workers_dead"], 0)

    def test_ends(self):
        server = self.start()
        self.addCleanup(server.stop, 1)  # it says that one was dead
        self.stall.arm("end")
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            self.assertIn("its thread has ended", server.wait_for_log("event=worker-dead"))
            self.assertFalse(self.alive(server))
            self.stall.release()
            self.assertEqual(ask(server, "POST", "/v1/generate", QUICK).status, 200)

    def test_busy_is_not_dead(self):
        """Nor is one that has nothing to do; nor are they after the process was stopped as a whole."""
        server = self.start("--stall-ms", 3000)
        self.addCleanup(server.stop)
        with Client(server) as client:
            client.send("POST", "/v1/generate", ENDLESS)
            server.wait_for_pictures(8)
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(4)
            server.process.send_signal(signal.SIGCONT)
            time.sleep(2)
            self.assertTrue(self.alive(server))
        self.assertFalse([line for line in server.lines if "worker-" in line])

    def lost(self, response):
        self.assertEqual((response.status, response.json()["type"]), (503, STALLED), response.body)
        self.assertEqual(response.headers["Retry-After"], "1")
        self.assertEqual(response.json()["detail"], "the service stops, and the worker that had this is dead")

    def ended(self, server, why):
        self.assertEqual(server.wait(), 1)
        self.assertIn(why, server.wait_for_log("event=stopped"))

    def stuck(self, server, clients):
        """A worker for each of the clients that has their picture and stands still: one by one, or one worker might
        have both."""
        self.stall.arm()
        for count, (client, headers) in enumerate(clients, 1):
            client.send("POST", "/v1/generate", QUICK, {**JSON, **headers})
            wait_until(lambda count=count: server.metrics()["workers_dead"] == count, "dead workers")

    def test_draining_finishes_what_the_others_have(self):
        server = self.start()
        with Client(server) as stuck, Client(server) as lucky:
            self.stuck(server, [(stuck, {})])
            lucky.send("POST", "/v1/generate", {**QUICK, "format": "png", "steps": 256, "n": 4}, JSON)
            server.wait_for_admitted(2)
            server.signal()
            self.assertEqual(lucky.receive().status, 200)
            self.lost(stuck.receive())
        self.ended(server, "a worker is dead, and what it had is lost")
        self.assertIn("pictures=1 ", server.wait_for_log("event=work-lost"))

    def test_draining_when_all_are_dead(self):
        server = self.start()
        with Client(server) as stuck, Client(server) as stream, Client(server) as waiting:
            self.stuck(server, [(stuck, {}), (stream, {"Accept": "text/event-stream"})])
            waiting.send("POST", "/v1/generate", QUICK)
            server.wait_for_pictures(3)
            server.signal()
            self.lost(stuck.receive())
            self.lost(waiting.receive())
            self.assertIn(STALLED.encode(), stream.receive().body)
        self.ended(server, "a worker is dead, and what it had is lost")

    def test_found_dead_while_draining(self):
        """Its job is left to the next process."""
        jobs = self.enterContext(tempfile.TemporaryDirectory())
        server = self.start("--jobs", jobs)
        self.stall.arm()
        self.assertEqual(ask(server, "PUT", "/v1/jobs/a", QUICK).status, 201)
        server.wait_for_running()
        stream = Stream(server, "GET", "/v1/jobs/a/events")
        server.signal()
        self.assertNotIn("completed", [name for _, name, _ in stream.rest()])  # it goes on at the next process
        self.ended(server, "a worker is dead, and what it had is lost")
        server = self.start("--jobs", jobs)
        self.addCleanup(server.stop)
        wait_until(lambda: ask(server, "GET", "/v1/jobs/a").json()["status"] == "completed", "the job")

    def test_aborting(self):
        server = self.start()
        self.stall.arm()
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            self.stall.wait_for()
            server.signal()
            server.wait_for_log("event=draining")
            server.signal()
            self.ended(server, "a worker is dead, and what it had is lost")


class TestClock(JobCase):
    """The clock that people set may jump: nothing that is waited for or kept depends on it."""
    YEAR_S = 365 * 86400

    def setUp(self):
        self.file = pathlib.Path(self.folder()) / "clock"
        self.server = self.start("--jobs-keep-s", 3600, "--jobs", self.folder(),
                                 env={"CLOCK": str(self.file), "LD_PRELOAD": str(BUILD / "clock.so")})

    def jump(self, by_s):
        self.file.write_text(str(by_s))
        self.server.wait_for_log(f"event=clock-was-set by_s={by_s}")

    def check(self, by_s):
        self.admit("kept", QUICK)
        before = self.over("kept")
        with Client(self.server) as client:
            client.send("POST", "/v1/generate", {**QUICK, "steps": 256, "size": "96x96", "deadline_ms": 3600000})
            self.server.wait_for_admitted(2)
            self.admit("running", ENDLESS)
            self.jump(by_s)
            after = self.state("kept")
            self.assertEqual(after["finished"], before["finished"] + by_s)
            self.assertEqual(after["expires"] - after["finished"], 3600)
            self.assertEqual(client.receive().status, 200)  # and no deadline has passed
        self.assertEqual(self.state("running")["status"], "running")
        self.assertEqual(ask(self.server, "POST", "/v1/generate", {**QUICK, "deadline_ms": 60000}).status, 200)
        self.delete("running")
        self.assertEqual(len(self.pictures("kept")), 1)
        self.assertEqual(ask(self.server, "GET", "/livez").status, 200)

    def test_ends_beside_it(self):
        """Whichever is first, the jump or the end, jobs are kept for their time."""
        names = [f"job-{i}" for i in range(300)]
        with Client(self.server) as client:
            for i, name in enumerate(names):
                if i % 60 == 30:
                    self.file.write_text(str(-7200 * (i // 60 + 1)))
                self.assertEqual(client.ask("PUT", f"/v1/jobs/{name}", QUICK).status, 201)
        for name in names:
            self.over(name)

    def test_forwards(self):
        self.check(self.YEAR_S)

    def test_backwards(self):
        self.check(-self.YEAR_S)


class TestModelFile(unittest.TestCase):
    """A file that is cut short while it is read, or is shorter than it says, is skipped."""

    def test_cut_short_in_place(self):
        with tempfile.TemporaryDirectory() as folder:
            models = pathlib.Path(folder)
            shutil.copy(TINY, models)
            server = Server(model=models)
            self.addCleanup(server.stop)
            picture = ask(server, "POST", "/v1/generate", QUICK).body
            for _ in range(20):  # sometimes in the middle of reading it
                shutil.copy(ROOT / "models/pomology-128.safetensors", models / "a.safetensors")
                server.process.send_signal(signal.SIGHUP)
                time.sleep(0.02)
                os.truncate(models / "a.safetensors", 100000)
                self.assertEqual(ask(server, "POST", "/v1/generate", {**QUICK, "model": "tiny-pg-32"}).body, picture)
            server.wait_for_log("event=rescanned")


class TestDisk(JobCase):
    """A directory of jobs that is full or cannot be used."""

    def mount(self):
        """A file system of 64 KiB."""
        folder = self.folder()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], stderr=subprocess.DEVNULL,
                          check=False).returncode:
            self.skipTest("only root may mount")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return pathlib.Path(folder)

    def test_full(self):
        folder = self.mount()
        server = self.start("--jobs", folder)
        self.admit("before", QUICK, server)
        pictures = (self.over("before", server), self.pictures("before", server))
        ballast = folder / "ballast"
        with open(ballast, "wb", buffering=0) as file, self.assertRaises(OSError):
            while True:
                file.write(bytes(4096))
        detail = self.refused(self.put("a", QUICK, server), 500, "internal")
        self.assertIn("No space left on device", detail)
        self.refused(self.get("a", server=server), 404, "unknown-job")
        self.assertEqual((self.state("before", server), self.pictures("before", server)), pictures)
        self.assertEqual(ask(server, "POST", "/v1/generate", QUICK).body, pictures[1][0])
        ballast.unlink()
        self.admit("a", QUICK, server)
        self.over("a", server)
        server.stop()
        again = self.start("--jobs", folder)
        self.assertEqual((self.state("before", again), self.pictures("before", again)), pictures)

    def test_full_from_the_start(self):
        folder = self.mount()
        with open(folder / "ballast", "wb", buffering=0) as file, self.assertRaises(OSError):
            while True:
                file.write(bytes(4096))
        server = self.start("--jobs", folder)  # what is there may still be fetched
        self.assertIn("No space left", self.refused(self.put("a", QUICK, server), 500, "internal"))
        (folder / "ballast").unlink()
        self.admit("a", QUICK, server)
        self.over("a", server)

    def test_not_ours(self):
        """The system refuses to list or to write: the start says so."""
        if os.geteuid() == 0 and subprocess.run(["setpriv", "--version"], capture_output=True, check=False).returncode:
            self.skipTest("as root, without setpriv, everything is allowed")
        folder = pathlib.Path(self.folder())
        folder.parent.chmod(0o755)
        (folder / "jobs").mkdir()
        drop = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--reuid", "65534"] if os.geteuid() == 0 else []
        for mode in (0o000, 0o500):
            (folder / "jobs").chmod(mode)
            folder.chmod(0o755)
            result = run_program(*drop[:1] or [SERVER], *drop[1:], *([SERVER] if drop else []), "--model", TINY,
                                 "--listen", "127.0.0.1:0", "--jobs", folder / "jobs")
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn("event=cannot-start", result.stderr)
            self.assertRegex(result.stderr, r"jobs(/lock)?: Permission denied")


class TestDescriptors(WebhookCase):
    """A server that may open no more: new clients wait, and nothing else happens."""

    def limit(self, server, count):
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (count, hard))

    def used(self, server):
        return len(os.listdir(f"/proc/{server.process.pid}/fd"))

    def no_more(self, server):
        """Let it open nothing at all."""
        numbers = {int(name) for name in os.listdir(f"/proc/{server.process.pid}/fd")}
        self.limit(server, next(i for i in range(len(numbers) + 1) if i not in numbers))

    def cpu_s(self, server):
        fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_clients_wait(self):
        server = self.start("")
        picture = ask(server, "POST", "/v1/generate", QUICK).body
        limit = self.used(server) + 4
        self.limit(server, limit)
        clients = []
        for _ in range(8):
            clients.append(Client(server))
            self.addCleanup(clients[-1].close)
        for client in clients:
            client.send("POST", "/v1/generate", QUICK)
        wait_until(lambda: self.used(server) == limit, "all descriptors in use")
        answers = [client.receive() for client in clients[:2]]
        began_s = self.cpu_s(server)
        time.sleep(2)
        self.assertLess(self.cpu_s(server) - began_s, 1, "it waits without burning the processor")
        for i, client in enumerate(clients):
            answers += [client.receive()] if i >= 2 else []
            client.close()  # makes room for one that waits
        self.assertEqual({answer.body for answer in answers}, {picture})
        self.limit(server, 1024)
        self.assertEqual(ask(server, "POST", "/v1/generate", QUICK).body, picture)

    def test_jobs_are_refused(self):
        """Their directory cannot be written to then; as with a full disk."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        server = self.start("", "--jobs", folder)
        with Client(server) as client:
            self.assertEqual(client.ask("PUT", "/v1/jobs/a", QUICK).status, 201)
            wait_until(lambda: "finished" in client.ask("GET", "/v1/jobs/a").json(), "the end of a")
            self.no_more(server)
            refusal = client.ask("PUT", "/v1/jobs/b", QUICK)
            self.assertEqual((refusal.status, refusal.json()["type"]), (500, "urn:brickwork:problem:internal"))
            self.assertIn("Too many open files", refusal.json()["detail"])
            self.assertEqual(client.ask("POST", "/v1/generate", QUICK).status, 200)
            self.limit(server, 1024)
            self.assertEqual(client.ask("PUT", "/v1/jobs/b", QUICK).status, 201)

    def test_webhooks_wait(self):
        """They cannot be sent then, and are sent again."""
        receiver = self.receiver()
        server = self.start(f"127.0.0.1:{receiver.port}")
        with Client(server) as client:
            self.assertEqual(client.ask("GET", "/livez").status, 200)
            self.no_more(server)
            self.assertEqual(client.ask("PUT", "/v1/jobs/a", {**QUICK, "webhook": receiver.url}).status, 201)
            self.assertIn("attempts=1", server.wait_for_log("event=webhook-failed"))
            self.limit(server, 1024)
            self.assertIn(b'"status":"completed"', receiver.next()[2])


if __name__ == "__main__":
    unittest.main()
