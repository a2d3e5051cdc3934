"""Jobs that outlive the process: in a directory, whatever becomes of process, disk and model."""
import pathlib
import resource
import shutil
import signal
import tempfile
import unittest

from jobs import LAST_ID, LONG, LOW, ONE_BY_ONE, WORK, JobCase, Stream, keyed, parse
from support import ENDLESS, QUICK, ROOT, SERVER, TINY, Client, ask, run_program, wait_until


class TestDirectory(JobCase):
    """Every test has servers of its own."""

    def kill(self, server):
        server.signal(signal.SIGKILL)
        server.stop(-signal.SIGKILL)

    def test_finished_before_it_stops(self):
        folder = self.folder()
        server = self.start("--jobs", folder)
        for i in range(4):
            self.admit(f"j{i}", {**WORK, "seed": i}, server)
        with Client(server) as client:
            client.send("GET", "/v1/jobs/j3/events")
            server.signal()
            self.assertEqual(client.receive().status, 200)
        server.stop()
        again = self.start("--jobs", folder)
        for i in range(4):
            self.assertEqual(self.state(f"j{i}", again)["status"], "completed")
            self.assertEqual(self.pictures(f"j{i}", again), self.made_anew({**WORK, "seed": i}, again))

    def test_finished_without_a_directory(self):
        server = self.start(*ONE_BY_ONE)
        blocker = self.block(server)
        self.admit("a", LOW, server)
        with Client(server) as client:
            client.send("GET", "/v1/jobs/a/events")
            server.signal()
            server.wait_for_log("draining")
            blocker.close()
            self.assertEqual(parse(client.receive().body.decode())[-1][1], "completed")
        server.stop()

    def test_killed(self):
        """What was admitted is made after all, as it would have been; what was finished is there."""
        folder = self.folder()
        server = self.start("--jobs", folder, *ONE_BY_ONE)
        self.admit("done", WORK, server)
        done = self.over("done", server)
        pictures = self.pictures("done", server)
        bodies = {"seed-left-open": {"steps": 24, "n": 2}, "png": {**WORK, "format": "png"},
                  "deadline": {**WORK, "deadline_ms": 3600000},
                  "auto": {**WORK, "skip": "auto"}, "low": LOW, "long": {**LONG, "steps": 16, "size": "96x96"}}
        self.block(server)
        admitted = {job: self.admit(job, body, server) for job, body in bodies.items()}
        keyed_one = Client(server)
        keyed_one.send("POST", "/v1/generate", {**QUICK, "priority": "low"}, keyed("keyed"))
        wait_until(lambda: self.get("keyed", server=server).status == 200, "the job")
        self.kill(server)
        keyed_one.close()
        again = self.start("--jobs", folder, *ONE_BY_ONE)
        self.assertEqual((self.state("done", again), self.pictures("done", again)), (done, pictures))
        for job, before in admitted.items():
            state = self.over(job, again)
            self.assertEqual([state["request"][name] for name in ("seed", "n", "size")],
                             [before["request"][name] for name in ("seed", "n", "size")])
            self.assertEqual(state["created"], before["created"])
            self.assertEqual(self.pictures(job, again), self.made_anew(state["request"], again))
            self.assertEqual(self.put(job, bodies[job], again).json(), state)
            self.refused(self.put(job, {"steps": 9}, again), 409, "conflict")
        response = ask(again, "POST", "/v1/generate", {**QUICK, "priority": "low"}, keyed("keyed"))
        self.assertEqual(response.body, self.made_anew(QUICK, again)[0])
        again.wait_for_pictures(0)
        again.stop()
        third = self.start("--jobs", folder)
        self.assertEqual(third.metrics()["admissions_total{decision=\"admitted\"}"], 0)
        for job in ("done", "keyed", *bodies):
            self.assertEqual(self.state(job, third)["status"], "completed")

    def test_deleted_stays_deleted(self):
        folder = self.folder()
        server = self.start("--jobs", folder)
        self.admit("over", QUICK, server)
        self.over("over", server)
        self.admit("running", LONG, server)
        self.until_running("running", server)
        for job in ("over", "running"):
            self.delete(job, server)
            self.refused(self.get(job, server=server), 410, "gone")
        server.stop()
        self.assertEqual([path.name for path in pathlib.Path(folder).glob("record-*")], [])

    def test_the_model_is_gone(self):
        models, folder = pathlib.Path(self.folder()), self.folder()
        for name in ("tiny-pg-32", "tiny-u-32"):
            shutil.copy(ROOT / f"tests/models/{name}.safetensors", models)
        server = self.start("--jobs", folder, model=models)
        self.admit("b", {**QUICK, "model": "tiny-pg-32"}, server)
        self.over("b", server)
        self.admit("a", {**LONG, "model": "tiny-u-32"}, server)  # when it is saved, the end of b is
        self.kill(server)
        again = self.start("--jobs", folder)
        job = self.over("a", again, "failed")
        problem = job["problem"]
        self.assertEqual((problem["type"], problem["status"], problem["errors"][0]["pointer"]),
                         ("urn:brickwork:problem:unknown-model", 404, "/model"))
        self.refused(self.get("a", "/images/0", server=again), 409, "conflict")
        response = self.get("a", "/events", server=again)
        self.assertEqual(parse(response.body.decode()),
                         [(LAST_ID, "error", {**problem, "instance": response.headers["X-Request-Id"]})])
        self.assertEqual(self.put("a", {**LONG, "model": "tiny-u-32"}, again).json(), job)
        self.assertEqual(self.state("b", again)["status"], "completed")

    def test_more_than_find_a_place(self):
        """With a shorter queue than before the rest waits, in the order it came."""
        folder = self.folder()
        server = self.start("--jobs", folder, *ONE_BY_ONE)
        names, body = [f"j{i}" for i in range(6)], {**ENDLESS, "size": "32x32"}
        for job in names:
            self.admit(job, body, server)
        self.kill(server)
        again = self.start("--jobs", folder, "--queue", 8, "--batch", 1)
        def waits(job):
            stream = Stream(again, "GET", f"/v1/jobs/{job}/events")
            stream.client.close()
            return stream.reply.status == 409
        def oldest_has_a_place():
            who_waits = [waits(job) for job in reversed(names)]  # and may cease to, meanwhile
            self.assertEqual(who_waits, sorted(who_waits, reverse=True))
            return not who_waits[-1]
        self.assertTrue(oldest_has_a_place())
        self.assertEqual(self.state(names[-1], again)["status"], "queued")
        for response in (self.get(names[-1], "/events", server=again),
                         ask(again, "POST", "/v1/generate", body, keyed(names[-1]))):
            self.refused(response, 409, "not-ready", retry=True)
        while names:
            wait_until(oldest_has_a_place, "a place")
            self.delete(names.pop(0), again)
        again.wait_for_pictures(0)

    def test_no_directory(self):
        with tempfile.NamedTemporaryFile() as file:
            for path in (file.name, "/nonexistent/jobs"):
                result = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0",
                                     "--jobs", path)
                self.assertEqual(result.returncode, 1)
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
                self.assertIn("event=cannot-start", result.stderr)
                self.assertIn(path, result.stderr)

    def test_two_servers(self):
        folder = self.folder()
        server = self.start("--jobs", folder)
        result = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", "--jobs", folder)
        self.assertEqual(result.returncode, 1)
        self.assertIn("another server works there", result.stderr)
        self.admit("a", QUICK, server)
        self.over("a", server)

    def limit(self, server, size):
        """So large may the files become that the server writes."""
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, hard))

    def test_jobs_that_cannot_be_saved(self):
        folder = self.folder()
        server = self.start("--jobs", folder)
        self.admit("before", WORK, server)
        pictures = (self.over("before", server), self.pictures("before", server))
        self.limit(server, 0)
        self.refused(self.put("a", LONG, server), 500, "internal")
        response = ask(server, "POST", "/v1/generate", LONG, keyed("a"))
        self.refused(response, 500, "internal")
        self.refused(self.get("a", server=server), 404, "unknown-job")
        server.wait_for_pictures(0)
        self.assertEqual((self.state("before", server), self.pictures("before", server)), pictures)
        self.limit(server, resource.RLIM_INFINITY)
        self.admit("a", QUICK, server)
        self.over("a", server)
        server.stop()
        again = self.start("--jobs", folder)
        self.assertEqual((self.state("before", again), self.pictures("before", again)), pictures)
        self.assertEqual(self.state("a", again)["status"], "completed")

    def test_ends_that_cannot_be_saved(self):
        """They are served while the process lives, and made again by the next."""
        folder = self.folder()
        server = self.start("--jobs", folder, *ONE_BY_ONE)
        blocker = self.block(server)
        self.admit("a", LOW, server)
        self.limit(server, 0)
        blocker.close()
        self.over("a", server)
        pictures = self.pictures("a", server)
        server.wait_for_log("event=job-not-saved")
        server.stop()
        again = self.start("--jobs", folder)
        self.over("a", again)
        self.assertEqual(self.pictures("a", again), pictures)

    def test_start_that_fails_late(self):
        """The jobs were looked at already, and some of them forgotten."""
        folder = self.folder()
        server = self.start("--jobs", folder)
        for i in range(3):
            self.admit(f"j{i}", {"steps": 1, "size": "512x512", "solver": "euler", "format": "png",
                                 "seed": i}, server)
            self.over(f"j{i}", server)
        server.stop()
        result = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", "--jobs", folder,
                             "--jobs-bytes", 1 << 20, "--webhook-allow", "a.example")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("event=cannot-start", result.stderr)
        self.assertIn("webhook-allow needs a webhook-secret-file", result.stderr)


if __name__ == "__main__":
    unittest.main()
