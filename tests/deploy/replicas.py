"""deploy/nginx.conf in front of real replicas, and what may happen to them.

Every scenario is a function that does it under load and returns a Row: what the clients got, and what nginx's
log says of how. tests/deploy/proof.py runs them for long and prints the rows, tests/http/test_replicas.py runs
them for short as part of the tests.
"""
import collections
import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/http"), str(ROOT / "tests/deploy")]
import load  # noqa: E402
from support import PATIENCE_S, Server, wait_until  # noqa: E402

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
LINE = re.compile(r'"(?P<request>[^"]*)" (?P<status>\d+) \d+ id=\S+ upstream="(?P<upstream>[^"]*)" '
                  r'upstream_status="(?P<statuses>[^"]*)"')
COUNT = 3
SYNC = {load.picture: 3, load.fresh: 2}
EVERYONE = {**SYNC, load.stream: 2, load.job: 1, load.asynchronous: 1}
PATIENT = {**SYNC, load.patient_stream: 2, load.patient_job: 1}


@dataclasses.dataclass
class Row:
    """The outcome of a scenario."""
    name: str
    served: int = 0   # right answers
    failed: int = 0   # wrong or none
    again: int = 0    # told to come again (503, or a stream that broke off), and did with success
    moved: int = 0    # given to a second replica by nginx
    slowest_s: float = 0
    failures: list = dataclasses.field(default_factory=list)
    notes: str = ""


def listening(host="127.0.0.1"):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, 0))
    s.listen(1024)
    return s


class Replica:
    """One process after the other on one address. `held`: the socket is ours, as with systemd, and stays open; else
    each process opens it, as in a container."""

    def __init__(self, *flags, held=True):
        self.folder = tempfile.TemporaryDirectory()
        self.socket = listening()
        self.address = self.socket.getsockname()
        self.flags = ["--jobs", self.folder.name, "--trusted-proxies", "127.0.0.1", *flags]
        self.held = held
        if not held:
            self.socket.close()
        self.start()

    @property
    def name(self):
        return "%s:%d" % self.address

    def start(self):
        if self.held:
            self.server = Server(*self.flags, sockets={"main": self.socket})
        else:
            self.server = Server(*self.flags, "--listen", self.name)

    def restart(self):
        self.server.stop()
        self.start()

    def kill(self):
        self.server.signal(signal.SIGKILL)
        self.server.wait()

    def close(self):
        if self.server.process.poll() is None:
            self.server.process.send_signal(signal.SIGCONT)
            self.server.stop()
        self.socket.close()
        self.folder.cleanup()


