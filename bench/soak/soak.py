"""Mixed load on a real server for a long time: python3 bench/soak/soak.py [--minutes 30] [--behaviour]

Clients of every kind at once: pictures in all forms, streams that are followed and dropped, jobs that
end, are fetched, deleted and forgotten, conditional requests, quotas, deadlines, mistakes, clients that
vanish without a word; meanwhile the models are scanned again and one of them is replaced. Every kind
knows which answers it may get, and pictures must be the same bytes each time; anything else is an
error. Memory, descriptors and threads are looked at every few seconds.

Prints what was asked and answered, and how memory has grown between a sixth of the time and the end.
Exit status 1: an error, memory grown by more than 2 %, or descriptors left over. With --behaviour
memory does not count, for runs too short to tell.
"""
import argparse
import collections
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = (ROOT / os.environ.get("BRICKWORK_BUILD", "build")).resolve()
MODELS = [ROOT / "models/pomology-128.safetensors", ROOT / "tests/models/tiny-pg-32.safetensors"]
KEYS = {"steady": "", "narrow": "rate=20/m"}
CLIENTS = 6
SAMPLE_S, RESCAN_S, REPLACE_S, KEEP_JOBS_S = 2, 5, 15, 30
PATIENCE_S = 120
GROWTH_MOST = 0.02
REFUSED = {429}  # the queue may be full at any time


