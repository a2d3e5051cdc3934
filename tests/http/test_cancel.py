"""Clients that leave: their work ends, and nobody else notices."""
import unittest

from support import ENDLESS, JSON, QUICK, Client, ServerCase, wait_until

ADMITTED = 'admissions_total{decision="admitted"}'
CANCELLED = 'pictures_total{outcome="cancelled"}'


class TestCancel(ServerCase):
    """One worker that takes one picture at a time, so that it is known who waits."""
    flags = ("--workers", 1, "--batch", 1, "--queue", 64)

    def begin(self, body, name):
        """A client that has asked for this and not yet been answered."""
        client = Client(self.server)
        self.addCleanup(client.close)
        client.send("POST", "/v1/generate", body, {**JSON, "X-Request-Id": name})
        return client

    def assert_left(self, name):
        self.assertIn("status=499", self.server.wait_for_log(f"id={name} "))

    def test_while_running(self):
        before = self.server.metrics()[CANCELLED]
        client = self.begin({**ENDLESS, "n": 1}, "running")
        self.server.wait_for_running()
        client.close()
        self.server.wait_for_pictures(0)
        self.assertEqual(self.server.metrics()[CANCELLED], before + 1)
        self.assert_left("running")

    def test_while_queued(self):
        before = self.server.metrics()[CANCELLED]
        ahead = self.begin({**ENDLESS, "n": 1}, "ahead")
        self.server.wait_for_running()
        waiting = self.begin({**ENDLESS, "n": 8}, "waiting")
        self.server.wait_for_pictures(9)
        waiting.close()
        self.server.wait_for_running()
        self.assertEqual(self.server.metrics()[CANCELLED], before + 8)
        self.assert_left("waiting")
        ahead.close()
        self.server.wait_for_pictures(0)

    def test_partly_running(self):
        """One of the pictures runs, the others wait: all go."""
        before = self.server.metrics()[CANCELLED]
        client = self.begin(ENDLESS, "partly")
        self.server.wait_for_pictures(ENDLESS["n"])
        client.close()
        self.server.wait_for_pictures(0)
        self.assertEqual(self.server.metrics()[CANCELLED], before + ENDLESS["n"])
        self.assert_left("partly")

    def test_others_are_unaffected(self):
        """Between pictures that are asked for and wanted, others are asked for and abandoned."""
        wanted = {**QUICK, "steps": 24}
        reference = self.picture(wanted)
        before = self.server.metrics()[ADMITTED]
        first = self.begin({**ENDLESS, "n": 1}, "first")
        self.server.wait_for_running()
        clients = [self.begin(wanted if i % 2 else ENDLESS, f"c{i}") for i in range(8)]
        wait_until(lambda: self.server.metrics()[ADMITTED] == before + 9, "admission")
        first.close()
        for client in clients[::2]:
            client.close()
        for client in clients[1::2]:
            answer = client.receive()
            self.assertEqual((answer.status, answer.body), (200, reference))
        self.server.wait_for_pictures(0)

    def test_many_leave(self):
        """Arriving and leaving in quick succession leaves nothing behind."""
        for i in range(40):
            client = self.begin({**ENDLESS, "n": 1 + i % 8, "seed": i}, f"m{i}")
            if i % 3 == 0:
                self.server.metrics()
            client.close()
        self.server.wait_for_pictures(0)
        self.assertEqual(self.server.metrics()["queue_pictures"], 0)
        self.picture(QUICK)


if __name__ == "__main__":
    unittest.main()