class Nginx:
    """deploy/nginx.conf as it is, but for ports and paths. `edits` are more (pattern, replacement) for it."""

    def __init__(self, addresses, edits=()):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        with listening() as free:
            self.address = free.getsockname()
        self.log = self.folder / "access.log"
        paths = "".join(f"{kind}_temp_path {self.folder}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = (ROOT / "deploy/nginx.conf").read_text()
        for pattern, replacement in [*edits,
                                     (r"^user www-data;", "daemon off;"),
                                     (r"/run/nginx\.pid", f"{self.folder}/pid"),
                                     (r"/var/log/nginx/error\.log warn", f"{self.folder}/error.log warn"),
                                     (r"/var/log/nginx/access\.log", str(self.log)),
                                     (r"server_tokens off;", "server_tokens off;\n" + paths),
                                     (r"^        listen 80;", "        listen %s:%d;" % self.address)]:
            text, count = re.subn(pattern, replacement, text, flags=re.M)
            if not count:
                raise AssertionError(f"nginx.conf has no {pattern}")
        upstream = (ROOT / "deploy/brickwork_upstream.conf").read_text()
        settings = re.search(r"^server \S+ (.*);$", upstream, re.M)[1]
        (self.folder / "nginx.conf").write_text(text)
        (self.folder / "brickwork_upstream.conf").write_text(
            "".join(f"server {host}:{port} {settings};\n" for host, port in addresses))
        self.process = subprocess.Popen([NGINX, "-e", self.folder / "error.log", "-c", self.folder / "nginx.conf"])
        wait_until(self.is_up, "nginx")

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(f"nginx does not start: {(self.folder / 'error.log').read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(self.address) == 0

    def lines(self, since=0):
        """What it has logged, as (request, status, [replica], [its status])."""
        found = [LINE.search(line) for line in self.log.read_text().splitlines()[since:]]
        return [(m["request"], int(m["status"]), m["upstream"].split(", "), m["statuses"].split(", "))
                for m in found if m]

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE_S)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def service(*flags, held=True, edits=()):
    """(nginx, replicas)"""
    with contextlib.ExitStack() as stack:
        replicas = []
        for _ in range(COUNT):
            replicas.append(Replica(*flags, held=held))
            stack.callback(replicas[-1].close)
        nginx = Nginx([r.address for r in replicas], edits)
        stack.callback(nginx.close)
        yield nginx, replicas


@contextlib.contextmanager
def loaded(row, nginx, kinds, body=None):
    """The clients, whose experience is in the row afterwards."""
    clients = load.Load(nginx.address, kinds, body)
    try:
        yield clients
    finally:
        clients.stop()
    row.served, row.failures, row.again = clients.count(), clients.failures, clients.again
    row.failed = len(row.failures)
    row.slowest_s = max(clients.slowest_s.values(), default=0)
    for kind in kinds:
        if not clients.served[kind.__name__]:
            row.failures.append(f"{kind.__name__}: nobody was served")
    row.moved = sum(len(line[2]) > 1 for line in nginx.lines())


def restarted(rounds, pause, held=True):
    """Each replica is stopped and started, one after the other."""
    row = Row("each restarted, its socket kept" if held else "each restarted, its socket closed")
    kinds = EVERYONE if held else {**SYNC, load.stream: 2}
    with service(held=held) as (nginx, replicas), loaded(row, nginx, kinds) as clients:
        for _ in range(rounds):
            for replica in replicas:
                clients.progress(pause)
                replica.restart()
        clients.progress(pause)
    row.notes = f"{rounds * COUNT} restarts"
    return row


def killed(rounds, pause):
    """Replicas die and are started again, as a supervisor does."""
    row = Row("one killed (SIGKILL)")
    with service() as (nginx, replicas), loaded(row, nginx, PATIENT) as clients:
        for i in range(rounds):
            clients.progress(pause)
            replicas[i % COUNT].kill()
            clients.progress(pause)
            replicas[i % COUNT].start()
        clients.progress(pause)
        most = rounds * sum(PATIENT.values())
        moved = [line for line in nginx.lines() if len(line[2]) > 1]
    row.notes = f"{rounds} kills; at most {most} requests were under way"
    if len(moved) > most:
        row.failures.append(f"{len(moved)} requests were moved")
    return row


def frozen(rounds, pause, end=signal.SIGCONT):
    """A replica stands still and comes back, or is killed by its watchdog."""
    row = Row("one frozen (SIGSTOP), then resumed" if end == signal.SIGCONT else "one frozen, then killed")
    during = 0
    with service() as (nginx, replicas), loaded(row, nginx, SYNC) as clients:
        for i in range(rounds):
            clients.progress(pause)
            replica = replicas[i % COUNT]
            replica.server.process.send_signal(signal.SIGSTOP)
            before = clients.count()
            clients.progress(pause)
            during += clients.count() - before
            if end == signal.SIGCONT:
                replica.server.process.send_signal(signal.SIGCONT)
            else:
                replica.kill()
                replica.start()
        clients.progress(pause)
    row.notes = f"{during} served while it stood still"
    return row


def overloaded(clients_count, pause):
    """Three replicas with short queues and many more clients than they have room for."""
    row = Row("all overloaded")
    flags = ("--workers", 1, "--threads", 1, "--batch", 1, "--queue", 8)
    body = {**load.BODY, "steps": 40}
    with service(*flags) as (nginx, replicas):
        with loaded(row, nginx, {load.refusable: clients_count}, body) as clients:
            clients.progress(pause)
            wait_until(lambda: clients.refused["queue-full"] > 2 * COUNT, "refusals")
            infeasible = load.Client(nginx.address)
            status, _, data = infeasible.ask("POST", "/v1/generate", {**body, "steps": 256, "deadline_ms": 1})
            infeasible.close()
            if status != 503 or b"deadline-infeasible" not in data:
                row.failures.append(f"an infeasible deadline got {status} {data[:200]}")
        lines = nginx.lines()
        at_peak = collections.Counter(line[2][0] for line in lines)
        since = len(lines)
        client = load.Client(nginx.address)
        for _ in range(8 * COUNT):  # nobody has been ejected: all are asked at once again
            client.expect(200, "POST", "/v1/generate", load.BODY)
        client.close()
        after = collections.Counter(line[2][0] for line in nginx.lines(since))
        for replica in replicas:
            if not at_peak[replica.name] or not after[replica.name]:
                row.failures.append(f"{replica.name} was ejected: {at_peak} {after}")
    row.notes = (f"{clients.refused['queue-full']} times 429 with Retry-After; then "
                 + ", ".join(str(after[r.name]) for r in replicas) + f" of {8 * COUNT} requests to each")
    row.failed = len(row.failures)
    return row