class Service:
    """The server under load, and what is known of its process."""

    def __init__(self, folder):
        self.models = folder / "models"
        self.models.mkdir()
        for model in MODELS:
            shutil.copy(model, self.models)
        keys = "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()} {quota}\n" for name, quota in KEYS.items())
        (folder / "keys").write_text(keys)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BRICKWORK_")}
        self.process = subprocess.Popen(
            [BUILD / "brickworkd", "--listen", "127.0.0.1:0", "--model", self.models, "--jobs", folder / "jobs",
             "--jobs-keep-s", str(KEEP_JOBS_S), "--keys-file", folder / "keys", "--workers", "2", "--threads", "1"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)
        self.troubles = []
        self.listening = threading.Event()
        threading.Thread(target=self._read_log, daemon=True).start()
        self.listening.wait(PATIENCE_S)
        if not hasattr(self, "address"):
            raise SystemExit("the server does not start: " + " ".join(self.troubles))

    def _read_log(self):
        for line in self.process.stderr:
            if found := re.search(r"event=listening address=([0-9.]+):(\d+)", line):
                self.address = found[1], int(found[2])
                self.listening.set()
            if "level=error" in line or not line.startswith("time="):
                self.troubles.append(line.strip())
        self.listening.set()

    def sample(self):
        """(KiB resident, descriptors, threads)."""
        base = pathlib.Path(f"/proc/{self.process.pid}")
        status = (base / "status").read_text()
        return (int(re.search(r"VmRSS:\s+(\d+)", status)[1]), len(list((base / "fd").iterdir())),
                int(re.search(r"Threads:\s+(\d+)", status)[1]))

    def replace_model(self):
        """The small one, by a file with the same content."""
        fresh = self.models / "fresh"
        shutil.copy(MODELS[1], fresh)
        fresh.rename(self.models / MODELS[1].name)

    def rescan(self):
        self.process.send_signal(signal.SIGHUP)


class Tally:
    """What was asked and answered, by all threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()  # (kind, outcome)
        self.errors = []
        self.digests = {}

    def count(self, kind, outcome, permitted, detail=b""):
        """One answer; `permitted` are the outcomes it may have."""
        with self.lock:
            self.counts[kind, str(outcome)] += 1
            if outcome not in permitted:
                self.errors.append(f"{kind}: {outcome} {detail[:200]!r}")

    def same(self, kind, request, picture):
        """A picture is the same bytes whenever it is asked for."""
        digest = hashlib.sha256(picture).hexdigest()
        with self.lock:
            if self.digests.setdefault(request, digest) != digest:
                self.errors.append(f"{kind}: other bytes for {request}")


class Client:
    """One thread's connection, which comes and goes."""

    def __init__(self, service, tally, seed):
        self.service, self.tally, self.random = service, tally, random.Random(seed)
        self.connection = None
        self.number, self.jobs = seed, 0

    def body(self, **more):
        """A request for a picture, of which there are so few that most have been asked for before."""
        tiny = self.random.random() < 0.7
        request = {"model": "tiny-pg-32" if tiny else "pomology-128", "seed": self.random.randrange(4), "class": 1,
                   "steps": self.random.choice([2, 4, 12]) if tiny else 2, **more}
        if tiny and self.random.random() < 0.2:
            request["size"] = "64x64"
        return request

    def open(self):
        if not self.connection:
            self.connection = http.client.HTTPConnection(*self.service.address, timeout=PATIENCE_S)
            self.connection.connect()
        return self.connection

    def leave(self, rudely=False):
        """Close the connection; rudely: with a reset."""
        if self.connection and rudely and self.connection.sock:
            self.connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.connection:
            self.connection.close()
        self.connection = None

    def send(self, method, path, body=None, key="steady", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.open().request(method, path, body, headers)

    def ask(self, *question, **more):
        self.send(*question, **more)
        reply = self.connection.getresponse()
        data = reply.read()
        if reply.will_close:
            self.leave()
        return reply, data

    # ---- the kinds ----

    def picture(self):
        body = self.body(format=self.random.choice(["jpeg", "png", "webp"]))
        reply, data = self.ask("POST", "/v1/generate", body, Accept="image/*")
        self.tally.count("picture", reply.status, {200} | REFUSED, data)
        if reply.status == 200:
            self.tally.same("picture", json.dumps(body, sort_keys=True), data)

    def several(self):
        reply, data = self.ask("POST", "/v1/generate", self.body(n=3), Accept="application/json")
        self.tally.count("three as JSON", reply.status, {200} | REFUSED, data)

    def cached(self):
        path = f"/v1/generate?model=tiny-pg-32&steps=2&class=1&seed={self.random.randrange(4)}"
        reply, data = self.ask("GET", path)
        self.tally.count("by address", reply.status, {200} | REFUSED, data)
        if reply.status == 200:
            again, data = self.ask("GET", path, If_None_Match=reply.headers["ETag"])
            self.tally.count("by address, known", again.status, {304} | REFUSED, data)

    def stream(self):
        reply, data = self.ask("POST", "/v1/generate", self.body(partial_images=2), Accept="text/event-stream")
        whole = reply.status != 200 or b"event: completed" in data
        self.tally.count("stream", reply.status if whole else "broken off", {200} | REFUSED, data)

    def dropped_stream(self):
        self.send("POST", "/v1/generate", self.body(steps=24, size="64x64", model="tiny-pg-32", partial_images=2),
                  Accept="text/event-stream")
        reply = self.connection.getresponse()
        self.tally.count("stream, dropped", reply.status, {200} | REFUSED)
        if reply.status == 200:
            reply.read(self.random.randrange(1, 2000))
        self.leave(rudely=self.random.random() < 0.5)

    def vanish(self):
        self.send("POST", "/v1/generate", self.body(steps=24, n=2))
        time.sleep(self.random.random() * 0.02)
        self.leave(rudely=True)
        self.tally.count("left at once", "-", {"-"})

    def mistake(self):
        wrong = self.random.choice([({"steps": 1000}, 422), (b"{", 400), ({"model": "none"}, 404)])
        reply, data = self.ask("POST", "/v1/generate", wrong[0], Content_Type="application/json")
        self.tally.count("mistake", reply.status, {wrong[1]}, data)

    def quota(self):
        reply, data = self.ask("POST", "/v1/generate", self.body(steps=2), key="narrow")
        self.tally.count("small quota", reply.status, {200} | REFUSED, data)

    def stranger(self):
        reply, data = self.ask("POST", "/v1/generate", self.body(), key=None)
        self.tally.count("no key", reply.status, {401}, data)

    def deadline(self):
        body = self.body(skip="auto", deadline_ms=self.random.choice([20, 200, 2000]))
        reply, data = self.ask("POST", "/v1/generate", body)
        self.tally.count("deadline", reply.status, {200, 503, 504} | REFUSED, data)

    def look(self):
        path = self.random.choice(["/", "/v1/models", "/v1/capabilities", "/metrics", "/livez", "/readyz", "/docs",
                                   "/openapi.json"])
        reply, data = self.ask("GET", path)
        self.tally.count("look", reply.status, {200}, data)

    def job(self):
        self.jobs += 1
        path, body = f"/v1/jobs/{self.number}-{self.jobs}", self.body()
        reply, data = self.ask("PUT", path, body)
        self.tally.count("job", reply.status, {201} | REFUSED, data)
        if reply.status != 201:
            return
        fate = self.random.choice(["deleted", "followed", "awaited", "awaited"])
        if fate == "followed":
            reply, data = self.ask("GET", path + "/events")
            whole = b"event: completed" in data
            self.tally.count("job, events", reply.status if whole else "broken off", {200}, data)
        elif fate == "awaited":
            self.await_job(path, body)
        if fate == "deleted" or self.random.random() < 0.3:
            reply, data = self.ask("DELETE", path)
            self.tally.count("job, deleted", reply.status, {204}, data)
            reply, data = self.ask("GET", path)
            self.tally.count("job, gone", reply.status, {410}, data)

    def await_job(self, path, body):
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            reply, data = self.ask("GET", path)
            if reply.status != 200 or "finished" in json.loads(data):
                break
            time.sleep(0.02)
        status = json.loads(data).get("status") if reply.status == 200 else reply.status
        self.tally.count("job, awaited", status, {"completed"}, data)
        if status == "completed":
            reply, data = self.ask("GET", path + "/images/0")
            self.tally.count("job, picture", reply.status, {200}, data)
            self.tally.same("job", json.dumps({**body, "format": "jpeg"}, sort_keys=True), data)
            again, data = self.ask("PUT", path, body)
            self.tally.count("job, again", again.status, {200}, data)

    KINDS = [(picture, 8), (several, 2), (cached, 4), (stream, 3), (dropped_stream, 3), (vanish, 3), (mistake, 3),
             (quota, 1), (stranger, 1), (deadline, 2), (look, 4), (job, 5)]

    def run(self, stop):
        kinds, weights = zip(*self.KINDS)
        while not stop.is_set():
            kind = self.random.choices(kinds, weights)[0]
            try:
                kind(self)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.tally.count(kind.__name__, type(error).__name__, set(), repr(error).encode())
                self.leave()
            if self.random.random() < 0.1:
                self.leave(rudely=self.random.random() < 0.3)
        self.leave()


def settle(service):
    """Wait until the server has nothing to do and nobody is connected; its descriptors then."""
    end = time.monotonic() + PATIENCE_S
    least = service.sample()[1]
    quiet = 0
    while quiet < 10 and time.monotonic() < end:
        time.sleep(0.2)
        now = service.sample()[1]
        quiet = quiet + 1 if now >= least else 0
        least = min(least, now)
    return service.sample()[1]


def load(service, tally, seconds):
    """Run the clients for so long; the samples [(seconds, KiB, descriptors, threads)]."""
    stop, samples, began = threading.Event(), [], time.monotonic()
    clients = [Client(service, tally, seed) for seed in range(CLIENTS)]
    threads = [threading.Thread(target=client.run, args=(stop,)) for client in clients]
    for thread in threads:
        thread.start()
    rescanned = replaced = 0
    while (now := time.monotonic() - began) < seconds and service.process.poll() is None:
        samples.append((now, *service.sample()))
        if now - replaced >= REPLACE_S:
            replaced = now
            service.replace_model()
        if now - rescanned >= RESCAN_S:
            rescanned = now
            service.rescan()
        time.sleep(SAMPLE_S)
    stop.set()
    for thread in threads:
        thread.join()
    return samples


def around(samples, share):
    """The median of a tenth of the samples that ends there."""
    end = max(round(len(samples) * share), 1)
    return statistics.median(sample[1] for sample in samples[max(end - max(len(samples) // 10, 1), 0):end])


def report(tally, samples, descriptors, seconds):
    """Print the tables; memory's growth."""
    kinds = sorted({kind for kind, _ in tally.counts})
    print(f"{'asked for':<20} {'times':>8}  answered")
    for kind in kinds:
        outcomes = {outcome: n for (k, outcome), n in sorted(tally.counts.items()) if k == kind}
        print(f"{kind:<20} {sum(outcomes.values()):>8}  " + ", ".join(f"{o}: {n}" for o, n in outcomes.items()))
    print(f"{'all':<20} {sum(tally.counts.values()):>8}  {sum(tally.counts.values()) / seconds:.0f} a second")
    early, late = around(samples, 1 / 6), around(samples, 1)
    growth = late / early - 1
    print(f"errors               {len(tally.errors)}")
    for error in tally.errors[:20]:
        print("    " + error)
    print(f"resident at {seconds / 6:4.0f} s   {early / 1024:.1f} MiB")
    print(f"resident at {seconds:4.0f} s   {late / 1024:.1f} MiB, {100 * growth:+.2f} %")
    print(f"descriptors          {descriptors[0]} before, {max(s[2] for s in samples)} at most, {descriptors[1]} after")
    print(f"threads              {samples[0][3]} at first, {samples[-1][3]} in the end")
    return growth


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--behaviour", action="store_true", help="memory does not count")
    options = parser.parse_args()
    seconds, tally = options.minutes * 60, Tally()
    with tempfile.TemporaryDirectory() as folder:
        service = Service(pathlib.Path(folder))
        first = Client(service, tally, CLIENTS)  # what is opened once and kept is open before it counts
        first.job()
        first.leave()
        service.rescan()
        descriptors = [settle(service)]
        samples = load(service, tally, seconds)
        descriptors.append(settle(service) if service.process.poll() is None else -1)
        service.process.send_signal(signal.SIGTERM)
        status = service.process.wait(PATIENCE_S)
    growth = report(tally, samples, descriptors, seconds)
    for trouble in service.troubles[:20]:
        print("    " + trouble)
    good = not tally.errors and not service.troubles and status == 0 and descriptors[1] <= descriptors[0]
    return 0 if good and (options.behaviour or growth <= GROWTH_MOST) else 1


if __name__ == "__main__":
    sys.exit(main())
