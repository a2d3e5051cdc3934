"""Who goes first: what is short, who asks for little, what is urgent; and what waits is bounded."""
import unittest

from stall import Stall
from support import ENDLESS, JSON, QUICK, SANITIZED, Client, Server, ServerCase, ask, wait_until

LONG = {"steps": 256, "size": "96x96", "seed": 1}  # seconds of work
CANCELLED = 'pictures_total{outcome="cancelled"}'
FULL = 'admissions_total{decision="queue_full"}'


class Elsewhere(Client):
    """A client at another address of this machine."""

    def __init__(self, server, address):
        super().__init__(server)
        self.connection.close()
        self.connection.source_address = (address, 0)
        self.connection.connect()


class TestOrder(ServerCase):
    """One worker that takes one picture at a time, so that there is an order."""
    flags = ("--workers", 1, "--threads", 1, "--batch", 1)

    def begin(self, body, headers=JSON):
        """A client that has asked for this and not yet been answered."""
        client = Client(self.server)
        self.addCleanup(client.close)
        client.send("POST", "/v1/generate", body, headers)
        return client

    def in_progress(self):
        return self.server.metrics()["in_progress_pictures"]

    def test_short_overtakes_long(self):
        """Those that run already are overtaken too."""
        clients = [self.begin(ENDLESS | {"n": 1, "seed": i}) for i in range(3)]
        self.server.wait_for_pictures(3)
        for seed in range(4):
            self.assertEqual(self.generate({**QUICK, "seed": seed}).status, 200)
        self.assertEqual(self.in_progress(), 3)
        for client in clients:
            client.close()
        self.server.wait_for_pictures(0)

    def test_overtaken_pictures_are_the_same(self):
        body = {"steps": 128, "seed": 3, "size": "64x64", "format": "png"}
        reference, before = self.picture(body), self.server.admitted()
        long = self.begin(body)
        self.server.wait_for_admitted(before + 1)
        for seed in range(8):
            self.picture({**QUICK, "seed": seed})
        answer = long.receive()
        self.assertEqual((answer.status, answer.body), (200, reference))

    def test_light_client_before_a_flood(self):
        """It asks for more than any one picture of the flood, so it is not for being short."""
        before = self.server.admitted()
        flood = [self.begin({"steps": 200, "size": "96x96", "seed": i, "n": 8}) for i in range(4)]
        self.server.wait_for_admitted(before + 4)
        with Elsewhere(self.server, "127.0.0.2") as light:
            answer = light.ask("POST", "/v1/generate", {**LONG, "n": 1}, JSON)
        self.assertEqual(answer.status, 200)
        self.assertGreaterEqual(self.in_progress(), 24)
        for client in flood:
            client.close()
        self.server.wait_for_pictures(0)

    def test_priorities(self):
        """Low was first and runs; the others go before it all the same."""
        sizes, clients = {"low": "128x128", "normal": "96x96", "high": "32x32"}, []
        for name, size in sizes.items():
            clients.append(self.begin({**LONG, "size": size, "priority": name}, {**JSON, "X-Request-Id": name}))
            self.server.wait_for_pictures(len(clients))
        for client in clients:
            self.assertEqual(client.receive().status, 200)
        ends = {name: self.server.wait_for_log(f"event=request id={name} ") for name in sizes}
        self.assertEqual(sorted(ends, key=lambda name: self.server.lines.index(ends[name])), ["high", "normal", "low"])

    def test_deadlines_before_priorities(self):
        high = self.begin({**ENDLESS, "n": 1, "priority": "high"})
        self.server.wait_for_running()
        answer = self.generate({**LONG, "steps": 64, "priority": "low", "deadline_ms": 3600000})
        self.assertEqual(answer.status, 200)
        self.assertEqual(self.in_progress(), 1)
        high.close()
        self.server.wait_for_pictures(0)

    def test_parked_picture_is_cancelled(self):
        """It was started, then overtaken: leaving frees it at once, and nobody else."""
        before = self.server.metrics()[CANCELLED]
        parked = self.begin({**ENDLESS, "n": 1, "priority": "low"})
        self.server.wait_for_running()
        running = self.begin({**ENDLESS, "n": 1, "seed": 2})
        self.server.wait_for_pictures(2)
        parked.close()
        self.server.wait_for_pictures(1)
        self.assertEqual(self.server.metrics()[CANCELLED], before + 1)
        running.close()
        self.server.wait_for_pictures(0)
        self.picture(QUICK)


