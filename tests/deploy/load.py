"""Clients that ask without a pause and forgive nothing: every answer has to be the right picture.

No client here sends a request twice. A connection is opened anew only for a client that does so every
time, or after an answer that said it would be closed. So whatever is lost on the way is a failure.
"""
import collections
import http.client
import json
import threading
import time
import uuid

BODY = {"steps": 4, "seed": 7, "class": 1, "format": "png"}
JSON = {"Content-Type": "application/json"}
PATIENCE_S = 60
ATTEMPTS = 10
PAUSE_S = 0.02  # of a client that polls


class Failure(Exception):
    """What a client did not get."""


class Client:
    """A connection that is used until the server says that it closes it."""

    def __init__(self, address):
        self.address, self.connection = address, None

    def ask(self, method, path, body=None, headers=None):
        """(status, headers, body, whether that was the connection's last answer)"""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE_S)
        body = None if body is None else json.dumps(body)
        self.connection.request(method, path, body, {**(JSON if body else {}), **(headers or {})})
        reply = self.connection.getresponse()
        last, data = reply.will_close, reply.read()
        if last:
            self.close()
        return reply.status, reply.headers, data

    def expect(self, status, *question):
        got, headers, data = self.ask(*question)
        if got != status:
            raise Failure(f"{question[0]} {question[1]}: {got} {data[:200]!r}")
        return headers, data

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


def picture(load, client):
    """One picture on the client's connection."""
    _, data = client.expect(200, "POST", "/v1/generate", load.body, {"Accept": "image/png"})
    load.compare(data)


def fresh(load, client):
    """The same on a connection of its own."""
    picture(load, client)
    client.close()


def stream(load, client):
    """A picture with the events on its way."""
    _, data = client.expect(200, "POST", "/v1/generate", load.body, {"Accept": "text/event-stream"})
    if b"event: completed" not in data:
        raise Failure(f"a stream broke off after {data[-200:]!r}")


def job(load, client):
    """A job: made, polled until it is over, its picture fetched."""
    path = f"/v1/jobs/{uuid.uuid4().hex}"
    client.expect(201, "PUT", path, load.body)
    load.finish_job(client, path)


def asynchronous(load, client):
    """A job that the service names."""
    headers, _ = client.expect(202, "POST", "/v1/generate", load.body, {"Prefer": "respond-async"})
    load.finish_job(client, headers["Location"])


def patient_stream(load, client):
    """A stream that is asked for again if it breaks off: what has begun cannot be moved."""
    for _ in range(ATTEMPTS):
        try:
            return stream(load, client)
        except (Failure, OSError, http.client.HTTPException):
            load.come_again()
            client.close()
    raise Failure("a stream broke off again and again")


def patient_job(load, client):
    """A job whose client comes again after a 503 that says when, as it may: all its requests are idempotent."""
    path = f"/v1/jobs/{uuid.uuid4().hex}"
    load.insist(client, (200, 201), "PUT", path, load.body)
    load.finish_job(Patient(load, client), path)


class Patient:
    """The client of a patient_job."""

    def __init__(self, load, client):
        self.load, self.client = load, client

    def expect(self, status, *question):
        return self.load.insist(self.client, (status,), *question)


def refusable(load, client):
    """A picture, or 429 with Retry-After, which has to be the service's own."""
    status, headers, data = client.ask("POST", "/v1/generate", load.body, {"Accept": "image/png"})
    if status == 200:
        load.compare(data)
    elif status == 429 and headers["Retry-After"] and headers["Content-Type"] == "application/problem+json":
        with load.lock:
            load.refused[json.loads(data)["type"].rpartition(":")[2]] += 1
    else:
        raise Failure(f"{status} {data[:200]!r}")


class Load:
    """`kinds` maps functions as above to how many clients do that, over and over, until stop()."""

    def __init__(self, address, kinds, body=None):
        self.address, self.body = address, body or BODY
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.served, self.refused, self.again = collections.Counter(), collections.Counter(), 0
        self.failures, self.slowest_s = [], collections.Counter()
        client = Client(address)
        _, self.reference = client.expect(200, "POST", "/v1/generate", self.body,
                                          {"Accept": "image/png"})
        client.close()
        self.threads = [threading.Thread(target=self.run, args=(kind,))
                        for kind, count in kinds.items() for _ in range(count)]
        for thread in self.threads:
            thread.start()

    def compare(self, data):
        if data != self.reference:
            raise Failure(f"another picture, of {len(data)} bytes")

    def finish_job(self, client, path):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            _, data = client.expect(200, "GET", path)
            status = json.loads(data)["status"]
            if status == "completed":
                break
            if status == "failed" or time.monotonic() > deadline:
                raise Failure(f"{path} is {status}")
            time.sleep(PAUSE_S)
        _, data = client.expect(200, "GET", f"{path}/images/0")
        self.compare(data)

    def come_again(self):
        with self.lock:
            self.again += 1

    def insist(self, client, statuses, *question):
        """Ask again while the answer is 503 with Retry-After."""
        for _ in range(ATTEMPTS):
            status, headers, data = client.ask(*question)
            if status in statuses:
                return headers, data
            if status != 503 or not headers["Retry-After"]:
                break
            self.come_again()
            time.sleep(float(headers["Retry-After"]))
        raise Failure(f"{question[0]} {question[1]}: {status} {data[:200]!r}")

    def run(self, kind):
        client = Client(self.address)
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                kind(self, client)
            except (Failure, OSError, http.client.HTTPException) as failure:
                with self.lock:
                    self.failures.append(f"{kind.__name__}: {type(failure).__name__}: {failure}")
                client.close()
                time.sleep(PAUSE_S)
                continue
            with self.lock:
                self.served[kind.__name__] += 1
                self.slowest_s[kind.__name__] = max(self.slowest_s[kind.__name__],
                                                    time.monotonic() - began)
        client.close()

    def count(self):
        """How many were served so far."""
        with self.lock:
            return sum(self.served.values())

    def progress(self, more):
        """Wait until so many more were served."""
        goal, deadline = self.count() + more, time.monotonic() + PATIENCE_S
        while self.count() < goal:
            if time.monotonic() > deadline:
                raise Failure(f"nobody is served: {self.failures[-3:]}")
            time.sleep(0.005)

    def stop(self):
        """End; what is under way is waited for."""
        self.stopping.set()
        for thread in self.threads:
            thread.join()
