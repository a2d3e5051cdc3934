"""What every suite needs: servers on free ports, clients that record what they get, raw sockets.

A suite starts real binaries of the build that BRICKWORK_BUILD names (default: build) and stops them
through Server.stop(), which insists on a clean exit and, in builds with sanitizers, on no report.
"""
import base64
import concurrent.futures
import http.client
import io
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import contract

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("BRICKWORK_BUILD", "build")).resolve()
SERVER = BUILD / "brickworkd"
COMMAND = BUILD / "brickwork"
TINY = ROOT / "tests/models/tiny-pg-32.safetensors"
POMOLOGY = ROOT / "models/pomology-128.safetensors"

SANITIZED = BUILD.name in ("asan", "tsan")
# How long a condition may take to come true; only a broken build waits that long.
PATIENCE_S = 480 if SANITIZED else 120
JSON = {"Content-Type": "application/json"}
SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:")

# On the tiny model: a request that takes milliseconds, and one of pictures that outlast every test on any machine; several
# of it have to fit into the longest queue that can be set. Where no such picture will do, Stall has one wait for the test.
QUICK = {"steps": 2, "seed": 1, "class": 1}
ENDLESS = {"steps": 256, "size": "48x48" if SANITIZED else "256x256", "n": 8, "seed": 1, "solver": "heun"}


def environment(extra=None):
    """The environment of a program under test: the caller's without any setting of Brickwork."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BRICKWORK_")}
    clean["ASAN_OPTIONS"] = "detect_leaks=1:verify_asan_link_order=0"  # libraries of tests come first
    suppressions = ROOT / "tests/tsan.supp"
    if suppressions.exists():
        clean["TSAN_OPTIONS"] = f"suppressions={suppressions}"
    return {**clean, **(extra or {})}


def run_program(program, *arguments, env=None, timeout=PATIENCE_S):
    """Run to the end; returns the completed process with text output."""
    return subprocess.run([str(program), *map(str, arguments)], env=environment(env), text=True,
                          capture_output=True, timeout=timeout, check=False)


def wait_until(condition, what):
    """Wait until condition() is true, and give it back. The pause only keeps the waiting from eating the machine."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.01)
    return found


class Server:
    """A running brickworkd. Its log lines are collected as they come."""

    def __init__(self, *flags, model=TINY, env=None, sockets=None):
        """`sockets` maps names to listening sockets that are handed in."""
        handed = {name: s.fileno() for name, s in (sockets or {}).items()}
        launcher = [sys.executable, ROOT / "tests/deploy/activate.py",
                    *(f"{name}={fd}" for name, fd in handed.items()), "--"]
        self.process = subprocess.Popen(
            [*(launcher if handed else []), str(SERVER), "--listen", "127.0.0.1:0", "--queue-ms", "86400000",
             "--deadline-grace-ms", "3600000", "--model", str(model),
             *map(str, flags)],
            env=environment(env), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            errors="replace", pass_fds=list(handed.values()))
        self.told_to_stop = False
        self.lines = []
        self.grown = threading.Condition()
        self.reader = threading.Thread(target=self._collect, daemon=True)
        self.reader.start()
        line = self.wait_for_log(r'event"?[=:]"?listening')
        host, port = re.search(r'address"?[=:]"?([0-9.]+):(\d+)', line).groups()
        self.address = host, int(port)

    def _collect(self):
        for line in self.process.stderr:
            with self.grown:
                self.lines.append(line.rstrip("\n"))
                self.grown.notify_all()
        with self.grown:
            self.lines.append("(end of the log)")
            self.grown.notify_all()

    def wait_for_log(self, pattern):
        """The first log line that matches, whenever it comes."""
        def first():
            return next((line for line in self.lines if re.search(pattern, line)), None)
        with self.grown:
            self.grown.wait_for(lambda: first() or "(end of the log)" in self.lines, PATIENCE_S)
            if not first():
                raise AssertionError(f"no log line with {pattern} in:\n" + "\n".join(self.lines))
            return first()

    def metrics(self):
        """GET /metrics as a dictionary: 'name{labels}' without the prefix -> number."""
        text = ask(self, "GET", "/metrics").body.decode()
        samples = [line.rsplit(" ", 1) for line in text.splitlines() if line[:1] not in ("", "#")]
        return {name.removeprefix("brickwork_"): float(value) for name, value in samples}

    def alone(self):
        """The metrics when nobody is connected but who asks for them, and no picture is in progress."""
        def metrics_if_alone():
            metrics = self.metrics()
            return (metrics["connections"], metrics["in_progress_pictures"]) == (1, 0) and metrics
        return wait_until(metrics_if_alone, "no other connection")

    def admitted(self):
        """How many requests were admitted so far."""
        return self.metrics()['admissions_total{decision="admitted"}']

    def wait_for_admitted(self, count):
        """Wait until that many requests were admitted, whether or not some of them are over."""
        wait_until(lambda: self.admitted() >= count, f"{count} requests admitted")

    def wait_for_pictures(self, count):
        """Wait until exactly that many pictures are admitted and not over: such as cannot be over yet, or none."""
        wait_until(lambda: self.metrics()["in_progress_pictures"] == count,
                   f"{count} pictures in progress")

    def wait_for_running(self):
        """Wait until one picture is admitted and a worker has it: none waits in the queue."""
        def running():
            metrics = self.metrics()
            return metrics["in_progress_pictures"] == 1 and metrics["queue_pictures"] == 0
        wait_until(running, "a picture that a worker has")

    def signal(self, number=signal.SIGTERM):
        self.told_to_stop = True
        self.process.send_signal(number)

    def wait_for_process(self):
        """The exit status of the process that was started; a successor of it may go on."""
        return self.process.wait(PATIENCE_S)

    def wait(self):
        """The exit status, once the process has ended and its log is read to the end."""
        status = self.process.wait(PATIENCE_S)
        self.reader.join(PATIENCE_S)
        self.process.stderr.close()
        return status

    def stop(self, status=0):
        """Stop, unless that is under way, and insist that it ends as it should."""
        if not self.told_to_stop:
            self.signal()
        try:
            got = self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.wait()
            raise
        log = "\n".join(self.lines)
        if got != status or SANITIZER_REPORT.search(log):
            raise AssertionError(f"the server ended with status {got}, not {status}:\n{log}")


