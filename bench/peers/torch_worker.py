"""PyTorch as a worker: the requests and answers of ort_worker.js. Argument: the number of threads."""
import json
import platform
import sys
import time

import torch

import lego_torch

calls = {}  # (form, batch) -> function, inputs


def load(r):
    batch, classes = r["batch"], r["classes"]
    with open(r["x"], "rb") as file:
        picture = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    side = round((picture.numel() / 3) ** 0.5)
    label = torch.zeros(batch, classes)
    if r["label"] >= 0:
        label[:, r["label"]] = 1
    inputs = (picture.view(1, 3, side, side).repeat(batch, 1, 1, 1), torch.full((batch,), r["sigma"]), label)
    function = lego_torch.build(r["model"], r["form"], inputs)
    for _ in range(3):  # the JIT compiles on its first calls
        function(*inputs)
    calls[r["form"], batch] = function, inputs
    return {}


def run(r):
    function, inputs = calls[r["form"], r["batch"]]
    with open(r["out"], "wb") as file:
        file.write(function(*inputs).contiguous().numpy().tobytes())
    return {}


def timed(r):
    function, inputs = calls[r["form"], r["batch"]]
    function(*inputs)  # wakes the threads and warms the caches
    ms, end = [], time.perf_counter() + r["seconds"]
    while True:
        start = time.perf_counter()
        function(*inputs)
        now = time.perf_counter()
        ms.append(1000 * (now - start))
        if now >= end:
            return {"ms": ms}


def versions(_):
    return {"python": platform.python_version(), "torch": torch.__version__, "cpu": torch.__config__.show()}


def main():
    torch.set_num_threads(int(sys.argv[1]))
    operations = {"load": load, "run": run, "time": timed, "versions": versions}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = operations[request["op"]](request)
        except Exception as error:  # the driver decides what a failure means
            answer = {"error": "%s: %s" % (type(error).__name__, error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
