"""Clients that mean harm: each attack is met in time, others are served meanwhile, and afterwards the
process holds the descriptors and the memory that it held before."""
import contextlib
import json
import select
import socket
import struct
import unittest

from support import ENDLESS, JSON, PATIENCE_S, QUICK, SANITIZED, Client, Raw, Server, ask, raw_request, wait_until

BODY = json.dumps(QUICK).encode()
LONG = json.dumps({**ENDLESS, "size": "96x96"}).encode()  # many of it fit into the queue
TYPE = b"Content-Type: application/json"
MANY = 200
GROWTH_KB = 16_384  # what an allocator may keep for next time; a leak of every attack would be more
TIMEOUT_MS = 3000 if SANITIZED else 2000  # who is served has to be read within it, however slow the build


def post(body=BODY, *fields, length=None):
    count = len(body) if length is None else length
    return raw_request(b"POST", b"/v1/generate", TYPE, b"Content-Length: %d" % count, *fields, body=body)


GET = raw_request(b"GET", b"/livez")
STREAM = post(LONG, b"Accept: text/event-stream")


class AbuseCase(unittest.TestCase):
    """A server for each class; every test leaves it as it found it."""
    flags = ("--request-timeout-ms", TIMEOUT_MS)

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags)
        cls.addClassCleanup(cls.server.stop)
        for _ in range(3):  # what is made once is made before anything is counted
            ask(cls.server, "POST", "/v1/generate", QUICK, JSON)
            with cls.connections(MANY) as sockets:
                for one in sockets:
                    one.sendall(GET)
                    one.recv(4096)
        cls.settle()

    @classmethod
    def settle(cls):
        """Note what the process holds while nobody is there but who asks."""
        cls.descriptors = cls.server.alone()["process_open_fds"]
        cls.resident_kb = cls.count_kb()

    def tearDown(self):
        def is_at_rest():
            metrics = self.server.metrics()
            return (metrics["connections"], metrics["in_progress_pictures"],
                    metrics["process_open_fds"]) == (1, 0, self.descriptors)
        wait_until(is_at_rest, f"{self.descriptors} descriptors, one of them a connection")
        self.assertEqual(ask(self.server, "POST", "/v1/generate", QUICK, JSON).status, 200)
        if not SANITIZED:  # they keep what is freed, to find who uses it
            self.assertLess(self.count_kb() - self.resident_kb, GROWTH_KB)

    @classmethod
    def count_kb(cls):
        with open(f"/proc/{cls.server.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    @classmethod
    @contextlib.contextmanager
    def connections(cls, count):
        """So many connections that nothing was sent on."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(socket.create_connection(cls.server.address, PATIENCE_S))
                   for _ in range(count)]

    def assert_others_are_served(self):
        self.assertEqual(ask(self.server, "GET", "/livez").status, 200)

    def assert_closed(self, sockets):
        """Each is closed by the server, without an answer."""
        for one in sockets:
            with contextlib.suppress(ConnectionError):
                self.assertEqual(one.recv(100), b"")


def reset(one):
    """Close with RST in place of FIN."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def half_close(one):
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_WR)


# How far a client gets before it does something else.
STAGES = {"nothing": b"", "line": GET[:9], "field": GET[:-5], "head": post(BODY)[:-len(BODY)],
          "body": post(BODY)[:-3], "chunk": raw_request(b"POST", b"/v1/generate", TYPE, b"Transfer-Encoding: chunked",
                                                       body=b"%x\r\n%s" % (len(BODY), BODY[:5])),
          "expect": post(b"", b"Expect: 100-continue", length=len(BODY)),
          "request": GET, "picture": post(LONG), "stream": STREAM, "pipeline": 50 * GET,
          "too much": post(b" " * 100_000), "refused": raw_request(b"GET", b"/livez", b"X : y")}


