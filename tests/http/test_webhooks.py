"""Webhooks: who asked for it is told the end of a job, signed, and nobody else is ever called."""
import base64
import hashlib
import hmac
import http.server
import json
import queue
import tempfile
import threading
import time
import unittest

from support import ENDLESS, JSON, PATIENCE_S, QUICK, SERVER, TINY, Server, ask, run_program

SECRET = bytes(range(32))


class Receiver:
    """A server that is told things. It answers with the statuses it is given, then with 204."""

    def __init__(self, *statuses):
        self.statuses, self.calls = list(statuses), queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.calls.put((self.path, self.headers, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/told"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def next(self):
        """(path, header fields, body) of the next call."""
        return self.calls.get(timeout=PATIENCE_S)


class WebhookCase(unittest.TestCase):

    def receiver(self, *statuses):
        receiver = Receiver(*statuses)
        self.addCleanup(receiver.close)
        return receiver

    def secret_file(self, text=None):
        file = tempfile.NamedTemporaryFile("w")
        self.addCleanup(file.close)
        file.write(text or "whsec_" + base64.b64encode(SECRET).decode() + "\n")
        file.flush()
        return file.name

    def start(self, allow, *flags):
        server = Server("--webhook-allow", allow, "--webhook-secret-file", self.secret_file(), *flags)
        self.addCleanup(server.stop)
        return server

    def refused(self, response, detail):
        self.assertEqual((response.status, response.type), (422, "application/problem+json"))
        errors = response.json()["errors"]
        self.assertEqual([error["pointer"] for error in errors], ["/webhook"])
        self.assertEqual(response.json()["detail"], detail)

    def verified(self, call):
        """The body of a call whose signature is right, as Standard Webhooks 1.0 says."""
        path, headers, body = call
        self.assertEqual((path, headers["Content-Type"]), ("/told", "application/json"))
        self.assertLess(abs(int(headers["webhook-timestamp"]) - time.time()), PATIENCE_S)
        text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        signature = base64.b64encode(hmac.new(SECRET, text, hashlib.sha256).digest()).decode()
        self.assertEqual(headers["webhook-signature"], f"v1,{signature}")
        return json.loads(body)


class TestDelivery(WebhookCase):

    def test_delivered(self):
        """The body is the job as it is to be had."""
        receiver = self.receiver()
        server = self.start(f"a.example, 127.0.0.1:{receiver.port}")
        body = {**QUICK, "n": 2, "webhook": receiver.url}
        self.assertEqual(ask(server, "PUT", "/v1/jobs/a", body).status, 201)
        job = self.verified(receiver.next())
        self.assertEqual((job["id"], job["status"], len(job["images"])), ("a", "completed", 2))
        self.assertEqual(ask(server, "GET", "/v1/jobs/a").json(), job)
        self.assertEqual(ask(server, "PUT", "/v1/jobs/a", body).status, 200)  # nothing to tell again
        for headers in ({"Prefer": "respond-async"}, {"Idempotency-Key": "b"}):
            ask(server, "POST", "/v1/generate", {**QUICK, "webhook": receiver.url}, {**JSON, **headers})
            told = self.verified(receiver.next())
            self.assertEqual(ask(server, "GET", f"/v1/jobs/{told['id']}").json(), told)
        self.assertEqual(told["id"], "b")

    def test_another_webhook_is_another_body(self):
        receiver = self.receiver()
        server = self.start(f"127.0.0.1:{receiver.port}")
        for end, status in [("", 201), ("", 200), ("/else", 409)]:
            body = {**QUICK, "webhook": receiver.url + end}
            self.assertEqual(ask(server, "PUT", "/v1/jobs/a", body).status, status)
        self.assertEqual(ask(server, "PUT", "/v1/jobs/a", QUICK).status, 409)

    def test_tried_again(self):
        """The same message, signed anew."""
        receiver = self.receiver(500, 302)
        server = self.start(f"127.0.0.1:{receiver.port}")
        ask(server, "PUT", "/v1/jobs/a", {**QUICK, "webhook": receiver.url})
        calls = [receiver.next() for _ in range(3)]
        jobs = [self.verified(call) for call in calls]
        self.assertEqual(jobs[1:], jobs[:1] * 2)
        self.assertEqual(len({headers["webhook-id"] for _, headers, _ in calls}), 1)
        self.assertIn("attempts=3", server.wait_for_log("event=webhook-delivered"))

    def test_an_id_used_again(self):
        """At once: another job is another event."""
        receiver = self.receiver()
        server = self.start(f"127.0.0.1:{receiver.port}")
        told = []
        for seed in range(3):
            ask(server, "PUT", "/v1/jobs/a", {**QUICK, "seed": seed, "webhook": receiver.url})
            told.append(receiver.next()[1]["webhook-id"])
            self.assertEqual(ask(server, "DELETE", "/v1/jobs/a").status, 204)
        self.assertEqual(len(set(told)), 3)

    def test_given_up(self):
        receiver = self.receiver(410)
        server = self.start(f"127.0.0.1:{receiver.port}")
        ask(server, "PUT", "/v1/jobs/a", {**QUICK, "webhook": receiver.url})
        self.verified(receiver.next())
        line = server.wait_for_log("event=webhook-given-up")
        self.assertIn("attempts=1", line)
        self.assertNotIn("/told", line)

    def test_deleted_jobs_are_not_told(self):
        receiver = self.receiver()
        server = self.start(f"127.0.0.1:{receiver.port}", "--batch", 1)
        for job, body in [("a", {**ENDLESS, "n": 1}), ("b", QUICK)]:
            ask(server, "PUT", f"/v1/jobs/{job}", {**body, "webhook": receiver.url})
        self.assertEqual(self.verified(receiver.next())["id"], "b")
        self.assertEqual(ask(server, "DELETE", "/v1/jobs/a").status, 204)
        server.wait_for_pictures(0)
        ask(server, "PUT", "/v1/jobs/c", {**QUICK, "webhook": receiver.url})
        self.assertEqual(self.verified(receiver.next())["id"], "c")
        server.stop()
        self.assertTrue(receiver.calls.empty())

    def test_told_before_the_server_stops(self):
        receiver = self.receiver()
        server = self.start(f"127.0.0.1:{receiver.port}")
        ask(server, "PUT", "/v1/jobs/a", {**QUICK, "steps": 64, "n": 4, "webhook": receiver.url})
        server.stop()
        self.assertEqual(self.verified(receiver.next())["id"], "a")

    def test_of_a_former_process(self):
        """A job that is finished after a restart is told; so is one that failed for it."""
        receiver = self.receiver()
        with tempfile.TemporaryDirectory() as folder:
            allow = f"127.0.0.1:{receiver.port}"
            server = Server("--jobs", folder, "--webhook-allow", allow, "--webhook-secret-file",
                            self.secret_file())
            ask(server, "PUT", "/v1/jobs/a", {**ENDLESS, "steps": 8, "n": 2, "size": "96x96", "webhook": receiver.url})
            ask(server, "PUT", "/v1/jobs/b", {**ENDLESS, "n": 1, "size": "128x128", "webhook": receiver.url})
            server.process.kill()
            server.wait()
            again = self.start(allow, "--jobs", folder, "--max-area", 96 * 96)
            told = sorted((self.verified(receiver.next()) for _ in range(2)), key=lambda job: job["id"])
            self.assertEqual([(job["id"], job["status"]) for job in told],
                             [("a", "completed"), ("b", "failed")])
            self.assertEqual(told[1]["problem"]["errors"][0]["pointer"], "/size")
            for job in told:
                self.assertEqual(ask(again, "GET", f"/v1/jobs/{job['id']}").json(), job)
            again.stop()


class TestRefused(WebhookCase):

    def test_hosts(self):
        receiver = self.receiver()
        server = self.start(f"a.example, 127.0.0.1:{receiver.port}")
        for url, detail in [
                ("http://b.example/", "not one of the hosts that the operator allows"),
                ("http://127.0.0.1:1/", "not one of the hosts that the operator allows"),
                ("http://169.254.169.254/", "not one of the hosts that the operator allows"),
                (f"http://localhost:{receiver.port}/", "not one of the hosts that the operator allows"),
                (f"http://me@127.0.0.1:{receiver.port}/", "a URL with a user name is not allowed"),
                ("ftp://a.example/", "does not begin with http:// or https://"),
                ("file:///etc/passwd", "does not begin with http:// or https://")]:
            body = {**QUICK, "webhook": url}
            for response in (ask(server, "PUT", "/v1/jobs/a", body),
                             ask(server, "POST", "/v1/generate", body,
                                 {**JSON, "Prefer": "respond-async"}),
                             ask(server, "POST", "/v1/generate", body,
                                 {**JSON, "Idempotency-Key": "a"})):
                self.refused(response, detail)
        self.assertEqual(ask(server, "GET", "/v1/jobs/a").status, 404)
        self.assertTrue(receiver.calls.empty())

    def test_without_a_job(self):
        server = self.start("a.example")
        body = {**QUICK, "webhook": "http://a.example/"}
        self.refused(ask(server, "POST", "/v1/generate", body), "only jobs report their end")

    def test_off(self):
        server = Server()
        self.addCleanup(server.stop)
        body = {**QUICK, "webhook": "http://a.example/"}
        self.refused(ask(server, "PUT", "/v1/jobs/a", body),
                     "the operator has not switched on webhooks")
        self.assertFalse(ask(server, "GET", "/v1/capabilities").json()["features"]["webhooks"])

    def test_settings(self):
        for flags, reason in [
                (["--webhook-allow", "a.example"], "webhook-allow needs a webhook-secret-file"),
                (["--webhook-allow", "a.example", "--webhook-secret-file", "/nonexistent"],
                 "/nonexistent: No such file"),
                (["--webhook-allow", "a.example", "--webhook-secret-file", self.secret_file("short")],
                 "the secret")]:
            result = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", *flags)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn("event=cannot-start", result.stderr)
            self.assertIn(reason, result.stderr)


if __name__ == "__main__":
    unittest.main()
