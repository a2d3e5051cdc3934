"""What is decided before a handler runs: keys, quotas, origins, proxies, traces, the admin listener."""
import hashlib
import re
import signal
import tempfile
import unittest

from support import (ENDLESS, JSON, QUICK, TINY, SERVER, Client, Raw, Server, ask, raw_request,
                     run_program, wait_until)

CHALLENGE = 'Bearer realm="brickwork"'
INVALID = CHALLENGE + ', error="invalid_token"'
ORIGIN = "https://a.example"


def bearer(key, **fields):
    """The header fields of a request with that key."""
    return {"Authorization": "Bearer " + key, **fields}


def hashed(key):
    return hashlib.sha256(key.encode()).hexdigest()


class KeyFile:
    """A file of keys. Of the entry "alice rate=3/h" the key is "secret of alice"."""

    def __init__(self, *entries):
        self.file = tempfile.NamedTemporaryFile("w")
        self.name = self.file.name
        self.write(*entries)

    def write(self, *entries):
        lines = []
        for entry in entries:
            name, *quotas = entry.split()
            lines.append(" ".join([name, hashed("secret of " + name), *quotas]))
        self.write_text("# keys\n" + "\n".join(lines) + "\n")

    def write_text(self, text):
        self.file.seek(0)
        self.file.truncate()
        self.file.write(text)
        self.file.flush()


class Admin:
    """The other listener of a server, to be asked like a server."""

    def __init__(self, server):
        line = server.wait_for_log("event=listening")
        host, port = re.search(r" admin=([0-9.]+):(\d+)", line).groups()
        self.address = host, int(port)


class AccessCase(unittest.TestCase):

    def start(self, *flags):
        server = Server(*flags)
        self.addCleanup(server.stop)
        return server

    def problem(self, response, status, kind):
        """Assert that this is that problem, and return it."""
        self.assertEqual((response.status, response.type), (status, "application/problem+json"),
                         response.body[:300])
        problem = response.json()
        self.assertEqual(problem["type"], "urn:brickwork:problem:" + kind)
        self.assertEqual(problem["instance"], response.headers["X-Request-Id"])
        return problem

    def log_of(self, server, path, word="request"):
        """The fields of the log line about the request with that path."""
        line = server.wait_for_log(rf"event={word} .* path={re.escape(path)} ")
        return dict(field.split("=", 1) for field in line.split(" "))


