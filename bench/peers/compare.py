"""Compare engines on one network: check every contender's numbers, pick each peer's best form, time them in turn.

1. Check. Every form of every peer evaluates the recorded case tests/golden/.../denoise-full and must agree with it:
   f32 to a relative RMS of 1e-5, in the denoised picture and in the network's own output; bfloat16 to 2e-2.
2. Choose. Every form runs for a moment under every setting of its process; the fastest call decides, because other
   programs on the machine can only make a call slower.
3. Time. Rounds: each contender in turn for a short slice, batch 1, then batch 8. A slice counts with its median, a
   contender with the median of its slices. Whatever else the machine does hits all of them alike.

Each contender lives in its own process (torch_worker.py, ort_worker.js) and sleeps while another has its turn. All
start without the OPENBLAS_*, OMP_*, MKL_* variables of the caller, which are printed: they can halve a library's
speed.

Our own engine is the command in BRICKWORK_BENCH, see ours().
"""
import argparse
import datetime
import json
import os
import re
import shlex
import statistics
import struct
import subprocess
import sys
import time

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
BATCHES = (1, 8)
TUNING = ("OPENBLAS_", "OMP_", "MKL_", "GOMP_", "KMP_", "DNNL_", "ONEDNN_", "ATEN_", "MALLOC_")
LIMIT = {"f32": 1e-5, "bf16": 2e-2, "autocast": 2e-2}
PAUSE_S = 0.15  # between turns: lets the previous contender's threads stop spinning
OURS = "build/brickwork bench --precision {precision} --threads {threads} --batch {batch} --seconds {seconds}"

# Settings of a PyTorch process. Debian's PyTorch uses AVX2 unless told otherwise; large tensors are cheaper when
# malloc keeps their pages. Threads that sleep at once instead of spinning lose on an idle machine and win by far on
# a busy one.
with open("/proc/cpuinfo") as cpuinfo:
    CPUINFO = cpuinfo.read()
TORCH = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "268435456"}
if "avx512f" in CPUINFO:
    TORCH["ATEN_CPU_CAPABILITY"] = "avx512"
TORCH_SETTINGS = {
    "spinning threads": TORCH,
    "passive threads": {**TORCH, "OMP_WAIT_POLICY": "PASSIVE"},
}
ORT_OPTIONS = {
    "sequential": {"executionMode": "sequential"},
    "sequential, no spinning": {"executionMode": "sequential", "extra": {"session": {"intra_op": {
        "allow_spinning": "0"}}}},
    "parallel": {"executionMode": "parallel", "interOpNumThreads": 2},
}


class Failure(Exception):
    pass


