"""HTTP as it should not be spoken: each mistake gets its status and the service lives on."""
import json
import subprocess
import tempfile
import unittest
import urllib.parse

from support import ENDLESS, JSON, QUICK, Client, Raw, Server, ServerCase, ask, raw_request

BODY = json.dumps(QUICK).encode()
TYPE = b"Content-Type: application/json"
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked"
GENERATE = "/v1/generate"


def chunked(body, piece=4096):
    """The body in the chunked transfer coding."""
    pieces = [body[i:i + piece] for i in range(0, len(body), piece)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def post(*fields, body=BODY, host=b"Host: test\r\n"):
    return raw_request(b"POST", b"/v1/generate", TYPE, *fields, body=body, host=host)


class ProtocolCase(ServerCase):
    """After every test the server still works and nothing is left in progress."""
    flags = ("--request-timeout-ms", 5000)

    def tearDown(self):
        self.server.wait_for_pictures(0)
        self.assertEqual(self.generate(QUICK).status, 200)

    def exchange(self, data, path="/livez", method="GET"):
        """Send bytes on a new connection; the answer to them as that request."""
        with Raw(self.server) as raw:
            raw.send(data)
            return raw.receive(method, path)

    def refused_post(self, data, status):
        """A POST that is refused; the connection is closed, for nobody knows where it ends."""
        with Raw(self.server) as raw:
            raw.send(data)
            response = raw.receive("POST", GENERATE)
            self.refused(response, status)
            self.assertTrue(response.will_close)
            self.assertEqual(raw.read_to_end(), b"")


class TestFraming(ProtocolCase):
    """Requests that two servers could read differently are refused."""

    def test_length_twice(self):
        self.refused_post(post(LENGTH, b"Content-Length: 3"), 400)
        self.refused_post(post(LENGTH, LENGTH), 400)

    def test_length_and_chunks(self):
        self.refused_post(post(LENGTH, CHUNKED, body=chunked(BODY)), 400)
        self.refused_post(post(CHUNKED, LENGTH, body=chunked(BODY)), 400)

    def test_other_transfer_coding(self):
        """At once, not when the request's time is up: the client waits."""
        self.refused_post(post(b"Transfer-Encoding: gzip"), 400)

    def test_chunks(self):
        answer = self.exchange(post(CHUNKED, body=chunked(BODY, 5)), GENERATE, "POST")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.body, self.picture(QUICK))

    def test_control_characters_in_a_field(self):
        self.refused_post(post(LENGTH, b"X-Other: a\rb"), 400)
        self.refused_post(post(LENGTH, b"X-Other: a\0b"), 400)

    def test_space_before_colon(self):
        self.refused_post(post(b"Content-Length : %d" % len(BODY), LENGTH), 400)

    def test_nameless_field(self):
        """It must not pass for the empty line that ends the header."""
        with Raw(self.server) as raw:
            raw.send(raw_request(b"GET", b"/livez", b": value", b"Connection: close"))
            self.assertRegex(raw.read_to_end(), b"^HTTP/1.1 400 ")

    def test_host(self):
        request = raw_request(b"GET", b"/livez", host=b"")
        self.refused(self.exchange(request), 400)
        request = raw_request(b"GET", b"/livez", b"Host: other")
        self.refused(self.exchange(request), 400)

    def test_http_1_0(self):
        with Raw(self.server) as raw:
            raw.send(b"GET /livez HTTP/1.0\r\n\r\n")
            self.assertEqual(raw.receive().status, 200)
            self.assertEqual(raw.read_to_end(), b"", "without keep-alive it closes")

    def test_not_http(self):
        """Whatever it is, the connection is closed and nothing else happens."""
        for data in [b"\r\n\r\n\r\n", b"GARBAGE\r\n\r\n", b"\0" * 100,
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS says hello
                     b"GET\r\n\r\n", b"GET /livez HTTP/9.9\r\nHost: test\r\n\r\n",
                     b"\xff" * 20_000]:
            with self.subTest(data[:20]), Raw(self.server) as raw:
                raw.send(data)
                raw.finish()
                self.assertNotIn(b" 200 ", raw.read_to_end())

    def test_bad_lengths(self):
        """The HTTP library answers these itself, so only the status is ours to promise."""
        for value in [b"-1", b"+20", b"20x", b"0x20", b"", b"1 2"]:
            with self.subTest(value), Raw(self.server) as raw:
                raw.send(post(b"Content-Length: " + value))
                self.assertRegex(raw.read_to_end(), b"^HTTP/1.1 4[0-9][0-9] ")

    def test_bad_chunks(self):
        for body in [b"zz\r\n", b"-1\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n",
                     b"ffffffffffffffffffff\r\nhello\r\n"]:
            with self.subTest(body), Raw(self.server) as raw:
                raw.send(post(CHUNKED, body=body))
                self.assertRegex(raw.read_to_end(), b"^HTTP/1.1 4[0-9][0-9] ")

    def test_pipelined(self):
        """Four requests in one packet, answered in order, the slow one included."""
        questions = [("GET", "/livez"), ("POST", GENERATE), ("GET", "/nothing"), ("HEAD", "/livez")]
        with Raw(self.server) as raw:
            raw.send(raw_request(b"GET", b"/livez", b"X-Request-Id: one") +
                     post(LENGTH, b"X-Request-Id: two") +
                     raw_request(b"GET", b"/nothing", b"X-Request-Id: three") +
                     raw_request(b"HEAD", b"/livez", b"X-Request-Id: four", b"Connection: close"))
            answers = raw.receive_all(*questions)
        self.assertEqual([a.status for a in answers], [200, 200, 404, 200])
        self.assertEqual([a.headers["X-Request-Id"] for a in answers],
                         ["one", "two", "three", "four"])
        self.assertEqual(answers[1].body, self.picture(QUICK))


