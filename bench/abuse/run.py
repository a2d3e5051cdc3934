"""How /livez fares while the service is attacked: python3 bench/abuse/run.py [BUILD [SECONDS]]

Starts BUILD/brickworkd (default: build) with the tests' smallest model, and attacks it for SECONDS each (default
5) by a process of low priority, as if it ran elsewhere, while two clients want pictures all the time. Meanwhile
another process asks for /livez on a new connection every 5 ms. Prints a table: the latencies, how many
connections the attacker opened, and resident memory and descriptors before and after.
"""
import contextlib
import http.client
import json
import multiprocessing
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = json.dumps({"steps": 256, "size": "96x96", "n": 8, "seed": 1, "solver": "heun"}).encode()
TYPE = b"Host: a\r\nContent-Type: application/json\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /v1/generate HTTP/1.1\r\n" + TYPE + b"Content-Length: %d\r\n" % len(WORK)


def connect(address):
    return socket.create_connection(address, 10)


def reset(one):
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()


def hold(count, first, drop):
    """An attack: so many connections, a start on each, and then a little now and then; closed ones come again."""
    def attack(address, stop):
        opened, sockets = 0, []
        while not stop.is_set():
            while len(sockets) < count and not stop.is_set():
                with contextlib.suppress(OSError):
                    sockets.append(connect(address))
                    sockets[-1].sendall(first)
                    sockets[-1].setblocking(False)
                    opened += 1
            alive = []
            for one in sockets:
                try:
                    if drop:
                        one.send(drop)
                    elif one.recv(65536) == b"":
                        raise ConnectionError
                except BlockingIOError:
                    pass
                except OSError:
                    one.close()
                    continue
                alive.append(one)
            sockets = alive
            stop.wait(0.05)
        for one in sockets:
            one.close()
        return opened
    return attack


def repeat(data, end):
    """An attack: connect, send, end it, again and again."""
    def attack(address, stop):
        opened = 0
        while not stop.is_set():
            with contextlib.suppress(OSError):
                one = connect(address)
                opened += 1
                one.sendall(data)
                end(one)
        return opened
    return attack


def read_all(one):
    while one.recv(65536):
        pass
    one.close()


def repeat_nothing(_, stop):
    stop.wait()
    return 0


ATTACKS = {
    "nothing": repeat_nothing,
    "1500 idle connections": hold(1500, b"", b""),
    "slow headers, 1000": hold(1000, GET[:-2], b"X: y\r\n"),
    "slow bodies, 1000": hold(1000, POST + b"\r\n", b" "),
    "connect and reset": repeat(b"", reset),
    "half a request, reset": repeat(GET[:-5], reset),
    "a picture, reset": repeat(POST + b"\r\n" + WORK, reset),
    "a stream, reset": repeat(POST + b"Accept: text/event-stream\r\n\r\n" + WORK, reset),
    "200 streams not read": hold(200, POST + b"Accept: text/event-stream\r\n\r\n" + WORK, b" "),
    "pipelines, answers not read": hold(20, b"", 100 * GET),
    "pipelines of 1000": repeat(999 * GET + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), read_all),
    "bodies of 1 MB": repeat(b"POST /v1/generate HTTP/1.1\r\n" + TYPE + b"Content-Length: 1000000\r\n\r\n" + 10**6 * b" ",
                             read_all),
    "heads of 50 kB": repeat(GET[:-2] + b"X: " + 50_000 * b"x", read_all),
    "smuggling": repeat(POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET, read_all),
}


def probe(address, stop, results):
    """Ask for /livez every 5 ms, counted from when it should have been asked, and put the milliseconds."""
    latencies, due = [], time.perf_counter()
    for _ in range(50):  # until this process runs smoothly itself
        with socket.create_connection(address) as one:
            one.sendall(GET)
            one.recv(4096)
        due = time.perf_counter()
    while not stop.is_set():
        due += 0.005
        time.sleep(max(0.0, due - time.perf_counter()))
        connection = http.client.HTTPConnection(*address, timeout=30)
        connection.request("GET", "/livez")
        assert connection.getresponse().read()
        connection.close()
        now = time.perf_counter()
        latencies.append(1000 * (now - due))
        due = max(due, now - 1)  # a stall of more than a second counts once
    results.put(latencies)


def want_pictures(address, stop):
    """A client with a picture always under way."""
    body = json.dumps({"steps": 16, "seed": 1}).encode()
    while not stop.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(*address, timeout=10)
            connection.request("POST", "/v1/generate", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
            connection.close()


def run_attack(attack, address, stop, opened):
    os.nice(10)
    opened.put(attack(address, stop))


def holds(pid):
    """(resident MB, descriptors) of a process."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))


def measure(address, pid, attack, busy, seconds):
    """(latencies, connections the attacker opened, before, after)"""
    before, results, opened = holds(pid), multiprocessing.Queue(), multiprocessing.Queue()
    stop, done = multiprocessing.Event(), multiprocessing.Event()
    prober = multiprocessing.Process(target=probe, args=(address, stop, results))
    others = [multiprocessing.Process(target=run_attack, args=(attack, address, done, opened))]
    others += [multiprocessing.Process(target=want_pictures, args=(address, done)) for _ in range(2 * busy)]
    for one in others:
        one.start()
    time.sleep(0.5)
    prober.start()
    time.sleep(seconds)
    stop.set()
    latencies = sorted(results.get())
    done.set()
    count = opened.get()
    for one in [prober, *others]:
        one.join()
    deadline = time.monotonic() + 10
    while holds(pid)[1] > before[1] and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)  # two of the service's rounds
    return latencies, count, before, holds(pid)


def main(build="build", seconds="5"):
    server = subprocess.Popen([ROOT / build / "brickworkd", "--listen", "127.0.0.1:0", "--model",
                               ROOT / "tests/models/tiny-pg-32.safetensors", "--request-timeout-ms", "5000",
                               "--log-level", "info"], stderr=subprocess.PIPE, text=True)
    line = server.stderr.readline()
    threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
    host, port = re.search(r"address=([0-9.]+):(\d+)", line).groups()
    address = host, int(port)
    print("| attack | pictures | p50 ms | p99 ms | most ms | asked | connections | MB | descriptors |\n"
          "|---|---|---:|---:|---:|---:|---:|---:|---:|")
    try:
        for name, attack in ATTACKS.items():
            for busy in ((False, True) if attack is repeat_nothing else (True,)):
                latencies, opened, before, after = measure(address, server.pid, attack, busy, float(seconds))
                at = [latencies[min(int(q * len(latencies)), len(latencies) - 1)] for q in (0.5, 0.99, 1)]
                print(f"| {name} | {'all the time' if busy else 'none'} | {at[0]:.1f} | {at[1]:.1f} | {at[2]:.1f} | "
                      f"{len(latencies)} | {opened} | {before[0]:.0f} to {after[0]:.0f} | {before[1]} to {after[1]} |",
                      flush=True)
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main(*sys.argv[1:])
