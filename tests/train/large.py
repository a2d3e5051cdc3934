"""Prove the engine and the service on models as large as the published checkpoints. Prints a table.

    /usr/bin/python3 tests/train/large.py [NAME...]    of build/, or of what BRICKWORK_BUILD names

For each shape (or those of that NAME): a file of random weights; one evaluation by PyTorch's network and by the engine with
float32 and, if this CPU has it, bfloat16; `brickwork bench`; and a picture over HTTP, if the model makes any. Exit
status 1 if a result is off, memory is held twice, or the service does not answer.
"""
import json
import os
import pathlib
import re
import sys
import tempfile
import time

import kit
import golden
import numpy as np
import published
import support
import torch

SHAPES = {
    "LEGO-L-PG-64": published.shape("L", "PG", 64),
    "LEGO-L-PR-64": published.shape("L", "PR", 64),
    "LEGO-XL-U-256": published.shape("XL", "U", 32, channels=4),
    "XL-PG-64 of 50 blocks": published.shape("XL", "PG", 64, depth=50),
}
LIMITS = {"f32": 1e-5, "bf16": 1e-2}
BYTES = {"f32": 4, "bf16": 2}  # of a parameter in memory
MOST_OVER = 1.25  # resident memory at its peak over the parameters' alone
REQUEST = {"class": 7, "steps": 4, "seed": 1, "guidance": 1.5, "format": "png"}
SEED = 1
ROW = "{:<22} {:>10} {:>9} {:>11} {:>8} {:>7} {:>10} {:>5} {:>10} {:>5}  {}"


def run(*words):
    """Standard output of a program that has to succeed."""
    result = support.run_program(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout


def status_mib(server, key):
    """A line of /proc/PID/status in MiB."""
    text = pathlib.Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
    return int(re.search(rf"{key}:\s+(\d+) kB", text).group(1)) / 1024


def compare(model, folder, precisions):
    """{precision: the largest relative error of a tensor}: the picture and what every brick makes."""
    lego = json.loads(published.files.map_safetensors(model)[1]["lego"])
    case, x = published.case(lego, np.random.default_rng(SEED))
    want = kit.evaluate(published.load(model), case, x)
    errors = {}
    for precision in precisions:
        got = kit.engine(model, case, x, folder, precision)
        errors[precision] = max(golden.distance(got[name], values) for name, values in want.items())
    return errors


def serve(model, precision):
    """What a server needs, and how a picture fares: (seconds to ready, MiB then, MiB at most, seconds of a picture,
    seconds foretold)."""
    began = time.monotonic()
    server = support.Server("--precision", precision, model=model)
    try:
        support.wait_until(lambda: support.ask(server, "GET", "/readyz").status == 200, "readiness")
        ready_s, resident = time.monotonic() - began, status_mib(server, "VmRSS")
        foretold_s = support.ask(server, "POST", "/v1/quote", REQUEST).json()["predicted"]["total_ms"] / 1e3
        began = time.monotonic()
        first = support.ask(server, "POST", "/v1/generate", REQUEST)
        took_s = time.monotonic() - began
        assert first.status == 200 and first.body.startswith(b"\x89PNG"), first.body[:300]
        assert support.ask(server, "POST", "/v1/generate", REQUEST).body == first.body, "same request, other bytes"
        return ready_s, resident, status_mib(server, "VmHWM"), took_s, foretold_s
    finally:
        server.stop()


def prove(name, lego, folder):
    """Prints a line for each precision; returns what is not as it should be."""
    model, failures = folder / "model.safetensors", []
    parameters = published.write(model, lego, SEED)
    precisions = ["f32", *(["bf16"] if golden.has_bfloat16() else [])]
    errors = compare(model, folder, precisions)
    for precision in precisions:
        bench = json.loads(run(support.COMMAND, "bench", "--model", model, "--precision", precision, "--batch", 1,
                               "--json", "yes"))
        one, alone = bench["evaluation"], parameters * BYTES[precision] / 2**20
        served, peak = "-", bench["peak_rss_mib"]
        if lego["channels"] == 3:
            ready_s, resident, peak, took_s, foretold_s = serve(model, precision)
            served = f"ready {ready_s:.1f} s, {resident:.0f} MiB; picture {took_s:.1f} s, foretold {foretold_s:.1f} s"
        print(ROW.format(name, f"{parameters / 1e6:.0f} M", f"{model.stat().st_size / 2**20:.0f} MiB",
                         bench["kernels"], f"{errors[precision]:.1e}", f"{bench['load_ms'] / 1e3:.1f} s",
                         f"{peak:.0f} MiB", f"{peak / alone:.2f}", f"{one['ms']:.0f} ms",
                         f"{100 * one['share_of_limit']:.0f} %", served), flush=True)
        if errors[precision] > LIMITS[precision]:
            failures.append(f"{name}, {precision}: off by {errors[precision]:.1e}")
        if peak > MOST_OVER * alone:
            failures.append(f"{name}, {precision}: {peak:.0f} MiB for parameters of {alone:.0f} MiB")
    return failures


def main(names):
    failures, began = [], time.monotonic()
    torch.set_num_threads(os.cpu_count())
    print(ROW.format("model", "parameters", "file", "kernels", "off by", "load", "peak", "x", "evaluation", "share",
                     "served"))
    for name in names or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            failures += prove(name, SHAPES[name], pathlib.Path(folder))
    print("\noff by: relative RMS of the picture or of a brick's output, whichever is worst. x: memory at its peak over that of\n"
          "the parameters alone. share: of multiply-adds on registers. A picture is 4 steps with guidance, 8 evaluations.")
    for failure in failures:
        print("failure: " + failure)
    print(f"{time.monotonic() - began:.0f} s, {len(failures)} failures")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
