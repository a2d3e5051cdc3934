"""Requests that two servers could read differently: each is refused and its connection closed, or is
one request beyond doubt. What comes after it on the connection tells: a smuggled request that gets an
answer of its own was smuggled."""
import json
import re
import unittest

from support import QUICK, Raw, ServerCase, raw_request

BODY = json.dumps(QUICK).encode()
COUNT = len(BODY)
LENGTH = b"Content-Length: %d" % COUNT
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (COUNT, BODY)
SMUGGLED = raw_request(b"GET", b"/livez", b"X-Request-Id: smuggled", b"Connection: close")
GENERATE = "/v1/generate"

FIELD = "a header field is malformed"
LINE = "the request line is malformed"
CODING = "chunked is the only transfer coding read here"
TWICE = "the length of the body is given more than once"
HOST = "the Host field is malformed"
HOSTS = "there has to be exactly one Host field"
TARGET = "the target is neither a path nor a URL of the Host"

# Fields that may or may not be a Transfer-Encoding, and what is said of them.
CODINGS = [
    (b"Transfer-Encoding : chunked", FIELD), (b"Transfer-Encoding\t: chunked", FIELD),
    (b" Transfer-Encoding: chunked", FIELD), (b"\tTransfer-Encoding: chunked", FIELD),
    (b"Transfer-Encoding:\r\n chunked", FIELD), (b"X: y\r\n Transfer-Encoding: chunked", FIELD),
    (b"X: y\rTransfer-Encoding: chunked", FIELD), (b"Transfer-Encoding: chunked\rx", FIELD),
    (b"Transfer-Encoding: chunked\r", FIELD), (b"Transfer_Encoding: chunked", FIELD),
    (b"transfer_encoding: chunked", FIELD), (b"Transfer-Encoding:\x0bchunked", FIELD),
    (b"Transfer-Encoding: chunked\x0c", FIELD), (b"Transfer-Encoding: xchunked", CODING),
    (b"Transfer-Encoding: chunked, identity", CODING),
    (b"Transfer-Encoding: identity, chunked", CODING),
    (b"Transfer-Encoding: chunked, chunked", CODING), (b"Transfer-Encoding: identity", CODING),
    (b"Transfer-Encoding: chunked ", CODING), (b"Transfer-Encoding: chunked\t", CODING),
    (b"Transfer-Encoding: \"chunked\"", CODING), (b"Transfer-Encoding: chunked;q=1", CODING),
    (b"Transfer-Encoding: chunked,", CODING), (b"Transfer-Encoding: ,chunked", CODING),
    (b"Transfer-Encoding:", CODING), (b"Transfer-Encoding: \xa0chunked", CODING),
    (b"Transfer-Encoding: gzip", CODING), (b"Transfer-Encoding: cow", CODING),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", CODING),
    (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", CODING),
]

# Lengths that no two servers need agree on. The HTTP library answers these before our code runs: it sends
# the head of its answer twice, so only what stands first is certain.
LENGTHS = [b"+%d", b"-%d", b"0x%x", b"%d, 20", b"%d,20", b"%d.", b"%d ", b"%d\t", b"%d x", b"%de0", b"'%d'", b"%d;",
           b"\x0b%d", b"%d\x0b", b"\xc2\xa0%d", b"%d\r", b"%d_0"]
HUGE = [b"18446744073709551636", b"99999999999999999999999"]

# Whole heads of a GET, and what is said of them.
HEADS = [
    (b"GET /livez HTTP/1.1\nHost: t\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\nHost: t\n\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\n\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\nX: y\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\rX: y\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\n\rHost: t\n\r\n\r", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: \0\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: a\0b\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\0\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\n\0\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: y\r\n z\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: y\r\n\tz\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: y\r\n \r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\n Host: t\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost:\r\n t\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost : t\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX Y: z\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\n: x\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX(: y\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX\xe4: y\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: \x1b[2J\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: \x7f\r\n\r\n", FIELD),
    (b"GET /livez\0 HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez\0x HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez?a\0b HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET\0 /livez HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET  /livez HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez  HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez x HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez HTTP/1.1 HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez?a b HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /liv\rez HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez?\x01 HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez?\t HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET /livez#x HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"G\x01T /livez HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"G(T /livez HTTP/1.1\r\nHost: t\r\n\r\n", LINE),
    (b"GET http://other/livez HTTP/1.1\r\nHost: t\r\n\r\n", TARGET),
    (b"GET http:///livez HTTP/1.1\r\nHost:\r\n\r\n", TARGET),
    (b"GET livez HTTP/1.1\r\nHost: t\r\n\r\n", TARGET),
    (b"GET * HTTP/1.1\r\nHost: t\r\n\r\n", TARGET),
    (b"CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n", TARGET),
    (b"GET /livez HTTP/1.1\r\n\r\n", HOSTS),
    (b"GET /livez HTTP/1.2\r\n\r\n", HOSTS),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nhost: t\r\n\r\n", HOSTS),
    (b"GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n", HOST),
    (b"GET /livez HTTP/1.1\r\nHost: a, b\r\n\r\n", HOST),
    (b"GET /livez HTTP/1.1\r\nHost: a@b\r\n\r\n", HOST),
    (b"GET /livez HTTP/1.1\r\nHost: a/b\r\n\r\n", HOST),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", TWICE),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nContent_Length: 3\r\n\r\n", FIELD),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n\r\n",
     "the client waits to send a body, and there is none"),
    (b"GET /livez HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
     "the client waits to send a body, and there is none"),
]

# Heads that the HTTP library cannot read, so that it answers or closes by itself.
UNREADABLE = [
    b"GET /livez HTTP/1.1\rHost: t\r\n\r\n", b"GET /livez HTTP/1.1\0\r\nHost: t\r\n\r\n",
    b"GET /livez HTTP/1.1\0\nHost: t\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: t\r\nX\0: y\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: t\r\nX\r\n\r\n",
    b"GET /livez HTTP/1.1\r\nHost: t\r\n\r\r\n", b"GET /livez\r\n", b"GET /livez\r\n\r\n",
    b"GET\t/livez\tHTTP/1.1\r\nHost: t\r\n\r\n", b" GET /livez HTTP/1.1\r\nHost: t\r\n\r\n",
    b" /livez HTTP/1.1\r\nHost: t\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    *[b"GET /livez %s\r\nHost: t\r\n\r\n" % version
      for version in [b"HTTP/1.10", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1.1x", b"HTTP /1.1",
                      b"HTTP/01.1", b"XTTP/1.1", b"HTTP/1.", b"HTTP/1", b"HTTP/1,1"]],
]

# Bodies in chunks that are taken, though some are not as they should be...
CHUNKED = [
    CHUNKS, b"%x;a=b\r\n%s\r\n0;c\r\n\r\n" % (COUNT, BODY), b"%x;a\n%s\r\n0\r\n\r\n" % (COUNT, BODY),
    b"%x\n%s\n0\n\n" % (COUNT, BODY), b"%x\r\n%s\r\n0\r\n\n" % (COUNT, BODY), b"000%x\r\n%s\r\n000\r\n\r\n" % (COUNT, BODY),
    b"%X\r\n%s\r\n0\r\nContent-Length: 5\r\nHost: x\r\n\r\n" % (COUNT, BODY),
    b"%x\r\n%s\r\n0\r\nX: y\r\n z\r\n\r\n" % (COUNT, BODY), b"%x\r\n%s\r\n0\r\nX: \0\r\n\r\n" % (COUNT, BODY),
    b"%x;%s\r\n%s\r\n0\r\n\r\n" % (COUNT, 5000 * b"a", BODY),
]
# ... and that are not.
BAD_CHUNKS = [
    b"%x \r\n%s\r\n0\r\n\r\n", b" %x\r\n%s\r\n0\r\n\r\n", b"%x\t\r\n%s\r\n0\r\n\r\n", b"0x%x\r\n%s\r\n0\r\n\r\n",
    b"+%x\r\n%s\r\n0\r\n\r\n", b"-%x\r\n%s\r\n0\r\n\r\n", b"%xg\r\n%s\r\n0\r\n\r\n", b"%x_0\r\n%s\r\n0\r\n\r\n",
    b"%x\0\r\n%s\r\n0\r\n\r\n", b"%x\r%s\r\n0\r\n\r\n", b"%x\r\r\n%s\r\n0\r\n\r\n", b"%x\r\n%s\r0\r\n\r\n",
    b"%x\r\n%s0\r\n\r\n", b"%x\r\n%sXX0\r\n\r\n", b"%x\r\n%sXXXX\r\n0\r\n\r\n", b"%x\r\n%s\r\n0\r\nfoo\r\n\r\n",
    b"%x\r\n%s\r\n0\r\nGET /livez HTTP/1.1\r\nHost: t\r\n\r\n", b"%x;a=\"\r\n\"\r\n%s\r\n0\r\n\r\n",
    b"1000000000000000%x\r\n%s\r\n0\r\n\r\n",
]


def post(field, body):
    return raw_request(b"POST", b"/v1/generate", b"Content-Type: application/json", field, body=body)


class TestSmuggling(ServerCase):
    """The request timeout is long, so whatever closes a connection is not that."""

    def answers(self, data):
        """(statuses in order, everything that came) to that request with another one behind it."""
        with Raw(self.server) as raw:
            raw.send(data + SMUGGLED)
            received = raw.read_to_end()
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]
        return statuses, received

    def assert_refused(self, data, detail, path="/livez", method="GET"):
        """400 with a problem that says so and names the request; then the connection is closed."""
        with Raw(self.server) as raw:
            raw.send(data + SMUGGLED)
            response = raw.receive(method, path)
            problem = self.refused(response, 400)
            self.assertEqual(problem["detail"], detail)
            self.assertEqual(problem["instance"], response.headers["X-Request-Id"])
            self.assertTrue(response.will_close)
            self.assertEqual(raw.read_to_end(), b"")

    def test_transfer_codings(self):
        """Alone with chunks, after and before a length, and with a length of nothing."""
        for field, detail in CODINGS:
            for data in [post(field, CHUNKS), post(LENGTH + b"\r\n" + field, BODY),
                         post(field + b"\r\n" + LENGTH, BODY), post(b"Content-Length: 0\r\n" + field, b"")]:
                with self.subTest(data):
                    self.assert_refused(data, detail, GENERATE, "POST")

    def test_length_and_chunks(self):
        """Both fields are good; a body in chunks that ends is refused at its end."""
        for fields in [LENGTH + b"\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\n" + LENGTH,
                       b"Content-Length: 3\r\nTransfer-Encoding: CHUNKED",
                       b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                       LENGTH + b"\r\n" + LENGTH, LENGTH + b"\r\nContent-Length: 3"]:
            chunked = b"ransfer" in fields
            with self.subTest(fields):
                self.assert_refused(post(fields, CHUNKS if chunked else BODY), TWICE, GENERATE, "POST")

    def test_length_and_broken_chunks(self):
        """What the length announces is not chunks: the HTTP library refuses, once."""
        for field in [b"Transfer-Encoding: chunked", b"Transfer-Encoding:\tchunked", b"TRANSFER-ENCODING: cHunKed"]:
            for length in [LENGTH, b"Content-Length: 0"]:
                with self.subTest(field):
                    self.assertEqual(self.answers(post(length + b"\r\n" + field, BODY))[0], [400])

    def test_lengths(self):
        """Refused by the HTTP library, in whose answer the head stands twice; nothing else is answered."""
        for status, values in [(400, [v % COUNT if b"%" in v else v for v in LENGTHS] + [b""]), (413, HUGE)]:
            for value in values:
                with self.subTest(value):
                    statuses, received = self.answers(post(b"Content-Length: " + value, BODY))
                    self.assertEqual(set(statuses), {status})
                    self.assertIn(b"Connection: close\r\n", received.split(b"\r\n\r\n")[0])
                    self.assertEqual(received.count(b"<html>"), 1)
                    self.assertNotIn(b"smuggled", received)

    def test_plain_lengths(self):
        """Digits are a length, whatever stands before them that has to be skipped."""
        for value in [b"%d", b"0%d", b"000000000000000000000000%d", b" %d", b"\t%d"]:
            with self.subTest(value):
                statuses, received = self.answers(post(b"Content-Length: " + value % COUNT, BODY))
                self.assertEqual(statuses, [200, 200])
                self.assertEqual(received.count(b"X-Request-Id: smuggled"), 1)

    def test_heads(self):
        for head, detail in HEADS:
            with self.subTest(head):
                self.assert_refused(head, detail)

    def test_unreadable_heads(self):
        """At most one answer, which is a refusal."""
        for head in UNREADABLE:
            with self.subTest(head):
                statuses, received = self.answers(head)
                self.assertIn(statuses, [[], [400], [505]])
                self.assertNotIn(b"smuggled", received)

    def test_a_line_that_swallows_the_next(self):
        """Without a line end there is one request line, up to the end of the second one."""
        statuses, received = self.answers(b"GET /livez HTTP/1.1\rHost: t\r\r")
        self.assertEqual(statuses, [400])
        self.assertIn(LINE.encode(), received)

    def test_chunks_are_the_last_of_their_connection(self):
        """Whatever another server takes for the end of the chunks, nothing after it is read."""
        for body in CHUNKED:
            with self.subTest(body), Raw(self.server) as raw:
                raw.send(post(b"Transfer-Encoding: chunked", body) + SMUGGLED)
                response = raw.receive("POST", GENERATE)
                self.assertEqual(response.status, 200)
                self.assertEqual(response.body, self.picture(QUICK))
                self.assertTrue(response.will_close)
                self.assertEqual(raw.read_to_end(), b"")

    def test_bad_chunks(self):
        for form in BAD_CHUNKS:
            body = form % (COUNT, BODY)
            with self.subTest(body):
                statuses, received = self.answers(post(b"Transfer-Encoding: chunked", body))
                self.assertIn(statuses, [[400], [413]])
                self.assertNotIn(b"smuggled", received)

    def test_http_1_0(self):
        """It has no transfer codings, whatever a client of it writes."""
        for keep in [b"", b"Connection: keep-alive\r\n"]:
            head = b"POST /v1/generate HTTP/1.0\r\n%sContent-Type: application/json\r\n" % keep
            statuses, received = self.answers(head + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS)
            self.assertEqual(statuses, [400])
            self.assertIn(b"HTTP/1.0 has no transfer codings", received)

    def test_fields_that_name_framing(self):
        """Connection cannot make the framing hop away, and look-alikes elsewhere do nothing."""
        for fields in [LENGTH + b"\r\nConnection: Content-Length", LENGTH + b"\r\nCookie: Content-Length=5",
                       LENGTH + b"\r\nTE: chunked", LENGTH + b"\r\nX-Transfer-Encoding: chunked",
                       LENGTH + b"\r\nUpgrade: h2c\r\nConnection: upgrade, http2-settings"]:
            with self.subTest(fields):
                self.assertEqual(self.answers(post(fields, BODY))[0], [200, 200])

    def test_absolute_form(self):
        """A URL of the host is its path."""
        for target, status in [(b"http://test/livez", 200), (b"HTTP://TEST/livez?a=b", 200), (b"https://test/livez", 200),
                               (b"http://test", 200), (b"http://test/nothing", 404)]:
            with self.subTest(target):
                self.assertEqual(self.answers(raw_request(b"GET", target))[0], [status, 200])

    def test_empty_lines_before(self):
        """They are skipped, as RFC 9112, section 2.2, wants it."""
        for start in [b"\r\n", b"\n", b"\r\n" * 10]:
            self.assertEqual(self.answers(start + raw_request(b"GET", b"/livez"))[0], [200, 200])

    def test_byte_by_byte(self):
        """The pieces in which a head arrives change nothing about it."""
        for data, statuses in [(raw_request(b"GET", b"/livez?a=b&c=d"), [200, 200]),
                               (b"GET /livez?a\0b HTTP/1.1\r\nHost: t\r\n\r\n", [400]),
                               (b"GET /livez HTTP/1.1\r\nHost: t\r\nX: \0\r\n\r\n", [400]),
                               (post(b"Transfer-Encoding: chunked", CHUNKS), [200])]:
            with self.subTest(data), Raw(self.server) as raw:
                raw.socket.setsockopt(6, 1, 1)  # TCP_NODELAY
                for i in range(len(data)):
                    raw.send(data[i:i + 1])
                raw.send(SMUGGLED)
                self.assertEqual([int(s) for s in re.findall(rb"HTTP/1\.1 (\d{3}) ", raw.read_to_end())], statuses)


class TestEndless(ServerCase):
    """What never ends gets no answer, but the end of its time."""
    flags = ("--request-timeout-ms", 500)

    def test_endless_chunk(self):
        """The second request is part of the chunk."""
        with Raw(self.server) as raw:
            raw.send(post(b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\n" + BODY) + SMUGGLED)
            self.assertEqual(raw.read_to_end(), b"")


if __name__ == "__main__":
    unittest.main()
