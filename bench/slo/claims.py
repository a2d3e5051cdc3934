"""What the scheduler promises, as figures: /usr/bin/python3 bench/slo/claims.py

    prediction   |predicted - actual| / actual at 0.8 times capacity, one kind of request
    short work   a request of one step that arrives while long ones run, in step times
    two clients  the lighter one's p95 beside one that sends ten times as much, against alone
    health       /livez while three times the capacity is offered
"""
import http.client
import json
import pathlib
import random
import subprocess
import tempfile
import time

from run import BUILD, REQUEST, Server, load, unloaded_ms

SECONDS = 40


def answers(server, arrivals):
    """Replay (ms, client, request); returns one dictionary for each in order."""
    with tempfile.TemporaryDirectory() as folder:
        trace, log = pathlib.Path(folder, "trace.jsonl"), pathlib.Path(folder, "log.jsonl")
        trace.write_text("".join(
            json.dumps({"at_ms": round(at, 3), "client": client, "request": request}) + "\n"
            for at, client, request in sorted(arrivals, key=lambda a: a[0])), encoding="utf-8")
        load(server, "--trace", trace, "--log", log, "--timeout-s", 600)
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def percentile(values, share):
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def poisson(rate, seconds, client, dice, request):
    """Arrivals of one client."""
    at_ms, out = 0, []
    while at_ms < seconds * 1000:
        at_ms += dice.expovariate(rate) * 1000
        out.append((at_ms, client, request))
    return out


def prediction(alone_ms):
    with Server("full") as server:
        arrivals = poisson(0.8 * 1000 / alone_ms, SECONDS, "127.0.0.2", random.Random(1), REQUEST)
        done = [a for a in answers(server, arrivals)[5:] if a["status"] == 200]
    errors = [abs(a["predicted_ms"] - a["total_ms"]) / a["total_ms"] for a in done]
    print(f"prediction: {len(errors)} requests, error p50 {100 * percentile(errors, 0.5):.1f} %, "
          f"p95 {100 * percentile(errors, 0.95):.1f} %")


def short_work(alone_ms):
    long = [(1, "127.0.0.2", {**REQUEST, "steps": 100})] * 4
    short = [(1500 + 500 * i, "127.0.0.2", {**REQUEST, "steps": 1}) for i in range(12)]
    with Server("full") as server:
        idle = answers(server, [(500 * i, "127.0.0.2", {**REQUEST, "steps": 1})
                                for i in range(6)])[1:]
        done = [a for a in answers(server, long + short) if a["steps"] == 1]
    step_ms, own_ms = alone_ms / REQUEST["steps"], percentile([a["latency_ms"] for a in idle], 0.5)
    steps = [(a["latency_ms"] - own_ms) / step_ms for a in done]
    print(f"short work: own {own_ms:.0f} ms, step {step_ms:.0f} ms; waits of {len(steps)}: median "
          f"{percentile(steps, 0.5):.2f}, most {max(steps):.2f} step times")


def two_clients(alone_ms):
    rate = 0.18 * 1000 / alone_ms  # together about twice the capacity
    light = poisson(rate, SECONDS, "127.0.0.2", random.Random(2), REQUEST)
    heavy = poisson(10 * rate, SECONDS, "127.0.0.3", random.Random(3), REQUEST)
    p95 = []
    for arrivals in light, light + heavy:
        with Server("full") as server:
            done = [a for a in answers(server, arrivals) if a["client"] == "127.0.0.2"]
        p95.append(percentile([a["latency_ms"] for a in done if a["status"] == 200], 0.95))
        refused = sum(a["status"] != 200 for a in done)
    print(f"two clients: the lighter one's p95 alone {p95[0]:.0f} ms, beside the other "
          f"{p95[1]:.0f} ms ({p95[1] / p95[0]:.2f}x), {refused} of {len(done)} refused")


def health(alone_ms):
    rate, seen = 3 * 1000 / alone_ms, []
    request = {**REQUEST, "skip": "auto", "deadline_ms": round(3 * alone_ms)}
    with Server("full") as server:
        command = [BUILD / "brickwork", "load", "--url", server.url, "--rate", rate, "--seconds",
                   15, "--request", json.dumps(request)]
        generator = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
        probe = http.client.HTTPConnection(server.url.removeprefix("http://"))
        while generator.poll() is None:
            began = time.perf_counter()
            probe.request("GET", "/livez")
            probe.getresponse().read()
            seen.append((time.perf_counter() - began) * 1000)
            time.sleep(0.01)
    print(f"health: {len(seen)} probes, p50 {percentile(seen, 0.5):.2f} ms, "
          f"p99 {percentile(seen, 0.99):.2f} ms, most {max(seen):.1f} ms")


def main():
    alone_ms = unloaded_ms()
    print(f"one request alone takes {alone_ms:.0f} ms")
    for claim in prediction, short_work, two_clients, health:
        claim(alone_ms)


if __name__ == "__main__":
    main()