class TestTargets(ProtocolCase):
    """Paths and methods."""

    def test_unknown_paths(self):
        for path in ["/v0", "/v1", "/v1/generate/", "//livez", "/livez/", "/LIVEZ", "/..%2flivez",
                     "/livez%0a", "/%e2%82%ac", "/../livez"]:
            with self.subTest(path):
                self.refused(ask(self.server, "GET", path), 404)

    def test_escapes(self):
        self.assertEqual(ask(self.server, "GET", "/liv%65z").status, 200)
        self.assertEqual(ask(self.server, "GET", "/livez?a=%41&b=%C3%BC").status, 200)
        for broken in ("/livez?a=%zz", "/livez?b=%00", "/livez?%4"):
            self.assertEqual(ask(self.server, "GET", broken).status, 400)

    def test_bad_escapes(self):
        for path in ["/livez%00", "/%00", "/livez%", "/livez%2", "/livez%zz", "/%u0041", "/%-1"]:
            with self.subTest(path):
                self.refused(ask(self.server, "GET", path), 400)

    def test_path_length(self):
        self.refused(ask(self.server, "GET", "/" + 2047 * "x"), 404)
        self.refused(ask(self.server, "GET", "/" + 2048 * "x"), 414)
        self.refused(ask(self.server, "GET", "/" + 3000 * "x"), 414)
        self.refused(ask(self.server, "GET", "/" + 1000 * "%41"), 414)

    def test_methods(self):
        for path, allowed in [("/livez", "GET, HEAD"), ("/metrics", "GET, HEAD"),
                              ("/v1/models", "GET, HEAD"), (GENERATE, "POST, GET, HEAD"),
                              ("/v1/quote", "POST"), ("/", "GET, HEAD")]:
            for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get"]:
                with self.subTest(f"{method} {path}"):
                    response = ask(self.server, method, path)
                    self.refused(response, 405)
                    self.assertEqual(response.headers["Allow"], allowed)
        self.assertEqual(ask(self.server, "HEAD", "/v1/quote").status, 405)

    def test_head(self):
        """HEAD is GET without the body, the length included."""
        for path in ["/", "/livez", "/readyz", "/v1/models", "/openapi.json",
                     GENERATE + "?seed=1&steps=2", GENERATE]:  # that one is refused
            with self.subTest(path):
                head, get = ask(self.server, "HEAD", path), ask(self.server, "GET", path)
                self.assertEqual((head.status, head.body), (get.status, b""))
                self.assertEqual(head.headers["Content-Length"], str(len(get.body)))
                self.assertEqual(head.headers["Content-Type"], get.headers["Content-Type"])

    def test_head_sends_no_bytes(self):
        """And none are counted."""
        self.assertEqual(ask(self.server, "HEAD", "/docs", headers={"X-Request-Id": "bare"}).status, 200)
        self.assertRegex(self.server.wait_for_log("bare"), " bytes=0 ")

    def test_an_unchanged_page(self):
        """AddressSanitizer says at the end of this suite if anything of it is left over."""
        page = ask(self.server, "GET", "/")
        self.assertEqual((page.status, page.type), (200, "text/html"))
        again = ask(self.server, "GET", "/", None, {"If-None-Match": page.headers["ETag"]})
        self.assertEqual((again.status, again.body, again.headers["ETag"]), (304, b"", page.headers["ETag"]))

    def test_nothing_follows_a_304(self):
        """Its header is all of it: the next byte on the connection is the next answer's."""
        length = str(len(ask(self.server, "GET", "/").body))
        for method in ["GET", "HEAD"]:
            with self.subTest(method), Raw(self.server) as raw:
                raw.send(raw_request(method.encode(), b"/", b"If-None-Match: *"))
                raw.send(raw_request(b"GET", b"/livez", b"Connection: close"))
                known, after = raw.receive_all((method, "/"), ("GET", "/livez"))
                self.assertEqual((known.status, known.headers["Content-Length"]), (304, length))
                self.assertEqual(after.status, 200)

    def test_a_304_of_unknown_length(self):
        """No picture is made to know how long it would be."""
        with Raw(self.server) as raw:
            raw.send(raw_request(b"GET", b"/v1/generate?seed=1&steps=2", b"If-None-Match: *"))
            header, _, rest = raw.read_to_end().partition(b"\r\n\r\n")
        self.assertRegex(header, b"^HTTP/1.1 304 ")
        self.assertNotRegex(header.lower(), b"\ncontent-length:|\ntransfer-encoding:")
        self.assertEqual(rest, b"")