class TestStages(AbuseCase):
    """At every stage of a request the client closes, closes half, resets, or falls silent."""

    def attack(self, act):
        for name, data in STAGES.items():
            with self.subTest(name), self.connections(20) as sockets:
                for one in sockets:
                    one.sendall(data)
                self.assert_others_are_served()
                for one in sockets:
                    act(one)
                self.assert_others_are_served()
                if act is half_close:
                    for one in sockets:
                        with contextlib.suppress(ConnectionError):
                            while one.recv(65536):
                                pass

    def test_closed(self):
        self.attack(socket.socket.close)

    def test_reset(self):
        self.attack(reset)

    def test_half_closed(self):
        self.attack(half_close)

    def test_reset_in_the_middle_of_the_answer(self):
        """After the first event of a stream, and after the first bytes of a picture."""
        for data in [STREAM, post()]:
            with self.connections(20) as sockets:
                for one in sockets:
                    one.sendall(data)
                for one in sockets:
                    self.assertEqual(one.recv(9), b"HTTP/1.1 ")
                    reset(one)
                self.assert_others_are_served()

    def test_silent(self):
        """Until its time is up; requests that are complete are answered before."""
        for name in ["nothing", "line", "field", "head", "body", "chunk"]:
            with self.subTest(name), self.connections(20) as sockets:
                for one in sockets:
                    one.sendall(STAGES[name])
                self.assert_others_are_served()
                self.assert_closed(sockets)

    def test_silent_after_expect(self):
        with self.connections(20) as sockets:
            for one in sockets:
                one.sendall(STAGES["expect"])
            for one in sockets:
                self.assertEqual(one.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            self.assert_closed(sockets)


class TestSlow(AbuseCase):
    """Drop by drop: each byte is activity, and none buys time."""

    def drip(self, start, more):
        """Send `start`, then a byte of `more` now and then on every connection until all are closed."""
        with self.connections(MANY) as sockets:
            for one in sockets:
                one.sendall(start)
            open_ones = set(sockets)
            for i in range(len(more)):
                readable = select.select(list(open_ones), [], [], 0.02)[0]
                open_ones -= {one for one in readable if self.is_closed(one)}
                if not open_ones:
                    return
                for one in open_ones:
                    with contextlib.suppress(ConnectionError):
                        one.send(more[i:i + 1])
                if i % 10 == 0:
                    self.assert_others_are_served()
            self.fail(f"{len(open_ones)} connections outlast {len(more)} bytes")

    def is_closed(self, one):
        try:
            self.assertEqual(one.recv(100), b"")
        except ConnectionError:
            pass
        return True

    def test_request_line(self):
        self.drip(b"GET /", b"x" * 2000)

    def test_fields(self):
        self.drip(GET[:-2], b"X: y\r\n" * 400)

    def test_empty_lines(self):
        self.drip(b"", b"\r\n" * 1000)

    def test_body(self):
        self.drip(post(b"", length=60_000), b" " * 2000)

    def test_chunks(self):
        head = raw_request(b"POST", b"/v1/generate", TYPE, b"Transfer-Encoding: chunked")
        self.drip(head, b"1\r\n \r\n" * 400)

    def test_trailers(self):
        head = raw_request(b"POST", b"/v1/generate", TYPE, b"Transfer-Encoding: chunked", body=b"0\r\n")
        self.drip(head, b"X: y\r\n" * 400)


class TestFullHouse(AbuseCase):
    """More connections than there are places: whoever rests longest makes room."""
    flags = ("--connections", 50, "--request-timeout-ms", 3_600_000)

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags)
        cls.addClassCleanup(cls.server.stop)
        ask(cls.server, "POST", "/v1/generate", QUICK, JSON)
        cls.settle()

    def test_idle_flood(self):
        with self.connections(500) as sockets:
            self.assert_others_are_served()
            self.assert_closed(sockets[:400])  # the first to come are the first to go
            self.assertLessEqual(self.server.metrics()["connections"], 50 + 16)

    def test_loris_flood(self):
        """Unfinished requests are no reason to stay."""
        with self.connections(500) as sockets:
            for one in sockets:
                with contextlib.suppress(ConnectionError):
                    one.sendall(GET[:-5])
            self.assert_others_are_served()
            self.assert_closed(sockets[:400])

    def test_who_is_answered_stays(self):
        """A request that is under way does not make room, however many come."""
        with Client(self.server) as client:
            before = self.server.admitted()
            client.send("POST", "/v1/generate", {**QUICK, "steps": 64, "size": "64x64" if SANITIZED else "128x128"}, JSON)
            self.server.wait_for_admitted(before + 1)
            with self.connections(300):
                self.assert_others_are_served()
            self.assertEqual(client.receive().status, 200)

    def test_all_places_answered(self):
        """With every place and every spare one busy the next waits, and gets the first that is free."""
        with self.connections(50 + 16) as sockets:
            for one in sockets:
                one.sendall(post(json.dumps({**ENDLESS, "n": 1, "size": "96x96"}).encode()))
            with Client(self.server) as late:
                late.send("GET", "/livez")
                sockets[7].close()
                self.assertEqual(late.receive().status, 200)


