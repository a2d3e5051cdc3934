"""Policies under load: python3 bench/slo/run.py [--seconds 20] [--out bench/slo/results]

Measures what one request takes on an idle server, then replays the same arrivals (Poisson, deadlines
of 2 to 6 times that, skip "auto") at 0.5 to 3 times the rate that this allows, once for each policy:

    fifo         first come, first served, no deadlines
    reject-only  deadlines and admission, no skipping
    full         what brickworkd does unless told otherwise

and asks the simulator for the same. Writes results.csv and results.svg.
"""
import argparse
import csv
import json
import pathlib
import random
import re
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
POLICIES = ["fifo", "reject-only", "full"]
LOADS = [0.5, 1, 1.5, 2, 2.5, 3]
REQUEST = {"class": "pears", "steps": 12, "guidance": 1.5}
COLUMNS = ["policy", "load", "offered", "admitted", "met", "of_offered", "of_admitted",
           "mean_excess_loss", "degraded", "p95_ms", "prediction_error_p95", "simulated_of_offered"]


class Server:
    """A brickworkd with that policy, for a with statement."""

    def __init__(self, policy):
        self.process = subprocess.Popen(
            [BUILD / "brickworkd", "--listen", "127.0.0.1:0", "--policy", policy],
            stderr=subprocess.PIPE, text=True)
        line = next(line for line in self.process.stderr if "event=listening" in line)
        self.url = "http://" + re.search(r"address=(\S+)", line)[1]
        subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def load(server, *arguments):
    """Run brickwork load against the server; returns its report."""
    command = [BUILD / "brickwork", "load", "--url", server.url, "--json", "yes", *arguments]
    result = subprocess.run([str(word) for word in command], check=True, text=True,
                            stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def unloaded_ms():
    """The median latency of requests that never meet, after one to warm up."""
    with Server("full") as server:
        request = ["--request", json.dumps(REQUEST)]
        load(server, *request, "--rate", 1, "--seconds", 3, "--arrivals", "even")
        return load(server, *request, "--rate", 1, "--seconds", 10,
                    "--arrivals", "even")["latency_ms"]["p50"]


def write_trace(path, rate, seconds, alone_ms, seed):
    """Poisson arrivals for so long."""
    dice = random.Random(seed)
    at_ms = dice.expovariate(rate) * 1000
    with open(path, "w", encoding="utf-8") as file:
        while at_ms < seconds * 1000:
            request = {**REQUEST, "skip": "auto", "seed": dice.randrange(2 ** 32),
                       "deadline_ms": round(alone_ms * dice.uniform(2, 6))}
            file.write(json.dumps({"at_ms": round(at_ms, 3), "request": request}) + "\n")
            at_ms += dice.expovariate(rate) * 1000


def simulated(policy, trace):
    result = subprocess.run([BUILD / "brickworkd", "--policy", policy, "--simulate", trace],
                            check=True, text=True, stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def measure(policy, multiple, trace):
    with Server(policy) as server:
        report = load(server, "--trace", trace, "--timeout-s", 600)
    forecast = simulated(policy, trace)
    return {"policy": policy, "load": multiple, "offered": report["offered"],
            "admitted": report["admitted"], "met": report["deadline"]["met"],
            "of_offered": report["deadline"]["met_of_offered"],
            "of_admitted": report["deadline"]["met_of_admitted"],
            "mean_excess_loss": report["mean_excess_loss"],
            "degraded": report["degraded_share"], "p95_ms": report["latency_ms"]["p95"],
            "prediction_error_p95": report["prediction_error"]["server_p95"],
            "simulated_of_offered": forecast["met"] / max(forecast["offered"], 1)}


def plot(rows, path):
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, (kept, given) = pyplot.subplots(1, 2, figsize=(10, 4))
    for policy in POLICIES:
        mine = [row for row in rows if row["policy"] == policy]
        loads = [row["load"] for row in mine]
        line, = kept.plot(loads, [100 * row["of_offered"] for row in mine], "o-", label=policy)
        kept.plot(loads, [100 * row["simulated_of_offered"] for row in mine], ":",
                  color=line.get_color())
        given.plot(loads, [100 * row["mean_excess_loss"] for row in mine], "o-", label=policy)
    kept.set(xlabel="load / capacity", ylabel="deadlines kept, % of all requests", ylim=(0, 102),
             title="dotted: simulated")
    given.set(xlabel="load / capacity", ylabel="mean excess loss of pictures, %",
              title="what skipping gave up")
    kept.legend()
    figure.tight_layout()
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "bench/slo/results")
    options = parser.parse_args()
    alone_ms = unloaded_ms()
    print(f"one request alone takes {alone_ms:.0f} ms: capacity {1000 / alone_ms:.2f} a second")
    rows = []
    for multiple in LOADS:
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as trace:
            write_trace(trace.name, multiple * 1000 / alone_ms, options.seconds, alone_ms,
                        seed=multiple)
            for policy in POLICIES:
                row = measure(policy, multiple, trace.name)
                rows.append(row)
                print(*(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                        for key, value in row.items()), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with open(options.out.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: f"{value:.4g}" if isinstance(value, float) else value
                          for key, value in row.items()} for row in rows)
    plot(rows, options.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()