# ---------------------------------------------------------------- the recorded case
def load_safetensors(path):
    """{name: f32 array}, metadata."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        body = file.read()
    metadata = header.pop("__metadata__", {})
    return {name: np.frombuffer(body[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"])
            for name, entry in header.items() if entry["dtype"] == "F32"}, metadata


class Case:
    """One recorded evaluation: input x, denoised picture d, and the last brick's output, the network's own F."""

    def __init__(self, path, config, folder):
        tensors, metadata = load_safetensors(path)
        case = json.loads(metadata["case"])
        self.x, self.d = tensors["x"].astype(np.float64), tensors["d"]
        self.f = tensors["brick%d" % (len(config["bricks"]) - 1)]
        self.sigma, self.sigma_data = case["sigma"], config["sigma_data"]
        self.out = os.path.join(folder, "d.f32")
        self.request = {"x": os.path.join(folder, "x.f32"), "sigma": self.sigma, "label": case["label"],
                        "classes": max(1, config["num_classes"])}
        tensors["x"].tofile(self.request["x"])

    def error(self, batch):
        """The larger relative RMS error of d and of F, over all pictures of the output in self.out."""
        d = np.fromfile(self.out, np.float32).astype(np.float64).reshape(batch, *self.d.shape)
        variance = self.sigma ** 2 + self.sigma_data ** 2
        f = (d - self.x * self.sigma_data ** 2 / variance) * variance ** 0.5 / (self.sigma * self.sigma_data)
        def relative(a, b):
            return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b.astype(np.float64) ** 2)))
        return max(relative(d, self.d), relative(f, self.f))


# ---------------------------------------------------------------- contenders
def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}


class Worker:
    """A process that answers JSON lines."""

    def __init__(self, command, settings=None):
        self.process = subprocess.Popen(command, env={**clean_environment(), **(settings or {})}, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def ask(self, op, **request):
        try:
            self.process.stdin.write(json.dumps({"op": op, **request}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failure("the process has ended") from None
        line = self.process.stdout.readline()
        if not line:
            raise Failure("the process ended")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(answer["error"].strip().splitlines()[0])
        return answer

    def close(self):
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended before
        self.process.wait()


class Peer:
    """One form of one peer at one batch size, loaded in a worker."""

    def __init__(self, worker, engine, precision, form, setting, batch, load):
        self.worker, self.engine, self.precision, self.batch = worker, engine, precision, batch
        self.name = form if setting is None else "%s (%s)" % (form, setting)
        self.key = load["form"]
        worker.ask("load", batch=batch, **load)

    def check(self, case):
        self.worker.ask("run", form=self.key, batch=self.batch, out=case.out)
        self.error = case.error(self.batch)
        if not self.error <= LIMIT[self.precision]:
            raise Failure("relative RMS error %.1e, allowed %.1e" % (self.error, LIMIT[self.precision]))

    def time(self, seconds):
        """Milliseconds of each call."""
        return self.worker.ask("time", form=self.key, batch=self.batch, seconds=seconds)["ms"]


def ours(precision, threads, batch, seconds):
    """Milliseconds of each call of our own engine, a call being one evaluation of `batch` pictures.

    BRICKWORK_BENCH is a command in which {precision} (f32 or bf16), {threads}, {batch} and {seconds} are replaced.
    It prints one number per line, the milliseconds of one call, until it ends or is ended; or a line that contains
    "median X ms"; or a JSON object with "ms": [numbers].
    """
    template = os.environ.get("BRICKWORK_BENCH", OURS)
    command = template.format(precision=precision, threads=threads, batch=batch, seconds=seconds)
    ms, end = [], time.monotonic() + seconds
    with subprocess.Popen(shlex.split(command), env=clean_environment(), text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as process:
        for line in process.stdout:
            found = re.search(r"median ([0-9.]+) ms", line)
            if line.startswith("{"):
                numbers = json.loads(line).get("ms", [])
                ms += numbers if isinstance(numbers, list) else [numbers]
            elif found:
                ms.append(float(found.group(1)))
            elif re.fullmatch(r"\s*[0-9.]+\s*", line):
                ms.append(float(line))
            if ms and time.monotonic() > end:
                process.terminate()
                break
    if not ms:
        raise Failure("no measurement from: " + command)
    return ms


class Ours:
    engine, error = "brickwork", None

    def __init__(self, precision, threads, batch):
        self.precision, self.threads, self.batch, self.name = precision, threads, batch, precision

    def time(self, seconds):
        return ours(self.precision, self.threads, self.batch, seconds)


# ---------------------------------------------------------------- the three steps
def torch_forms():
    """{form: precision}, from lego_torch.FORMS, without importing PyTorch here. What PyTorch makes bfloat16 by itself
    is told from what was written for it by hand."""
    code = "import json, lego_torch; print(json.dumps({k: v[0] for k, v in lego_torch.FORMS.items()}))"
    forms = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=HERE, env=clean_environment()))
    return {form: "autocast" if "autocast" in form else precision for form, precision in forms.items()}


def candidates(arguments, case, workers):
    """Every form of every peer at every batch size, one after the other."""
    ort = workers["onnxruntime"] = Worker(["node", os.path.join(HERE, "ort_worker.js"), arguments.folder])
    for graph in ("standard", "fused"):
        for setting, options in ORT_OPTIONS.items():
            for batch in BATCHES:
                yield lambda: Peer(ort, "onnxruntime", "f32", graph + " operators", setting, batch, {
                    "form": graph + ", " + setting,
                    "model": os.path.join(arguments.folder, "lego-%d-%s.onnx" % (batch, graph)),
                    "options": {**options, "graphOptimizationLevel": "all", "intraOpNumThreads": arguments.threads},
                    **case.request}), "onnxruntime %s operators, %s, batch %d" % (graph, setting, batch)
    forms = torch_forms()
    for setting, variables in TORCH_SETTINGS.items():
        worker = workers["torch, " + setting] = Worker(
            [sys.executable, os.path.join(HERE, "torch_worker.py"), str(arguments.threads)], variables)
        for form, precision in forms.items():
            for batch in BATCHES:
                yield lambda: Peer(worker, "pytorch", precision, form, setting, batch, {
                    "form": form, "model": arguments.model, **case.request}), \
                    "pytorch %s, %s, batch %d" % (form, setting, batch)


def check_and_choose(arguments, case, workers):
    """{(engine, precision, batch): (fastest ms, peer)}. A wrong f32 number ends the comparison."""
    best, tried = {}, []
    for make, what in candidates(arguments, case, workers):
        try:
            peer = make()
            peer.check(case)
            fastest = min(peer.time(arguments.trial_seconds)) / peer.batch
        except Failure as failure:
            print("  %-78s %s" % (what, failure))
            if "RMS" in str(failure):
                raise SystemExit("a peer computes something else; nothing was timed")
            continue
        print("  %-78s error %.1e  %7.1f ms" % (what, peer.error, fastest), flush=True)
        tried.append({"what": what, "error": peer.error, "fastest_ms": fastest})
        key = peer.engine, peer.precision, peer.batch
        if key not in best or fastest < best[key][0]:
            best[key] = fastest, peer
        time.sleep(PAUSE_S)
    return best, tried


def contenders(arguments, best):
    """[(engine, precision, {batch: contender})] in the order of a round."""
    rows = []
    for precision in ("f32", "bf16"):
        row = {batch: Ours(precision, arguments.threads, batch) for batch in BATCHES}
        try:
            row[1].time(0.1)
            rows.append(("brickwork", precision, row))
        except (Failure, OSError) as failure:
            print("our engine, %s: %s; left out" % (precision, failure))
    for engine, precision in (("onnxruntime", "f32"), ("pytorch", "f32"), ("pytorch", "autocast"), ("pytorch", "bf16")):
        row = {batch: best[engine, precision, batch][1] for batch in BATCHES if (engine, precision, batch) in best}
        if row:
            rows.append((engine, precision, row))
    return rows


def time_rounds(arguments, rows):
    """{(engine, precision, batch): [ms per picture, one per round]}, [load average before each round]."""
    results, loads = {}, []
    for number in range(arguments.rounds):
        loads.append(os.getloadavg()[0])
        print("round %d of %d, load average %.1f" % (number + 1, arguments.rounds, loads[-1]), flush=True)
        for batch in BATCHES:
            for engine, precision, row in rows:
                if batch in row:
                    ms = statistics.median(row[batch].time(arguments.seconds)) / batch
                    results.setdefault((engine, precision, batch), []).append(ms)
                    time.sleep(PAUSE_S)
    return results, loads


# ---------------------------------------------------------------- report
def machine():
    def field(name):
        found = re.search(r"^%s\s*: (.*)$" % name, CPUINFO, re.M)
        return found.group(1) if found else "?"
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {"processor": field("model name"), "cores": os.cpu_count(),
            "instructions": [flag for flag in wanted if flag in field("flags").split()],
            "date": datetime.date.today().isoformat(),
            "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith(TUNING)}}


def versions(workers):
    found = {}
    for worker in workers.values():
        try:
            found.update(worker.ask("versions"))
        except Failure:
            pass  # said when it was tried
    found["blas"] = os.path.basename(os.path.dirname(os.path.realpath("/usr/lib/%s-linux-gnu/libblas.so.3" %
                                                                      os.uname().machine)))
    found.pop("cpu", None)
    return found


def table(rows, results, threads):
    """Rows of the final table as dictionaries; a ratio is peer / ours, so above 1 ours is faster."""
    out = []
    for engine, precision, row in rows:
        line = {"name": engine, "precision": precision, "threads": threads}
        for batch in BATCHES:
            if batch not in row:
                continue
            ms = statistics.median(results[engine, precision, batch])
            ratios = {base: ms / statistics.median(results["brickwork", base, batch])
                      for base in ("f32", "bf16") if ("brickwork", base, batch) in results}
            line["batch %d" % batch] = {"ms": ms, "form": row[batch].name, "error": row[batch].error,
                                        "rounds_ms": results[engine, precision, batch], "to_ours": ratios}
        out.append(line)
    return out


def print_table(lines):
    print("\n%-12s %-8s %7s  %s" % ("", "", "", "".join(
        "| %9s %8s %9s " % ("batch %d" % batch, "to ours", "to ours") for batch in BATCHES)))
    print("%-12s %-8s %7s  %s" % ("name", "", "threads", "| ms/eval.      f32      bf16 " * len(BATCHES)))
    for line in lines:
        cells = []
        for batch in BATCHES:
            cell = line.get("batch %d" % batch)
            ratio = ["%.2f" % cell["to_ours"][base] if cell and base in cell["to_ours"] else "-"
                     for base in ("f32", "bf16")]
            cells.append("| %8s %8s %9s " % ("%.1f" % cell["ms"] if cell else "-", *ratio))
        print("%-12s %-8s %7d  %s" % (line["name"], line["precision"], line["threads"], " ".join(cells)))
    print("\nforms:")
    for line in lines:
        for batch in BATCHES:
            cell = line.get("batch %d" % batch)
            if cell and cell["error"] is not None:
                print("  %-12s %-8s batch %d: %s, error %.1e" % (line["name"], line["precision"], batch,
                                                                 cell["form"], cell["error"]))


def main():
    parser = argparse.ArgumentParser(description="Time onnxruntime and PyTorch beside our own engine.")
    parser.add_argument("--model", required=True, help="the network, safetensors")
    parser.add_argument("--folder", required=True, help="ONNX files and node_modules")
    parser.add_argument("--golden", default="tests/golden/pomology-128/denoise-full.safetensors")
    parser.add_argument("--seconds", type=float, default=2, help="length of one slice")
    parser.add_argument("--trial-seconds", type=float, default=1, help="length of a trial when choosing forms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="write everything measured to this file")
    arguments = parser.parse_args()

    facts = machine()
    print("%(processor)s, %(cores)d cores, %(date)s" % facts, "(%s)" % " ".join(facts["instructions"]))
    print("variables of the caller, not handed on:",
          " ".join("%s=%s" % pair for pair in facts["variables"].items()) or "none")
    if os.getloadavg()[0] > 0.5:
        print("load average %.1f: other programs are running, so forms may be chosen wrongly and ratios are rough" %
              os.getloadavg()[0])
    config = json.loads(load_safetensors(arguments.model)[1]["lego"])
    case, workers = Case(arguments.golden, config, arguments.folder), {}
    try:
        print("check and choose (fastest call, ms per evaluation):")
        best, tried = check_and_choose(arguments, case, workers)
        facts["versions"] = versions(workers)
        print("versions:", ", ".join("%s %s" % pair for pair in facts["versions"].items()))
        rows = contenders(arguments, best)
        results, loads = time_rounds(arguments, rows)
    finally:
        for worker in workers.values():
            worker.close()
    lines = table(rows, results, arguments.threads)
    print_table(lines)
    print("load average %.1f to %.1f" % (min(loads), max(loads)))
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"machine": facts, "load_averages": loads, "seconds": arguments.seconds, "table": lines,
                       "tried": tried}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
