"""Sockets that are handed in, news for the supervisor, and restarts that nobody notices."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

from redis_server import Redis
from stall import Stall
from support import (BUILD, JSON, PATIENCE_S, QUICK, ROOT, SERVER, TINY, Client, Server, ask, environment,
                     wait_until)

sys.path.insert(0, str(ROOT / "tests/deploy"))
import load  # noqa: E402

RESTARTS = 2 if BUILD.name in ("asan", "tsan") else 6
SERVED = 40  # right answers between two of them
EVERYONE = {load.picture: 2, load.fresh: 2, load.stream: 1, load.job: 1, load.asynchronous: 1}


def listening(family=socket.AF_INET, host="127.0.0.1"):
    s = socket.socket(family)
    s.bind((host, 0))
    s.listen(1024)
    return s


class HandoverCase(unittest.TestCase):

    def start(self, *flags, **settings):
        server = Server(*flags, **settings)
        self.addCleanup(lambda: server.process.poll() is None and server.process.kill())
        return server

    def socket(self, **settings):
        s = listening(**settings)
        self.addCleanup(s.close)
        return s

    def folder(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return folder.name


class TestSockets(HandoverCase):

    def test_both_listeners(self):
        main, admin = self.socket(), self.socket()
        server = self.start(sockets={"admin": admin, "brickwork.socket": main})
        self.assertEqual(server.address, main.getsockname())
        self.assertEqual(ask(server, "GET", "/livez").status, 200)
        self.assertEqual(ask(server, "GET", "/metrics").status, 404)
        server.address = admin.getsockname()
        self.assertEqual(ask(server, "GET", "/metrics").status, 200)
        self.assertEqual(ask(server, "GET", "/v1/models").status, 404)
        server.stop()

    def refused(self, reason, sockets, **variables):
        launcher = [ROOT / "tests/deploy/activate.py", *(f"{n}={s.fileno()}" for n, s in sockets), "--"]
        result = subprocess.run([sys.executable, *map(str, launcher), str(SERVER), "--model", str(TINY),
                                 "--listen", "127.0.0.1:0"], env=environment(variables), text=True,
                                capture_output=True, timeout=PATIENCE_S, check=False,
                                pass_fds=[s.fileno() for _, s in sockets])
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn(reason, result.stderr)

    def test_what_is_not_a_listening_tcp_socket(self):
        reason = "descriptor 3, handed in, is not a listening TCP socket"
        bound, datagram = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        local = socket.socket(socket.AF_UNIX)
        for s in (bound, datagram, local):
            self.addCleanup(s.close)
        bound.bind(("127.0.0.1", 0))
        datagram.bind(("127.0.0.1", 0))
        local.bind(self.folder() + "/socket")
        local.listen()
        connected = socket.create_connection(self.socket().getsockname())
        self.addCleanup(connected.close)
        file = tempfile.TemporaryFile()
        self.addCleanup(file.close)
        for one in (bound, datagram, local, connected, file):
            self.refused(reason, [("main", one)])

    def test_too_many(self):
        two = [self.socket(), self.socket()]
        self.refused("exactly one has to be named", [("a", two[0]), ("b", two[1])])
        self.refused("exactly one has to be named", [("admin", two[0]), ("admin", two[1])])
        self.refused("not 0..2", [("a", two[0]), ("b", two[1]), ("admin", two[0])])

    def test_meant_for_another(self):
        """Variables that a parent has left there say nothing about us."""
        server = self.start(env={"LISTEN_PID": "1", "LISTEN_FDS": "1"})
        self.assertEqual(ask(server, "GET", "/livez").status, 200)
        server.stop()


class Supervisor:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0"))
        self.socket.settimeout(PATIENCE_S)

    def next(self):
        return self.socket.recv(4096).decode().split("\n")

    def until(self, line):
        while line not in (lines := self.next()):
            pass
        return lines


class TestNews(HandoverCase):

    def supervised(self, address, *flags, **variables):
        supervisor = Supervisor(address)
        self.addCleanup(supervisor.socket.close)
        return supervisor, self.start(*flags, env={"NOTIFY_SOCKET": address, **variables})

    def test_a_life(self):
        for address in (self.folder() + "/notify", f"@brickwork-test-{os.getpid()}"):
            supervisor, server = self.supervised(address)
            self.assertEqual(supervisor.next(),
                             ["READY=1", "STATUS=Serving on %s:%d" % server.address])
            server.process.send_signal(signal.SIGHUP)
            reloading = supervisor.next()
            self.assertEqual(reloading[0], "RELOADING=1")
            self.assertRegex(reloading[1], r"^MONOTONIC_USEC=[0-9]+$")
            self.assertEqual(supervisor.next(), ["READY=1"])
            server.signal()
            self.assertEqual(supervisor.next(), ["STOPPING=1", "STATUS=Finishing what was admitted"])
            server.stop()

    def test_watchdog(self):
        supervisor, server = self.supervised(self.folder() + "/notify", WATCHDOG_USEC="20000")
        for _ in range(3):
            supervisor.until("WATCHDOG=1")
        server.stop()

    def test_watchdog_of_another(self):
        supervisor, server = self.supervised(self.folder() + "/notify", WATCHDOG_USEC="1000",
                                             WATCHDOG_PID="1")
        self.assertEqual(supervisor.next()[0], "READY=1")
        server.process.send_signal(signal.SIGHUP)
        self.assertEqual(supervisor.next()[0], "RELOADING=1")
        server.stop()

    def test_nobody_listens(self):
        for address in ("relative", "/nowhere/notify", "@" + "x" * 200, "@nobody", "", "@"):
            server = self.start(env={"NOTIFY_SOCKET": address})
            server.stop()


class TestRestart(HandoverCase):
    """Under load, again and again; no client sends anything twice."""

    def undisturbed(self, clients, kinds):
        self.assertEqual(clients.failures, [])
        for kind in kinds:
            self.assertGreater(clients.served[kind.__name__], 0, kind.__name__)

    def test_socket_stays_with_the_supervisor(self):
        """One process after the other, as "systemctl restart" does it."""
        main, flags = self.socket(), ("--jobs", self.folder())
        server = self.start(*flags, sockets={"main": main})
        clients = load.Load(server.address, EVERYONE)
        try:
            for _ in range(RESTARTS):
                clients.progress(SERVED)
                server.stop()
                server = self.start(*flags, sockets={"main": main})
        finally:
            clients.stop()
        self.undisturbed(clients, EVERYONE)
        server.stop()

    def replaced(self, server, kinds, restarts=RESTARTS):
        """The clients of a server that is told SIGUSR2 again and again; the last process stays."""
        clients, pid = load.Load(server.address, kinds), server.process.pid
        try:
            for i in range(restarts):
                clients.progress(SERVED)
                os.kill(pid, signal.SIGUSR2)
                wait_until(lambda: len(self.lines(server, "stopped")) == i + 1, "a replacement")
                pid = self.successors(server)[-1]
            clients.progress(SERVED)
        finally:
            clients.stop()
        self.assertEqual(len(self.lines(server, "listening")), restarts + 1)
        self.assertEqual(server.wait_for_process(), 0)
        return clients

    def lines(self, server, event):
        return [line for line in server.lines if f"event={event} " in line]

    def successors(self, server):
        return [int(re.search(r"pid=([0-9]+)", line)[1]) for line in self.lines(server, "successor")]

    def begin(self, *flags):
        self.stall = self.enterContext(Stall())
        server = self.start(*flags, env=self.stall.environment)
        self.addCleanup(self.kill, server)
        return server

    def kill(self, server):
        """What a test that failed may have left; a number that is taken anew is not among them."""
        for pid in self.successors(server)[-1:]:
            if len(self.lines(server, "stopped")) < len(self.lines(server, "listening")):
                os.kill(pid, signal.SIGKILL)

    def end(self, server):
        os.kill(self.successors(server)[-1], signal.SIGTERM)
        server.told_to_stop = True
        server.stop()  # reads the log to the end: of the last process too

    def test_replaced(self):
        """Two processes side by side while the work of the old one is finished."""
        server = self.begin("--admin-listen", "127.0.0.1:0")
        kinds = {kind: EVERYONE[kind] for kind in (load.picture, load.fresh, load.stream)}
        self.undisturbed(self.replaced(server, kinds), kinds)
        admin = re.search(r"admin=127.0.0.1:([0-9]+)", self.lines(server, "listening")[-1])
        server.address = "127.0.0.1", int(admin[1])
        self.assertEqual(ask(server, "GET", "/readyz").status, 200)
        self.end(server)

    def test_replaced_with_jobs(self):
        """One after the other: a directory of jobs has one owner."""
        server = self.begin("--jobs", self.folder())
        self.undisturbed(self.replaced(server, EVERYONE), EVERYONE)
        self.end(server)

    def replaced_at_work(self, server, headers=JSON, meanwhile=lambda: None):
        """The old one finishes what it has begun; `meanwhile` is done when it has been relieved."""
        with Client(server) as client:
            self.stall.arm()
            client.send("POST", "/v1/generate", QUICK, headers)
            server.wait_for_pictures(1)
            os.kill(server.process.pid, signal.SIGUSR2)
            server.wait_for_log("event=draining")
            meanwhile()
            self.stall.release()
            self.assertEqual(client.receive().status, 200)
        self.assertEqual(server.wait_for_process(), 0)
        self.end(server)

    def test_work_of_the_old_one_is_finished(self):
        """Meanwhile the new one serves."""
        server = self.begin()

        def serves():
            self.assertEqual(ask(server, "POST", "/v1/generate", {**QUICK, "format": "png"}).status, 200)
            self.assertIsNone(server.process.poll())

        self.replaced_at_work(server, meanwhile=serves)

    def test_a_successor_that_cannot_start(self):
        """Nothing has changed."""
        keys = pathlib.Path(self.folder()) / "keys"
        keys.write_text("somebody " + "0" * 64)
        server = self.start("--keys-file", keys)
        keys.write_text("nonsense")
        for i in range(2):
            os.kill(server.process.pid, signal.SIGUSR2)
            wait_until(lambda: len(self.lines(server, "successor-gone")) == i + 1, "its end")
            self.assertEqual(ask(server, "GET", "/livez").status, 200)
        server.stop()

    def test_a_successor_that_cannot_start_with_jobs(self):
        """Its predecessor has not let go of the directory yet."""
        folder, taken = pathlib.Path(self.folder()), self.socket()
        secret, settings = folder / "secret", folder / "settings"
        secret.write_text(32 * "x")
        settings.write_text("")
        server = self.start("--config", settings, "--jobs", folder / "jobs", "--webhook-allow", "a.example",
                            "--webhook-secret-file", secret)

        def admin_is_taken():
            settings.write_text("admin-listen = 127.0.0.1:%d\n" % taken.getsockname()[1])

        for i, spoil in enumerate((secret.unlink, admin_is_taken)):
            spoil()
            os.kill(server.process.pid, signal.SIGUSR2)
            wait_until(lambda: len(self.lines(server, "successor-gone")) == i + 1, "its end")
            self.assertEqual(ask(server, "GET", "/readyz").status, 200)
            secret.write_text(32 * "x")
        server.stop()

    def test_told_to_stop_once(self):
        """After it was relieved: what it has begun is finished all the same."""
        server = self.begin()
        self.replaced_at_work(server, meanwhile=lambda: os.kill(server.process.pid, signal.SIGTERM))

    def test_descriptors_are_not_inherited(self):
        """But for the sockets. Of a Redis's connections each replica has its own."""
        redis = Redis()
        self.addCleanup(redis.stop)
        server = self.begin("--jobs", redis.start().url())
        pid = server.process.pid
        for i in range(3):
            wait_until(lambda: len(redis.ask("CLIENT", "LIST").splitlines()) == 3, "the two of a replica, and ours")
            os.kill(pid, signal.SIGUSR2)
            wait_until(lambda: len(self.lines(server, "stopped")) == i + 1, "a replacement")
            pid = self.successors(server)[-1]
        self.assertEqual(server.wait_for_process(), 0)
        self.end(server)

    def test_whoever_waits_for_a_shared_job(self):
        """Here, where somebody else goes on, nobody is sent away."""
        redis = Redis()
        self.addCleanup(redis.stop)
        server = self.begin("--jobs", redis.start().url())
        server.wait_for_log("event=redis-up")
        self.replaced_at_work(server, {**JSON, "Idempotency-Key": "k"})

    def test_stopped_while_a_successor_gets_ready(self):
        """It goes too: the log, which it shares, comes to an end."""
        keys = pathlib.Path(self.folder()) / "keys"
        os.mkfifo(keys)
        threading.Thread(target=keys.write_text, args=("somebody " + "0" * 64 + "\n",)).start()  # for the first to read
        server = self.start("--keys-file", keys)
        os.kill(server.process.pid, signal.SIGUSR2)
        server.wait_for_log("event=successor ")
        server.stop()
        self.assertEqual(len(self.lines(server, "stopped")), len(self.lines(server, "listening")))

    def test_supervisor_is_told_who_goes_on(self):
        path = self.folder() + "/notify"
        supervisor = Supervisor(path)
        self.addCleanup(supervisor.socket.close)
        server = self.start(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"})
        self.addCleanup(self.kill, server)
        os.kill(server.process.pid, signal.SIGUSR2)
        server.wait_for_log("event=successor ")
        supervisor.until(f"MAINPID={self.successors(server)[0]}")
        self.assertEqual(server.wait_for_process(), 0)
        supervisor.until("WATCHDOG=1")  # of the new one
        self.end(server)


if __name__ == "__main__":
    unittest.main()