class TestKeys(AccessCase):

    @classmethod
    def setUpClass(cls):
        cls.keys = KeyFile("alice", "hourly rate=3/h", "narrow concurrency=1",
                           "both rate=100/h concurrency=7", "openai rate=1/h", "spent rate=1/h")
        cls.server = Server("--keys-file", cls.keys.name, "--cors-origins", ORIGIN)
        cls.addClassCleanup(cls.server.stop)

    def models(self, headers):
        return ask(self.server, "GET", "/v1/models", headers=headers)

    def test_some_paths_are_open(self):
        for path in ("/livez", "/readyz", "/openapi.json"):
            for headers in ({}, bearer("wrong")):
                self.assertEqual(ask(self.server, "GET", path, headers=headers).status, 200, path)
        self.assertEqual(ask(self.server, "POST", "/livez").status, 405)
        self.problem(ask(self.server, "GET", "/nothing"), 404, "not-found")
        self.problem(ask(self.server, "GET", "/v1/nothing"), 404, "not-found")

    def test_the_others_want_a_key(self):
        for method, path in [("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/v1/generate"),
                             ("POST", "/v1/quote"), ("POST", "/v1/images/generations"),
                             ("DELETE", "/v1/models"), ("OPTIONS", "/v1/models")]:
            with self.subTest(path, method=method):
                response = ask(self.server, method, path)
                problem = self.problem(response, 401, "unauthorized")
                self.assertEqual(problem["title"], "An API key is needed")
                self.assertEqual(problem["detail"], "send Authorization: Bearer KEY")
                self.assertEqual(problem["status"], 401)
                self.assertEqual("error" in problem, path.startswith("/v1/images/"))
                self.assertEqual(response.headers["WWW-Authenticate"], CHALLENGE)
                self.assertNotIn("RateLimit", response.headers)
        self.assertEqual(ask(self.server, "HEAD", "/v1/models").status, 401)

    def test_a_key_opens_them(self):
        for scheme in ("Bearer ", "bearer  "):
            headers = {"Authorization": scheme + "secret of alice"}
            self.assertEqual(self.models(headers).status, 200)
            self.assertEqual(ask(self.server, "GET", "/metrics", headers=headers).status, 200)
        response = ask(self.server, "POST", "/v1/generate", QUICK, bearer("secret of alice", **JSON))
        self.assertEqual(response.status, 200)
        self.assertNotIn("RateLimit", response.headers)  # this key has no quota
        self.assertNotIn("RateLimit-Policy", response.headers)
        response = ask(self.server, "POST", "/v1/models", headers=bearer("secret of alice"))
        self.problem(response, 405, "method-not-allowed")

    def test_wrong_keys(self):
        for key in ("wrong", "", "alice", "secret of alic", "secret of alice2", "Secret of alice",
                    hashed("secret of alice"), "secret of alice, x", "x" * 4000):
            with self.subTest(key[:20]):
                response = self.models({"Authorization": "Bearer " + key})
                problem = self.problem(response, 401, "unauthorized")
                sent = key != ""
                self.assertEqual(response.headers["WWW-Authenticate"],
                                 INVALID if sent else CHALLENGE)
                self.assertEqual(problem["detail"], "this is no key of the service" if sent else
                                 "send Authorization: Bearer KEY")
        for other in ("Basic YWxpY2U6c2VjcmV0IG9mIGFsaWNl", "secret of alice", "Bearer"):
            response = self.models({"Authorization": other})
            self.problem(response, 401, "unauthorized")
            self.assertEqual(response.headers["WWW-Authenticate"], CHALLENGE)

    def test_two_keys_are_none(self):
        field = b"Authorization: Bearer secret of alice"
        with Raw(self.server) as raw:
            raw.send(raw_request(b"GET", b"/v1/models", field, field))
            self.problem(raw.receive("GET", "/v1/models"), 401, "unauthorized")

    def test_rate(self):
        key = bearer("secret of hourly")
        for left in (2, 1, 0):
            response = self.models(key)
            self.assertEqual(response.status, 200)
            self.check_limit(response, left)
        response = ask(self.server, "GET", "/v1/models?refused", headers=key)
        problem = self.problem(response, 429, "rate-limited")
        self.assertEqual(problem["title"], "The quota is used up")
        self.assertEqual(problem["detail"], "the key allows 3 requests in 3600 s")
        wait_s = self.check_limit(response, 0)
        self.assertEqual(response.headers["Retry-After"], str(wait_s))
        self.assertEqual(self.models(bearer("secret of alice")).status, 200)  # others are free
        self.assertEqual(ask(self.server, "GET", "/livez", headers=key).status, 200)
        self.assertNotIn("RateLimit", ask(self.server, "GET", "/livez", headers=key).headers)

    def test_quotas_hold_everywhere(self):
        """Whatever a path would say to this request, the quota is looked at before."""
        key = bearer("secret of spent", **JSON)
        self.assertEqual(self.models(key).status, 200)
        for method, path in [("GET", "/v1/generate"), ("POST", "/v1/generate"),
                             ("POST", "/v1/quote"), ("GET", "/v1/capabilities"),
                             ("GET", "/v1/models"), ("GET", "/v1/models/a"),
                             ("PUT", "/v1/jobs/a"), ("GET", "/v1/jobs/a"), ("DELETE", "/v1/jobs/a"),
                             ("GET", "/v1/jobs/a/events"), ("GET", "/v1/jobs/a/images/0"),
                             ("POST", "/v1/images/generations"), ("POST", "/sdapi/v1/txt2img"),
                             ("GET", "/sdapi/v1/progress"), ("GET", "/metrics")]:
            with self.subTest(path, method=method):
                self.problem(ask(self.server, method, path, headers=key), 429, "rate-limited")

    def check_limit(self, response, left):
        """Three an hour: after each, another within 20 minutes. Returns the seconds."""
        self.assertEqual(response.headers["RateLimit-Policy"], '"requests";q=3;w=3600')
        wait_s = int(re.fullmatch(rf'"requests";r={left};t=(\d+)',
                                  response.headers["RateLimit"])[1])
        self.assertTrue(1 <= wait_s <= 1200, wait_s)
        return wait_s

    def test_refusals_of_handlers_count(self):
        """What the request asks for is looked at after it was counted, and the fields are there."""
        key = bearer("secret of both", **JSON)
        for left, body, status in [(99, {"steps": 0}, 422), (98, b"{", 400), (97, QUICK, 200)]:
            response = ask(self.server, "POST", "/v1/generate", body, key)
            self.assertEqual(response.status, status)
            self.assertEqual(response.headers["RateLimit-Policy"], '"requests";q=100;w=3600, '
                             '"concurrency";q=7;qu="concurrent-requests"')
            self.assertRegex(response.headers["RateLimit"],
                             rf'^"requests";r={left};t=\d+, "concurrency";r=6$')

    def test_openai_clients_are_told_in_their_way(self):
        key = bearer("secret of openai", **JSON)
        for status in (422, 429):
            response = ask(self.server, "POST", "/v1/images/generations", {"prompt": ""}, key)
            self.assertEqual(response.status, status)
        self.assertEqual(response.json()["error"]["type"], "rate_limit_error")
        self.assertEqual(response.json()["error"]["code"], "rate-limited")

    def test_concurrency(self):
        key = bearer("secret of narrow", **JSON)
        with Client(self.server) as client:
            client.send("POST", "/v1/generate", ENDLESS, key)
            wait_until(lambda: self.models(key).status == 429, "the key's place to be taken")
            response = self.models(key)
            problem = self.problem(response, 429, "rate-limited")
            self.assertEqual(problem["detail"], "the key allows 1 requests at a time")
            self.assertEqual(response.headers["Retry-After"], "1")
            self.assertEqual(response.headers["RateLimit-Policy"],
                             '"concurrency";q=1;qu="concurrent-requests"')
            self.assertEqual(response.headers["RateLimit"], '"concurrency";r=0')
            self.assertEqual(self.models(bearer("secret of alice")).status, 200)
        wait_until(lambda: self.models(key).status == 200, "the key's place to be free")
        for _ in range(20):  # and it is free again after every answer
            response = self.models(key)
            self.assertEqual((response.status, response.headers["RateLimit"]),
                             (200, '"concurrency";r=0'))

    def test_pages_from_elsewhere(self):
        """A preflight has no key, and a refusal can be read."""
        response = ask(self.server, "OPTIONS", "/v1/generate", headers={
            "Origin": ORIGIN, "Access-Control-Request-Method": "POST"})
        self.assertEqual((response.status, response.body), (204, b""))
        response = self.models({"Origin": ORIGIN})
        self.problem(response, 401, "unauthorized")
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], ORIGIN)

    def test_log(self):
        """The name of the key, and never the key."""
        ask(self.server, "POST", "/v1/quote", {"steps": 3}, bearer("secret of alice", **JSON))
        line = self.log_of(self.server, "/v1/quote")
        self.assertEqual((line["client"], line["peer"]), ("alice", "127.0.0.1"))
        ask(self.server, "GET", "/logged")
        self.assertNotIn("client", self.log_of(self.server, "/logged"))
        self.assertFalse(any("secret" in line or hashed("secret of alice") in line
                             for line in self.server.lines))