class TestFloods(AbuseCase):
    """Much at once."""

    def test_pipeline(self):
        """Requests without end on one connection, whose answers nobody reads: the sender is stopped by
        its own socket, and loses the connection when it has not read for too long."""
        with Raw(self.server) as raw:
            raw.socket.setblocking(False)
            sent = 0
            for _ in range(100_000):
                try:
                    sent += raw.socket.send(100 * GET)
                except (BlockingIOError, ConnectionError):
                    break
            else:
                self.fail(f"all {sent} bytes were taken")
            for _ in range(20):
                self.assert_others_are_served()

            def is_dropped():
                try:
                    raw.socket.send(GET)
                except BlockingIOError:
                    return False
                except ConnectionError:
                    return True
                return False
            wait_until(is_dropped, "the connection is closed")

    def test_pipeline_read(self):
        """A thousand requests at once, each of which is answered."""
        with Raw(self.server) as raw:
            raw.send(999 * GET + raw_request(b"GET", b"/livez", b"Connection: close"))
            self.assertEqual(raw.read_to_end().count(b"HTTP/1.1 200 OK\r\n"), 1000)

    def test_connect_and_reset(self):
        for _ in range(20):
            with self.connections(50) as sockets:
                for one in sockets:
                    reset(one)
            self.assert_others_are_served()

    def test_pictures_not_waited_for(self):
        """Work that is asked for and left at once does not pile up."""
        for _ in range(20):
            with self.connections(20) as sockets:
                for one in sockets:
                    one.sendall(post(LONG))
                    reset(one)
            self.assert_others_are_served()
        self.server.wait_for_pictures(0)

    def test_streams_not_read(self):
        """Readers of events that read nothing and go."""
        with self.connections(100) as sockets:
            for one in sockets:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                one.sendall(STREAM)
            self.assert_others_are_served()
            for one in sockets[::2]:
                reset(one)
        self.server.wait_for_pictures(0)

    def test_expect(self):
        """Announcements of bodies that never come; too large ones are refused before they do."""
        with self.connections(MANY) as sockets:
            for one in sockets:
                one.sendall(post(b"", b"Expect: 100-continue", length=100_000))
            for one in sockets:
                self.assertTrue(one.recv(4096).startswith(b"HTTP/1.1 413 "))

    def test_expect_and_all_at_once(self):
        """The body does not wait for the invitation, nor does the next request."""
        with Raw(self.server) as raw:
            raw.send(post(BODY, b"Expect: 100-continue") + raw_request(b"GET", b"/livez", b"Connection: close"))
            received = raw.read_to_end()
        self.assertTrue(received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"), received[:100])
        self.assertEqual(received.count(b"HTTP/1.1 200 OK\r\n"), 2)

    def test_expect_of_old_clients(self):
        """HTTP/1.0 knows no 100."""
        with Raw(self.server) as raw:
            raw.send(post(BODY, b"Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"))
            self.assertTrue(raw.read_to_end().startswith(b"HTTP/1.1 200 OK\r\n"))


class TestOversized(AbuseCase):
    """Everything larger than it may be, many times over. Far too large heads are answered by the HTTP library."""

    def test_oversized(self):
        cases = [(raw_request(b"GET", b"/" + 3000 * b"x"), b"414"), (raw_request(b"GET", b"/" + 50_000 * b"x"), b"414"),
                 (raw_request(b"GET", b"/livez?" + 50_000 * b"x"), b"414"),
                 (raw_request(b"GET", b"/livez", b"X: " + 9000 * b"x"), b"431"),
                 (raw_request(b"GET", b"/livez", b"X: " + 50_000 * b"x"), b"431"),
                 (raw_request(b"GET", b"/livez", 50_000 * b"x" + b": y"), b"431"),
                 (raw_request(b"GET", b"/livez", *[b"X: y"] * 2000), b"431"),
                 (raw_request(b"GET", b"/livez", *[b"X: y"] * 20_000), b"431"),
                 (raw_request(b"GET", b"/livez", b"Cookie: " + b"a=b; " * 1700), b"431"),
                 (raw_request(50_000 * b"G", b"/livez"), b"414"),
                 (post(100_000 * b" "), b"413"), (post(b"", length=1 << 40), b"413"),
                 (post(b"", length=(1 << 64) - 1), b"413"),
                 (raw_request(b"POST", b"/v1/generate", TYPE, b"Transfer-Encoding: chunked",
                              body=b"fffff\r\n" + 0xfffff * b" " + b"\r\n0\r\n\r\n"), b"413"),
                 (raw_request(b"POST", b"/v1/generate", TYPE, b"Transfer-Encoding: chunked",
                              body=1_000_000 * b"0" + b"1\r\n"), b"413"),
                 (raw_request(b"POST", b"/v1/generate", TYPE, b"Transfer-Encoding: chunked",
                              body=b"0\r\n" + 20_000 * b"X: y\r\n"), b"431")]
        for data, status in cases:
            for _ in range(3):
                with self.subTest(data[:50]), Raw(self.server) as raw:
                    with contextlib.suppress(ConnectionError):
                        raw.send(data)
                    self.assertRegex(raw.read_to_end(), b"^(HTTP/1.1 %s |$)" % status)
            self.assert_others_are_served()

    def test_too_large_is_said_with_an_id(self):
        """Where our code answers, it is a problem that names the request."""
        for data, status in [(raw_request(b"GET", b"/" + 3000 * b"x"), 414),
                             (raw_request(b"GET", b"/livez", b"X: " + 9000 * b"x"), 431),
                             (raw_request(b"GET", b"/livez", b"X: " + 15_000 * b"x"), 431)]:
            for given in [b"", b"X-Request-Id: large\r\n"]:
                with Raw(self.server) as raw:
                    raw.send(data[:-2] + given + b"\r\n")
                    response = raw.receive()
                self.assertEqual((response.status, response.type), (status, "application/problem+json"))
                self.assertEqual(response.json()["instance"], response.headers["X-Request-Id"])
                if given:
                    self.assertEqual(response.headers["X-Request-Id"], "large")


if __name__ == "__main__":
    unittest.main()
