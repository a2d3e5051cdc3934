"""Replicas behind nginx with deploy/nginx.conf as it is. What only nginx decides is looked at request by request,
the rest under load; `make prove-nginx` does more of that."""
import json
import pathlib
import signal
import ssl
import subprocess
import sys
import tempfile
import unittest
import urllib.request

from support import JSON, PATIENCE_S, QUICK, ROOT, Client, ask, wait_until

sys.path.insert(0, str(ROOT / "tests/deploy"))
import replicas  # noqa: E402

PAUSE = 30  # right answers between two events
TRACE = "0af7651916cd43dd8448eb211c80319c"


class TestUnderLoad(unittest.TestCase):

    def flawless(self, row):
        self.assertEqual(row.failures, [], row)
        self.assertGreater(row.served, 0)
        return row

    def test_restarted(self):
        row = self.flawless(replicas.restarted(1, PAUSE))
        self.assertEqual(row.again, 0)

    def test_restarted_without_keeping_the_socket(self):
        row = self.flawless(replicas.restarted(1, PAUSE, held=False))
        self.assertGreater(row.moved, 0)

    def test_killed(self):
        self.flawless(replicas.killed(replicas.COUNT, PAUSE))

    def test_frozen(self):
        self.flawless(replicas.frozen(1, PAUSE))

    def test_frozen_and_killed(self):
        self.flawless(replicas.frozen(1, PAUSE, signal.SIGKILL))

    def test_overloaded(self):
        self.flawless(replicas.overloaded(48, 2 * PAUSE))


class NginxCase(unittest.TestCase):
    flags = ()
    edits = ()

    @classmethod
    def setUpClass(cls):
        context = replicas.service(*cls.flags, edits=cls.edits)
        cls.nginx, cls.replicas = context.__enter__()
        cls.addClassCleanup(context.__exit__, None, None, None)

    def ask(self, *question):
        return ask(self.nginx, *question)

    def asked_of(self, path):
        """The replicas that requests for the path went to; nginx logs when the answer is sent."""
        return [line[2][0] for line in self.nginx.lines() if path in line[0]]


class TestRules(NginxCase):

    def test_jobs_stay_where_they_are(self):
        """Whoever names the job, every request about it finds it."""
        for i in range(12):
            given = self.ask("POST", "/v1/generate", QUICK, {**JSON, "Prefer": "wait=1, respond-async"})
            self.assertEqual(given.status, 202, given.body)
            self.assertEqual(self.ask("GET", given.headers["Location"]).status, 200)
            for headers in ({"Idempotency-Key": f"key-{i}"},
                            {"Idempotency-Key": f"both-{i}", "Prefer": "respond-async"}):
                self.assertIn(self.ask("POST", "/v1/generate", QUICK, {**JSON, **headers}).status, (200, 202))
                self.assertEqual(self.ask("GET", f"/v1/jobs/{headers['Idempotency-Key']}").status, 200)
            self.assertEqual(self.ask("PUT", f"/v1/jobs/put-{i}", QUICK).status, 201)
            self.assertEqual(self.ask("PUT", f"/v1/jobs/put%2D{i}", QUICK).status, 200)
            self.assertEqual(self.ask("GET", f"/v1/jobs/put-{i}/events").status, 200)
            self.assertEqual(self.ask("DELETE", f"/v1/jobs/put-{i}").status, 204)
        self.assertEqual(len(set(self.asked_of("/v1/jobs/"))), replicas.COUNT)

    def test_progress_is_asked_where_the_work_is(self):
        for _ in range(6):
            self.ask("GET", "/sdapi/v1/progress")
        wait_until(lambda: len(self.asked_of("/sdapi/")) == 6, "the log")
        self.assertEqual(len(set(self.asked_of("/sdapi/"))), 1)

    def test_names_go_through(self):
        headers = {**JSON, "X-Request-Id": "mine-1", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
                   "X-Forwarded-For": "203.0.113.9"}
        response = self.ask("POST", "/v1/generate", QUICK, headers)
        self.assertEqual((response.status, response.headers["X-Request-Id"]), (200, "mine-1"))
        def lines_of_it():
            return [line for r in self.replicas for line in r.server.lines if "id=mine-1" in line]
        wait_until(lines_of_it, "the line of the request")  # which is logged when it has been answered
        lines = lines_of_it()
        self.assertEqual(len(lines), 1)
        self.assertIn(f"trace={TRACE}", lines[0])
        self.assertIn("peer=127.0.0.1", lines[0])  # what it says of itself counts for nothing

    def test_own_problems(self):
        """What nginx refuses by itself looks like what the service refuses."""
        for status, question in ((413, ("POST", "/v1/generate", b" " * 65537, JSON)),
                                 (413, ("PUT", "/v1/jobs/large", b" " * 65537, JSON)),
                                 (404, ("GET", "/metrics"))):
            with self.subTest(question=question[1]):
                connection = Client(self.nginx)
                connection.send(*question)
                reply = connection.connection.getresponse()
                self.assertEqual(reply.status, status)
                if status == 413:
                    self.assertEqual(reply.headers["Content-Type"], "application/problem+json")
                    self.assertEqual(json.loads(reply.read())["status"], 413)
                connection.close()

    def test_the_largest_body_passes(self):
        body = json.dumps(QUICK).encode()
        self.assertEqual(self.ask("POST", "/v1/generate", body.ljust(65536), JSON).status, 200)

    def test_an_infeasible_deadline_is_asked_of_two(self):
        response = self.ask("POST", "/v1/generate", {"steps": 256, "deadline_ms": 1})
        self.assertEqual(response.json()["type"], "urn:brickwork:problem:deadline-infeasible")
        self.assertIn("offer", response.json())
        wait_until(lambda: any(line[3] == ["503", "503"] for line in self.nginx.lines()), "the log")