class TestReload(AccessCase):

    def reload(self, server, event, count):
        """Send SIGHUP and wait for so many log lines of this kind."""
        server.process.send_signal(signal.SIGHUP)
        def lines():
            return [line for line in server.lines if f"event={event} " in line]
        wait_until(lambda: len(lines()) == count, event)
        return lines()[-1]

    def test_keys_come_and_go(self):
        keys = KeyFile("old", "both rate=2/h")
        server = self.start("--keys-file", keys.name)
        def status(name):
            return ask(server, "GET", "/v1/models", headers=bearer("secret of " + name)).status
        self.assertEqual([status(name) for name in ("old", "new", "both")], [200, 401, 200])
        keys.write("new", "both rate=2/h")
        self.assertIn("level=info", self.reload(server, "keys-read", 1))
        self.assertEqual([status(name) for name in ("old", "new")], [401, 200])
        keys.write_text("other " + hashed("secret of other") + "\nbroken\n")
        line = self.reload(server, "keys-stay", 1)
        self.assertIn("level=error", line)
        self.assertIn(keys.name + ":2: after the name", line)
        self.assertEqual([status(name) for name in ("new", "other")], [200, 401])
        keys.write_text("")
        self.assertIn("holds no key", self.reload(server, "keys-stay", 2))
        keys.write("both rate=2/h")
        self.reload(server, "keys-read", 2)
        self.assertEqual([status(name) for name in ("new", "both", "both")], [401, 200, 429])

    def test_requests_under_way_are_remembered(self):
        keys = KeyFile("other", "narrow concurrency=1")
        server = self.start("--keys-file", keys.name)
        key = bearer("secret of narrow", **JSON)
        def status():
            return ask(server, "GET", "/v1/models", headers=key).status
        with Client(server) as client:
            client.send("POST", "/v1/generate", ENDLESS, key)
            wait_until(lambda: status() == 429, "the key's place to be taken")
            keys.write("other")
            self.reload(server, "keys-read", 1)
            self.assertEqual(status(), 401)
            keys.write("other", "narrow concurrency=1")
            self.reload(server, "keys-read", 2)
            self.assertEqual(status(), 429)
        wait_until(lambda: status() == 200, "the key's place to be free")

    def test_without_keys(self):
        server = self.start()
        server.process.send_signal(signal.SIGHUP)
        self.assertEqual(ask(server, "GET", "/v1/models").status, 200)

    def test_bad_files_at_start(self):
        missing = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", "--keys-file",
                              "/nonexistent")
        keys = KeyFile("twice", "twice")
        twice = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", "--keys-file",
                            keys.name)
        for result, reason in [(missing, "/nonexistent: No such file"),
                               (twice, keys.name + ':3: there is a key \\"twice\\" already')]:
            self.assertEqual(result.returncode, 1)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertIn("event=cannot-start", result.stderr)
            self.assertIn(reason, result.stderr)


