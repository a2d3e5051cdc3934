"""Faults of the machine: threads that stop, clocks that jump, descriptors, disks and files that go."""
import os
import pathlib
import resource
import shutil
import tempfile
import time
import unittest

from jobs import JobCase
from support import BUILD, ENDLESS, JSON, QUICK, ROOT, SERVER, TINY, Client, Server, ask, run_program, wait_until

STALLED = "urn:brickwork:problem:stalled"


def stop_dead(server):
    """End a server one of whose threads will never come back."""
    server.told_to_stop = True
    server.process.kill()
    server.stop(-9)


class TestWorkers(unittest.TestCase):
    """A worker that stops is noticed by whoever asks whether the service lives."""

    def start(self, *flags):
        self.file = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory())) / "stall"
        return Server("--stall-ms", 1000, "--workers", 2, "--threads", 1, *flags,
                      env={"STALL": str(self.file), "LD_PRELOAD": str(BUILD / "stall.so")})

    def alive(self, server):
        probes = [ask(server, "GET", path) for path in ("/livez", "/readyz")]
        self.assertEqual(len({probe.status for probe in probes}), 1, "they agree")
        for probe in probes:
            if probe.status == 503:
                self.assertEqual((probe.type, probe.json()["type"]), ("application/problem+json", STALLED))
                self.assertEqual(probe.json()["detail"], "1 of 2 workers have ended or make no progress")
                self.assertEqual(probe.headers["Retry-After"], "1")
        return probes[0].status == 200

    def test_stands_still(self):
        server = self.start()
        self.addCleanup(server.stop)
        wanted = ask(server, "POST", "/v1/generate", QUICK).body
        self.file.write_text("wait")
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            self.assertIn("worker=", server.wait_for_log("event=worker-dead"))
            self.assertFalse(self.alive(server))
            self.assertEqual(server.metrics()["workers_dead"], 1)
            png = ask(server, "POST", "/v1/generate", {**QUICK, "format": "png"})  # the other one works
            self.assertEqual(png.status, 200)
            self.file.unlink()
            self.assertEqual(client.receive().body, wanted)
        server.wait_for_log("event=worker-back")
        self.assertTrue(self.alive(server))
        self.assertEqual(server.metrics()["workers_dead"], 0)

    def test_ends(self):
        server = self.start()
        self.addCleanup(stop_dead, server)
        self.file.write_text("end")
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            self.assertIn("its thread has ended", server.wait_for_log("event=worker-dead"))
            self.assertFalse(self.alive(server))
            self.file.unlink()
            self.assertEqual(ask(server, "POST", "/v1/generate", QUICK).status, 200)

    def test_busy_is_not_dead(self):
        """Nor is one that has nothing to do; nor are they after the process was stopped as a whole."""
        server = self.start()
        self.addCleanup(server.stop)
        with Client(server) as client:
            client.send("POST", "/v1/generate", ENDLESS)
            server.wait_for_pictures(8)
            server.process.send_signal(19)
            time.sleep(3)
            server.process.send_signal(18)
            time.sleep(2)
            self.assertTrue(self.alive(server))
        self.assertFalse([line for line in server.lines if "worker-" in line])


if __name__ == "__main__":
    unittest.main()