class TestHeaders(ProtocolCase):
    """Header fields too large, and the request's id."""

    def test_too_large(self):
        self.refused(self.generate(QUICK, {**JSON, "X-Other": 9000 * "x"}), 431)
        many = {f"X-{i}": 90 * "x" for i in range(95)}
        self.refused(self.generate(QUICK, {**JSON, **many}), 431)

    def test_large_enough(self):
        self.assertEqual(self.generate(QUICK, {**JSON, "X-Other": 7900 * "x"}).status, 200)

    def test_room_for_the_answer(self):
        """Whatever a head is made of, it is answered, or refused before there is any work."""
        kinds = {"one field": lambda n: (b"", [b"X: " + n * b"x"]), "fields": lambda n: (b"", [b"X: y"] * (n // 6)),
                 "one cookie": lambda n: (b"", [b"Cookie: a=" + n * b"x"]),
                 "cookies": lambda n: (b"", [b"Cookie: " + b"a=b; " * (n // 5)]),
                 "parameters": lambda n: (b"&a=b" * (n // 40), []), "one parameter": lambda n: (b"&a=" + n * b"x", [])}
        for path in ["/livez?", "/?", "/v1/generate?seed=1&steps=2&skip=" + urllib.parse.quote(json.dumps(
                {"schedule": [{"until": 0.4 + i / 100, "skip": [0]} for i in range(40)]}))]:
            answers = {}
            for name, made in kinds.items():
                for size in range(256, 15_000, 997):
                    query, fields = made(size)
                    data = raw_request(b"GET", path.encode() + query, b"Connection: close", *fields)
                    with self.subTest(path=path[:12], name=name, size=size), Raw(self.server) as raw:
                        raw.send(data)
                        self.assertRegex(got := raw.read_to_end(), b"^HTTP/1.1 (200|422|431) ")
                        answers[name, size] = got.split()[1]
                        if size < 1000:
                            self.assertNotEqual(answers[name, size], b"431")
            self.assertEqual(set(answers.values()) - {b"422"}, {b"200", b"431"})

    def test_spaces_after_values(self):
        """They are no part of them (RFC 9110, section 5.5)."""
        with Raw(self.server) as raw:
            raw.send(raw_request(b"POST", b"/v1/generate", TYPE + b" \t", b"Content-Length: %d" % len(BODY),
                                 b"Expect: 100-continue ", b"X-Request-Id: spaced ", host=b"Host: test \t\r\n"))
            self.assertEqual(raw.socket.recv(25), b"HTTP/1.1 100 Continue\r\n\r\n")
            raw.send(BODY)
            answer = raw.receive("POST", GENERATE)
            self.assertEqual((answer.status, answer.headers["X-Request-Id"]), (200, "spaced"))

    def test_far_too_large(self):
        """More than a connection's memory: the HTTP library answers, so only the status counts."""
        for data in [raw_request(b"GET", b"/livez", b"X-Other: " + 40_000 * b"x"),
                     raw_request(b"GET", b"/livez", *[b"X: y"] * 5000)]:
            with Raw(self.server) as raw:
                raw.send(data)
                self.assertRegex(raw.read_to_end(), b"^(HTTP/1.1 431 |$)")

    def test_id_is_echoed(self):
        for identity in ["a", "A-b_c.9", "x" * 64]:
            response = ask(self.server, "GET", "/livez", headers={"X-Request-Id": identity})
            self.assertEqual(response.headers["X-Request-Id"], identity)

    def test_unfit_id_is_replaced(self):
        for identity in ["", "x" * 65, "a b", "a/b", "a\"b", "a=b", "ä", "a;b", "{}", "a\tb"]:
            with self.subTest(identity):
                response = ask(self.server, "GET", "/livez", headers={"X-Request-Id": identity})
                self.assertRegex(response.headers["X-Request-Id"], "^[0-9a-f]{16}$")

    def test_new_ids_differ(self):
        ids = {ask(self.server, "GET", "/livez").headers["X-Request-Id"] for _ in range(20)}
        self.assertEqual(len(ids), 20)

    def test_paths_cannot_forge_log_lines(self):
        ask(self.server, "GET", "/%0alevel=error%20event=forged%22")
        line = self.server.wait_for_log("forged")
        self.assertRegex(line, r'^time=\S+ level=info event=request ')


class TestBodies(ProtocolCase):
    """Bodies too large, cut short or slow. curl is a client that believes in early answers."""

    def curl(self, size, *options):
        with tempfile.NamedTemporaryFile() as body:
            body.write(b" " * size)
            body.flush()
            url = "http://%s:%d/v1/generate" % self.server.address
            return subprocess.run(["curl", "-sS", "-i", "--http1.1", "--max-time", "60", url,
                                   "-H", "Content-Type: application/json",
                                   "--data-binary", "@" + body.name, *options],
                                  capture_output=True, text=True, check=False)

    def test_one_megabyte(self):
        """The 413 reaches the client however the body is announced."""
        for options in [["-H", "Expect:"], ["-H", "Expect: 100-continue"],
                        ["-H", "Transfer-Encoding: chunked"],
                        ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]]:
            with self.subTest(" ".join(options)):
                result = self.curl(1 << 20, *options)
                self.assertIn("HTTP/1.1 413 ", result.stdout, result.stderr)
                self.assertIn("body-too-large", result.stdout)

    def test_one_megabyte_from_a_client_that_sends_first(self):
        """It reads only when the whole body is out, so the server has to take it all."""
        response = self.generate(b" " * (1 << 20), JSON)
        self.refused(response, 413)
        self.assertTrue(response.will_close)

    def test_twenty_megabytes(self):
        """The connection may break under the client; what it must not get is success."""
        for options in [[], ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]]:
            result = self.curl(20 << 20, *options)
            self.assertTrue("HTTP/1.1 413 " in result.stdout or result.returncode, result.stdout)

    def test_continue(self):
        with Raw(self.server) as raw:
            raw.send(post(LENGTH, b"Expect: 100-continue", body=b""))
            self.assertEqual(raw.socket.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            raw.send(BODY)
            self.assertEqual(raw.receive("POST", GENERATE).status, 200)

    def test_cut_short(self):
        """The client dies in the middle of header, body and chunk; none of it is a request."""
        whole, before = post(LENGTH), self.server.metrics()["pictures_total{outcome=\"done\"}"]
        for data in [whole[:10], whole[:-5], whole[:whole.index(b"\r\n\r\n")],
                     post(CHUNKED, body=chunked(BODY, 5)[:-9])]:
            with Raw(self.server) as raw:
                raw.send(data)
        with Raw(self.server) as raw:
            raw.send(whole[:-5])
            raw.finish()
            self.assertNotIn(b" 200 ", raw.read_to_end())
        self.assertEqual(self.server.metrics()["pictures_total{outcome=\"done\"}"], before)

    def test_body_on_a_get(self):
        answer = self.exchange(raw_request(b"GET", b"/livez", b"Content-Length: 5", body=b"hello"))
        self.assertEqual(answer.status, 200)

    def test_half_closed_client(self):
        """Who closes the sending side while waiting for a picture counts as gone."""
        with Raw(self.server) as raw:
            raw.send(post(b"Content-Length: %d" % len(json.dumps(ENDLESS)), b"X-Request-Id: half",
                          body=json.dumps(ENDLESS).encode()))
            self.server.wait_for_pictures(ENDLESS["n"])
            raw.finish()
            self.assertEqual(raw.read_to_end(), b"")
        self.assertIn("status=499", self.server.wait_for_log("id=half"))


class TestSlowClients(ProtocolCase):
    """Whoever takes longer than the request timeout loses the connection."""
    flags = ("--request-timeout-ms", 300)

    def test_silent(self):
        with Raw(self.server) as raw:
            self.assertEqual(raw.read_to_end(), b"")

    def test_idle_between_requests(self):
        with Raw(self.server) as raw:
            raw.send(raw_request(b"GET", b"/livez"))
            self.assertEqual(raw.receive().status, 200)
            self.assertEqual(raw.read_to_end(), b"")

    def test_drop_by_drop(self):
        """Each byte is activity, yet the request as a whole is late."""
        for data in [raw_request(b"GET", b"/livez", b"X-Other: " + b"x" * 8000),
                     post(b"Content-Length: 60000", body=b" " * 60_000)]:
            with self.subTest(data[:4]), Raw(self.server) as raw:
                raw.socket.settimeout(0.05)  # the pace of the drops
                self.assertTrue(self.is_dropped(raw, data), "the server waited for all of it")

    def is_dropped(self, raw, data):
        for i in range(2000):  # at this pace 100 s
            try:
                raw.send(data[i:i + 1])
                if raw.socket.recv(1) == b"":
                    return True
            except TimeoutError:
                continue
            except ConnectionError:
                return True
        return False

    def test_long_work_is_not_slow(self):
        """The time counts for the request, not for its answer."""
        with Client(self.server) as client:
            answer = client.ask("POST", GENERATE, {"steps": 256, "n": 2, "seed": 1}, JSON)
            self.assertEqual(answer.status, 200)


class TestManyConnections(unittest.TestCase):
    """With all places taken the next client waits in the backlog until one is free."""

    def test_place_becomes_free(self):
        server = Server("--connections", 8)
        self.addCleanup(server.stop)
        places = [Client(server) for _ in range(8)]
        for place in places:
            self.assertEqual(place.ask("GET", "/livez").status, 200)
        with Client(server) as late:
            late.send("GET", "/livez")
            places[3].close()
            self.assertEqual(late.receive().status, 200)
        for place in places:
            place.close()


if __name__ == "__main__":
    unittest.main()