class TestOrigins(AccessCase):

    EXPOSED = ("Brickwork-Excess-Loss, Brickwork-Model-Digest, Brickwork-Request, Brickwork-Seed, "
               "ETag, Location, Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, "
               "Server-Timing, WWW-Authenticate, X-Request-Id, traceparent")

    def of_cors(self, response):
        return {name: value for name, value in response.headers.items()
                if name.startswith("Access-Control-") or name == "Vary"}

    def preflight(self, server, origin, path="/v1/generate"):
        return ask(server, "OPTIONS", path, headers={
            "Origin": origin, "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type"})

    def test_off(self):
        server = self.start()
        response = self.preflight(server, ORIGIN)
        self.problem(response, 405, "method-not-allowed")
        self.assertEqual(self.of_cors(response), {})
        self.problem(self.preflight(server, ORIGIN, "/nothing"), 404, "not-found")
        response = ask(server, "GET", "/v1/models", headers={"Origin": ORIGIN})
        self.assertEqual((response.status, self.of_cors(response)), (200, {}))

    def test_listed(self):
        server = self.start("--cors-origins", f"http://localhost:3000, {ORIGIN}")
        for origin in (ORIGIN, "http://localhost:3000"):
            for path in ("/v1/generate", "/livez", "/nothing"):
                response = self.preflight(server, origin, path)
                self.assertEqual((response.status, response.body), (204, b""))
                self.assertEqual(self.of_cors(response), {
                    "Vary": "Origin", "Access-Control-Allow-Origin": origin,
                    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE",
                    "Access-Control-Allow-Headers":
                        "Authorization, Content-Type, Idempotency-Key, If-None-Match, "
                        "Last-Event-ID, Prefer, X-Request-Id, traceparent",
                    "Access-Control-Max-Age": "7200"})
            for path, status in (("/v1/models", 200), ("/nothing", 404)):
                response = ask(server, "GET", path, headers={"Origin": origin})
                self.assertEqual(response.status, status)
                self.assertEqual(self.of_cors(response), {
                    "Vary": "Origin", "Access-Control-Allow-Origin": origin,
                    "Access-Control-Expose-Headers": self.EXPOSED})
        for origin in ("https://b.example", "null", ORIGIN + ":8443", ORIGIN.upper(), ""):
            response = self.preflight(server, origin)
            self.problem(response, 405, "method-not-allowed")
            self.assertEqual(self.of_cors(response), {"Vary": "Origin"})
            response = ask(server, "GET", "/v1/models", headers={"Origin": origin})
            self.assertEqual((response.status, self.of_cors(response)), (200, {"Vary": "Origin"}))
        response = ask(server, "GET", "/v1/models")
        self.assertEqual((response.status, self.of_cors(response)), (200, {"Vary": "Origin"}))
        response = ask(server, "OPTIONS", "/v1/models", headers={"Origin": ORIGIN})  # no preflight
        self.problem(response, 405, "method-not-allowed")

    def test_nobody_understands(self):
        """What never reaches a handler says the same as other answers, and is logged like them."""
        server = self.start("--cors-origins", ORIGIN, "--trusted-proxies", "127.0.0.1", "--max-body-bytes", "4096")
        trace = "4bf92f3577b34da6a3ce929d0e0e4736"
        fields = {"Origin": ORIGIN, "traceparent": f"00-{trace}-00f067aa0ba902b7-01", "X-Forwarded-For": "192.0.2.7"}
        for path, body, more, status, slug in (
                ("/v1/generate", {"prompt": 5000 * "x"}, {}, 413, "body-too-large"),
                ("/v1/generate", b"", {"Content-Length": "99999999"}, 413, "body-too-large"),
                ("/" + 3000 * "x", QUICK, {}, 414, "path-too-long"),
                ("/v1/generate", QUICK, {"X-Other": 9000 * "x"}, 431, "headers-too-large"),
                ("/v1/%2", QUICK, {}, 400, "malformed")):
            with self.subTest(status=status, slug=slug):
                response = ask(server, "POST", path, body, {**JSON, **fields, **more})
                self.problem(response, status, slug)
                self.assertEqual(self.of_cors(response), {
                    "Vary": "Origin", "Access-Control-Allow-Origin": ORIGIN,
                    "Access-Control-Expose-Headers": self.EXPOSED})
                self.assertRegex(response.headers["traceparent"], f"^00-{trace}-")
                line = server.wait_for_log(f"event=request id={response.headers['X-Request-Id']} ")
                self.assertIn(f" peer=192.0.2.7 trace={trace} ", line)

    def test_any(self):
        server = self.start("--cors-origins", "*")
        response = self.preflight(server, "null")
        self.assertEqual(response.status, 204)
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "*")
        response = ask(server, "POST", "/v1/generate", QUICK, {**JSON, "Origin": "https://x"})
        self.assertEqual(response.status, 200)
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "*")
        self.assertNotIn("Access-Control-Allow-Credentials", response.headers)