class TestBounds(unittest.TestCase):
    """Work that waits is bounded in time, not only in number."""

    def test_queue_ms(self):
        server = Server("--workers", 1, "--threads", 1, "--queue-ms", 100)
        self.addCleanup(server.stop)
        with Client(server) as first, Client(server) as promised:
            first.send("POST", "/v1/generate", ENDLESS, JSON)  # nothing waits: however long
            server.wait_for_pictures(8)
            answer = ask(server, "POST", "/v1/generate", LONG)
            self.assertEqual(answer.status, 429)
            problem = answer.json()
            self.assertEqual(problem["type"], "urn:brickwork:problem:queue-full")
            self.assertEqual(set(problem["offer"]), {"retry_after_ms"})
            wait_s = -(-problem["offer"]["retry_after_ms"] // 1000)
            self.assertEqual(int(answer.headers["Retry-After"]), max(wait_s, 1))
            quote = ask(server, "POST", "/v1/quote", LONG).json()
            self.assertFalse(quote["admitted"])
            self.assertIn("retry_after_ms", quote["offer"])
            promised.send("POST", "/v1/generate", {**QUICK, "deadline_ms": 3600000}, JSON)
            self.assertEqual(promised.receive().status, 200)  # deadlines bound these
            self.assertEqual(server.metrics()["in_progress_pictures"], 8)
        server.wait_for_pictures(0)
        self.assertEqual(ask(server, "POST", "/v1/generate", QUICK).status, 200)

    def test_a_flood_leaves_room(self):
        endless = {**ENDLESS, "size": "64x64" if SANITIZED else "192x192", "n": 1}  # not over before the last is sent
        calm = Server("--workers", 1, "--threads", 1)
        alone_ms = ask(calm, "POST", "/v1/quote", endless).json()["predicted"]["total_ms"]
        calm.stop()
        server = Server("--workers", 1, "--threads", 1, "--queue-ms", int(16 * alone_ms))
        self.addCleanup(server.stop)
        clients = []
        while not server.metrics()[FULL] and len(clients) < 60:  # about 13, if the machine is as fast as a moment ago
            clients.append(Client(server))
            self.addCleanup(clients[-1].close)
            clients[-1].send("POST", "/v1/generate", {**endless, "seed": len(clients)}, JSON)
            wait_until(lambda: server.admitted() + server.metrics()[FULL] == len(clients), "a decision")
        self.assertTrue(3 <= len(clients) < 60, len(clients))
        self.assertEqual(clients[-1].receive().status, 429)
        with Elsewhere(server, "127.0.0.2") as other:
            self.assertEqual(other.ask("POST", "/v1/generate", QUICK, JSON).status, 200)
        for client in clients:
            client.close()
        server.wait_for_pictures(0)


class TestDrain(unittest.TestCase):
    """What was started and overtaken is finished too."""

    def test_parked_pictures_are_finished(self):
        stall = self.enterContext(Stall())
        server = Server("--workers", 1, "--threads", 1, "--batch", 1, env=stall.environment)
        self.addCleanup(lambda: server.process.poll() is None and server.process.kill())
        bodies = [{**LONG, "steps": 96, "priority": "low"}, {**LONG, "steps": 64, "seed": 2}]
        references = [ask(server, "POST", "/v1/generate", body).body for body in bodies]
        stall.arm()
        with Client(server) as parked, Client(server) as running:
            parked.send("POST", "/v1/generate", bodies[0], JSON)
            server.wait_for_running()
            running.send("POST", "/v1/generate", bodies[1], JSON)
            server.wait_for_pictures(2)
            server.signal()
            server.wait_for_log("draining")
            stall.release()
            self.assertEqual([c.receive().body for c in (parked, running)], references)
        server.stop()


if __name__ == "__main__":
    unittest.main()