class TestNobodyThere(NginxCase):

    def test_unavailable(self):
        for replica in self.replicas:
            replica.server.stop()
            replica.socket.close()
        for question in (("POST", "/v1/generate", "{}", JSON), ("GET", "/v1/jobs/a"), ("GET", "/sdapi/v1/progress")):
            with self.subTest(question=question[1]):
                connection = Client(self.nginx)
                connection.send(*question[:2], *([question[2].encode(), JSON] if len(question) > 2 else []))
                reply = connection.connection.getresponse()
                self.assertEqual((reply.status, reply.headers["Retry-After"], reply.headers["Content-Type"]),
                                 (503, "1", "application/problem+json"))
                self.assertEqual(json.loads(reply.read())["status"], 503)
                connection.close()


class TestExamples(NginxCase):
    """What is commented out works when the word before it is removed."""

    @classmethod
    def setUpClass(cls):
        folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(replicas.shutil.rmtree, folder)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                        "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
                       check=True, capture_output=True, timeout=PATIENCE_S)
        with replicas.listening() as free:
            cls.port = free.getsockname()[1]
        cls.certificate = folder / "fullchain.pem"
        cls.edits = [(r"#(TLS|LIMIT) ", ""), (r"^        listen 80; .*\n", ""),
                     ("listen 443 ssl http2;", f"listen 127.0.0.1:{cls.port} ssl http2;"),
                     ("/etc/ssl/brickwork", str(folder))]
        super().setUpClass()

    def test_all_of_them(self):
        plain = Client(self.nginx)
        plain.send("GET", "/v1/models?a=b")
        reply = plain.connection.getresponse()
        self.assertEqual((reply.status, reply.headers["Location"]), (308, "https://127.0.0.1/v1/models?a=b"))
        plain.close()
        context = ssl.create_default_context(cafile=self.certificate)
        statuses = []
        while 429 not in statuses and len(statuses) < 2000:
            try:
                with urllib.request.urlopen(f"https://127.0.0.1:{self.port}/livez", context=context,
                                            timeout=PATIENCE_S) as reply:
                    statuses.append(reply.status)
                    self.assertIn("max-age", reply.headers["Strict-Transport-Security"])
            except urllib.error.HTTPError as error:
                statuses.append(error.code)
                self.assertEqual(error.headers["Content-Type"], "application/problem+json")
                self.assertEqual(error.headers["Retry-After"], "1")
                error.close()
        self.assertEqual(statuses[0], 200)
        self.assertIn(429, statuses)
        self.assertEqual(set(statuses), {200, 429})


if __name__ == "__main__":
    unittest.main()