class TestProxies(AccessCase):

    def peer(self, server, path, *forwarded):
        """Whom the log names for a request with these X-Forwarded-For fields."""
        fields = [b"X-Forwarded-For: " + field.encode() for field in forwarded]
        with Raw(server) as raw:
            raw.send(raw_request(b"GET", path.encode(), *fields))
            raw.receive("GET", path)
        return self.log_of(server, path)["peer"]

    def test_nobody_is_trusted(self):
        server = self.start()
        self.assertEqual(self.peer(server, "/a", "1.2.3.4"), "127.0.0.1")

    def test_trusted(self):
        server = self.start("--trusted-proxies", "127.0.0.0/8, 10.0.0.0/8, ::1")
        self.assertEqual(self.peer(server, "/a"), "127.0.0.1")
        self.assertEqual(self.peer(server, "/b", "1.2.3.4"), "1.2.3.4")
        self.assertEqual(self.peer(server, "/c", "6.6.6.6, 1.2.3.4, 10.1.1.1"), "1.2.3.4")
        self.assertEqual(self.peer(server, "/d", "6.6.6.6", "2001:db8::1", "10.1.1.1"),
                         "2001:db8::1")
        self.assertEqual(self.peer(server, "/e", "1.2.3.4, nonsense"), "127.0.0.1")
        self.assertEqual(self.peer(server, "/f", "6.6.6.6, " * 800 + "1.2.3.4"), "1.2.3.4")

    def test_someone_else_is_trusted(self):
        server = self.start("--trusted-proxies", "10.0.0.0/8")
        self.assertEqual(self.peer(server, "/a", "1.2.3.4"), "127.0.0.1")


