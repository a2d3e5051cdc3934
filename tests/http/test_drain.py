"""Signals: what was admitted is finished, nothing new is taken, and the exit status tells."""
import contextlib
import signal
import socket
import time
import unittest

from stall import Stall
from support import ENDLESS, JSON, PATIENCE_S, QUICK, Client, Raw, Server, ask, raw_request, wait_until

WORK = {"steps": 4, "n": 4, "seed": 1}


class TestDrain(unittest.TestCase):
    """Every test has a server of its own, which it brings to an end."""

    def start(self, *flags, **settings):
        server = Server(*flags, **settings)
        self.addCleanup(lambda: server.process.poll() is None and server.process.kill())
        return server

    def begin(self, server, body):
        """A client whose request is admitted and not yet answered."""
        client = Client(server)
        self.addCleanup(client.close)
        client.send("POST", "/v1/generate", body, JSON)
        server.wait_for_pictures(body["n"])
        return client

    def test_idle(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.start()
            server.signal(number)
            server.stop()
            self.assertTrue(any("event=stopped" in line for line in server.lines))

    def test_admitted_work_is_finished(self):
        stall = self.enterContext(Stall())
        server = self.start(env=stall.environment)
        reference = ask(server, "POST", "/v1/generate", WORK).images()
        stall.arm()
        client = self.begin(server, WORK)
        server.signal()
        server.wait_for_log("draining")
        stall.release()
        answer = client.receive()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.images(), reference)
        self.assertTrue(answer.will_close)
        server.stop()

    def test_new_connections_are_refused(self):
        server = self.start()
        client = self.begin(server, ENDLESS)
        server.signal()
        server.wait_for_log("draining")
        wait_until(lambda: self.is_refused(server), "a refused connection")
        client.close()
        server.stop()

    def is_refused(self, server):
        """The log line comes a moment before the listening socket is closed."""
        try:
            Client(server).close()
        except ConnectionError:
            return True
        return False

    def told(self, *questions):
        """The answers to these, each on a connection that was open when the server was told to stop."""
        server = self.start()
        clients = [Client(server) for _ in questions]
        for client in clients:
            self.addCleanup(client.close)
            self.assertEqual(client.ask("GET", "/readyz").status, 200)
        worker = self.begin(server, ENDLESS)
        server.signal()
        server.wait_for_log("draining")
        for client, question in zip(clients, questions):
            client.send(*question)
        answers = [client.receive() for client in clients]
        worker.close()
        server.stop()
        return answers

    def test_open_connections_are_told(self):
        for _ in range(5):
            with contextlib.suppress(ConnectionError):  # of one that rested for too long
                answers = self.told(("POST", "/v1/generate", QUICK), ("GET", "/readyz"), ("GET", "/livez"))
                break
        self.assertEqual([answer.status for answer in answers], [503, 503, 200])
        self.assertEqual({answer.will_close for answer in answers}, {True})

    def test_idle_connections_do_not_hold_it_up(self):
        """Far below the request timeout, which is when they would be closed anyway."""
        server = self.start("--request-timeout-ms", 3600000)
        clients = [Client(server) for _ in range(5)]
        for client in clients[1:]:
            client.ask("GET", "/livez")
        with Raw(server) as raw:
            raw.send(raw_request(b"GET", b"/livez")[:-5])  # a request that never ends
            server.signal()
            server.stop()
        for client in clients:
            client.close()

    def stopped_while_draining(self):
        """A server that stands still, and a connection of its that rests; None if that was closed before."""
        server = self.start()
        client = Client(server)
        self.addCleanup(client.close)
        client.ask("GET", "/livez")
        server.signal()
        server.wait_for_log("draining")
        server.process.send_signal(signal.SIGSTOP)
        client.connection.sock.setblocking(False)
        try:
            client.connection.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            client.connection.sock.settimeout(PATIENCE_S)
            return server, client
        server.process.send_signal(signal.SIGCONT)
        server.stop()
        return None

    def test_a_request_that_came_in_time_is_answered(self):
        """The server gets to it only when the time for resting connections is over."""
        for _ in range(5):
            if pair := self.stopped_while_draining():
                break
        server, client = pair
        client.send("GET", "/livez")
        time.sleep(1.5)
        server.process.send_signal(signal.SIGCONT)
        answer = client.receive()
        self.assertEqual((answer.status, answer.will_close), (200, True))
        server.stop()

    def test_second_signal_aborts(self):
        server = self.start()
        clients = [self.begin(server, {**ENDLESS, "n": 8})]
        queued = Client(server)
        self.addCleanup(queued.close)
        queued.send("POST", "/v1/generate", ENDLESS, JSON)
        server.wait_for_pictures(16)
        server.signal()
        server.wait_for_log("draining")
        server.signal()
        server.stop(status=1)
        self.assertTrue(any("event=aborting" in line for line in server.lines))
        for client in clients + [queued]:
            with self.assertRaises(ConnectionError):
                client.receive()

    def test_client_that_leaves_while_draining(self):
        server = self.start()
        client = self.begin(server, ENDLESS)
        server.signal()
        server.wait_for_log("draining")
        client.close()
        server.stop()


if __name__ == "__main__":
    unittest.main()