class ServerCase(unittest.TestCase):
    """A suite that shares one server, started with `flags` and the model `model`."""
    flags = ()
    model = TINY

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.flags, model=cls.model)
        cls.addClassCleanup(cls.server.stop)

    def generate(self, body, headers=None):
        """POST /v1/generate on the shared server."""
        return ask(self.server, "POST", "/v1/generate", body, headers)

    def picture(self, body, headers=None):
        """The same, for a request that has to succeed: its bytes."""
        response = self.generate(body, headers)
        self.assertEqual(response.status, 200, response.body[:300])
        return response.body

    def refused(self, response, status, pointer=None):
        """Assert that this is that problem, about that field."""
        self.assertEqual(response.status, status, response.body[:300])
        self.assertEqual(response.type, "application/problem+json")
        problem = response.json()
        pointers = [error["pointer"] for error in problem.get("errors", [])]
        self.assertEqual(pointers, [] if pointer is None else [pointer], problem)
        return problem


class Response:
    """Status, headers and whole body of an answer."""

    def __init__(self, reply):
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()
        self.will_close = reply.will_close
        self.type = self.headers.get("Content-Type", "").split(";")[0]

    def json(self):
        return json.loads(self.body)

    def images(self):
        """The decoded pictures of a JSON answer of /v1/generate."""
        return [base64.b64decode(image["b64"], validate=True) for image in self.json()["images"]]


class Client:
    """A keep-alive connection. Every answer is recorded, to be held against openapi.yaml."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE_S)
        self.connection.connect()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def send(self, method, path, body=None, headers=None):
        """Send a request; a body that is not bytes goes as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if headers is None:
            headers = JSON if body is not None else {}
        self.sent = method, path, body
        self.connection.request(method, path, body, headers)

    def receive(self):
        """The answer to the request sent last."""
        method, path, body = self.sent
        response = Response(self.connection.getresponse())
        contract.record(method, path, response, body)
        return response

    def ask(self, method, path, body=None, headers=None):
        self.send(method, path, body, headers)
        return self.receive()


def ask(server, method, path, body=None, headers=None):
    """One request on a connection of its own. `headers` None: JSON if there is a body."""
    with Client(server) as client:
        return client.ask(method, path, body, headers)


class Recording(io.BytesIO):
    """Bytes that were received, as the socket that http.client wants to read answers from."""

    def makefile(self, *_):
        return self

    def close(self):
        """Stay open: the next answer follows."""


class Raw:
    """A bare socket, for requests that no library would send."""

    def __init__(self, server):
        self.socket = socket.create_connection(server.address, PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def finish(self):
        """Close the sending side; the server may have closed the connection already."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def receive(self, method="GET", path="/livez"):
        """The next answer, read and recorded as the answer to that request."""
        reply = http.client.HTTPResponse(self.socket, method=method)
        reply.begin()
        response = Response(reply)
        contract.record(method, path, response)
        return response

    def receive_all(self, *requests):
        """The answers to these (method, path), in order, the last of which closes."""
        recording = Recording(self.read_to_end())
        responses = []
        for method, path in requests:
            reply = http.client.HTTPResponse(recording, method=method)
            reply.begin()
            responses.append(Response(reply))
            contract.record(method, path, responses[-1])
        return responses

    def read_to_end(self):
        """What comes until the server closes. A reset counts as closing."""
        data = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionError:
            pass
        return data


def raw_request(method, path, *fields, body=b"", host=b"Host: test\r\n"):
    """The bytes of an HTTP/1.1 request with these header fields (b"Name: value")."""
    lines = b"".join(field + b"\r\n" for field in fields)
    return method + b" " + path + b" HTTP/1.1\r\n" + host + lines + b"\r\n" + body


def in_parallel(count, work):
    """[work(0), ..., work(count - 1)], each in a thread of its own."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))