class TestTrace(AccessCase):

    TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

    def trace(self, server, path, given=None):
        """(trace, span, flags) of the answer, after a look at the log."""
        response = ask(server, "GET", path, headers={"traceparent": given} if given else {})
        fields = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})",
                              response.headers["traceparent"]).groups()
        self.assertEqual(self.log_of(server, path)["trace"], fields[0])
        return fields

    def test_traces(self):
        server = self.start()
        for path, version, flags, ours in [("/a", "00", "01", "01"), ("/b", "00", "00", "00"),
                                           ("/c", "cc", "ff-more", "01")]:
            trace, span, sampled = self.trace(server, path,
                                              f"{version}-{self.TRACE}-{self.SPAN}-{flags}")
            self.assertEqual((trace, sampled), (self.TRACE, ours))
            self.assertNotEqual(span, self.SPAN)
        seen = {self.TRACE}
        for path, given in [("/d", None), ("/e", None), ("/f", f"ff-{self.TRACE}-{self.SPAN}-01"),
                            ("/g", f"00-{self.TRACE}-{self.SPAN}-01-more"),
                            ("/h", f"00-{'0' * 32}-{self.SPAN}-01"), ("/i", "nonsense")]:
            trace, _, sampled = self.trace(server, path, given)
            self.assertNotIn(trace, seen)
            self.assertEqual(sampled, "00")
            seen.add(trace)


class TestAdmin(AccessCase):

    def test_listener(self):
        keys = KeyFile("alice")
        server = self.start("--admin-listen", "127.0.0.1:0", "--keys-file", keys.name,
                            "--cors-origins", "*")
        admin = Admin(server)
        self.assertNotEqual(admin.address, server.address)
        for path in ("/livez", "/readyz", "/metrics"):
            response = ask(admin, "GET", path, headers={"Origin": ORIGIN})
            self.assertEqual(response.status, 200)
            self.assertNotIn("Access-Control-Allow-Origin", response.headers)
        self.assertEqual(ask(admin, "HEAD", "/metrics").status, 200)
        self.problem(ask(admin, "POST", "/metrics"), 405, "method-not-allowed")
        for path in ("/v1/models", "/openapi.json", "/nothing"):
            self.problem(ask(admin, "GET", path, headers=bearer("secret of alice")), 404,
                         "not-found")
        self.problem(ask(admin, "POST", "/v1/generate", QUICK), 404, "not-found")
        for path in ("/livez", "/readyz"):
            self.assertEqual(ask(server, "GET", path).status, 200)
        for headers in ({}, bearer("secret of alice")):
            self.problem(ask(server, "GET", "/metrics", headers=headers), 404, "not-found")

    def test_it_stays_while_the_server_drains(self):
        server = self.start("--admin-listen", "127.0.0.1:0")
        admin = Admin(server)
        def is_busy():
            return b"\nbrickwork_in_progress_pictures 8\n" in ask(admin, "GET", "/metrics").body
        with Client(server) as client:
            client.send("POST", "/v1/generate", ENDLESS, JSON)
            wait_until(is_busy, "8 pictures in progress")
            server.signal()
            server.wait_for_log("event=draining")
            self.assertTrue(is_busy())
            self.problem(ask(admin, "GET", "/readyz"), 503, "draining")
            self.assertEqual(ask(admin, "GET", "/livez").status, 200)
        self.assertEqual(server.wait(), 0)

    def test_address_in_use(self):
        server = self.start()
        taken = "%s:%d" % server.address
        result = run_program(SERVER, "--model", TINY, "--listen", "127.0.0.1:0", "--admin-listen",
                             taken)
        self.assertEqual(result.returncode, 1)
        self.assertIn(f"cannot listen on {taken}: Address already in use", result.stderr)


class TestWarning(AccessCase):

    def warned(self, *flags):
        """Is there a warning? Nothing is logged between it and the line that says where it listens."""
        server = self.start(*flags)
        return any(re.search("level=warn event=open-access", line) for line in server.lines)

    def test_open_access(self):
        keys = KeyFile("alice")
        self.assertTrue(self.warned("--listen", "0.0.0.0:0"))
        self.assertFalse(self.warned("--listen", "0.0.0.0:0", "--keys-file", keys.name))
        self.assertFalse(self.warned("--listen", "127.0.0.2:0"))
        self.assertFalse(self.warned("--admin-listen", "0.0.0.0:0"))


if __name__ == "__main__":
    unittest.main()
