"""Run every test: python3 tests/run.py BUILD, or under the sanitizers: python3 tests/run.py BUILD asan tsan

One line for each suite, in full only what failed, and at the end "N passed, N failed". Runs, of the
build and, shortened to what sanitizers find most in, of its copies in BUILD/asan and BUILD/tsan, what
is there:

    unit     programs that print "ok name" or "not ok name: why" for each test; the denoiser's for
             every set of kernels
    emulated some of them as CPUs that lack the better sets of kernels
    fuzz     every target on its seeds and on so many mutations of them
    golden   the engine against recorded results of the reference
    http     the server, driven by Python's unittest
    cli      the command line, likewise
    train    from pictures to a served model, on PyTorch; resuming, agreement, imports
    node     the server, driven by JavaScript: properties over generated requests, and the examples
    web      the pages the server serves, in a browser
    lint     openapi.yaml, by what tools for such documents recommend
    contract what every suite above has asked the server and was answered, held against openapi.yaml

With names of copies, everything that runs a program of ours runs in those alone, unshortened.

Suites run three at a time, as they wait for much of their time, which is no matter to them: they are on
their own in processes, ports and folders. The few that say ALONE follow one by one. A program that crashes, hangs or prints a
sanitizer's report counts as one failure.
"""
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
NODE = TESTS / "node"
REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:")
LIMIT_S = 900  # for one suite; a healthy one takes a fraction
LIMIT_SANITIZED_S = 1800
AT_ONCE = 3
# What compares how clients fare beside each other or keeps promises in milliseconds of work.
ALONE = {"test_deadlines", "test_fairness", "test_load"}
SHORT = {"asan": ["test_fields", "test_protocol", "test_jobs", "test_jobs_dir", "test_webhooks", "test_streams",
                  "test_abuse", "test_smuggling"],
         "tsan": ["test_parallel", "test_cancel", "test_drain", "test_models", "test_jobs", "test_streams"]}
# What has threads of its own: all that is of interest of units under ThreadSanitizer.
THREADED = {"catalogue", "decoder", "decoding", "denoiser", "kernels_network", "latents", "log", "memory", "metrics",
            "scheduler", "team", "webhook"}
KERNELS = ["avx512bf16", "avx512", "avx2", "portable"]  # and what is after it, if the CPU lacks it
ITERATIONS = {"fuzz_model": 300}  # its inputs are large
ITERATIONS_ELSE = 20_000


@dataclasses.dataclass
class Suite:
    """A command, and how to read (passed, failed) from its exit status and its output."""
    name: str
    command: list
    build: pathlib.Path
    count: typing.Callable
    settings: dict = dataclasses.field(default_factory=dict)
    alone: bool = False


class Tally:
    """Prints a line for each suite and adds up."""
    passed = failed = 0

    def add(self, name, passed, failed, seconds, output):
        self.passed += passed
        self.failed += failed
        verdict = "ok    " if not failed else "FAILED"
        print(f"{verdict} {name:<32} {passed:4} passed {failed:3} failed {seconds:6.1f} s",
              flush=True)
        if failed:
            print("    " + output.strip().replace("\n", "\n    "), flush=True)


def environment(suite):
    suppressions = TESTS / "tsan.supp"
    return {**os.environ, "BRICKWORK_BUILD": str(suite.build), **suite.settings,
            "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1",
            **({"TSAN_OPTIONS": f"suppressions={suppressions}"} if suppressions.exists() else {})}


class Runner:
    """Executes suites, from any thread; stop() ends all that run."""

    def __init__(self):
        self.lock, self.running, self.stopped = threading.Lock(), set(), False

    def start(self, suite):
        with self.lock:
            if self.stopped:
                raise InterruptedError
            process = subprocess.Popen([str(word) for word in suite.command], cwd=ROOT, env=environment(suite),
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, start_new_session=True)
            self.running.add(process)
        return process

    def execute(self, suite):
        """(passed, failed, seconds, output)"""
        began, limit_s = time.monotonic(), LIMIT_S if suite.build.name not in SHORT else LIMIT_SANITIZED_S
        with self.start(suite) as process:
            try:
                output, status = process.communicate(timeout=limit_s)[0], process.returncode
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the servers and browsers it has started
                output, status = process.communicate()[0] + b"\nit hung and was killed", None
            finally:
                with self.lock:
                    self.running.remove(process)
        output = output.decode(errors="replace")
        return *suite.count(status, output), time.monotonic() - began, output

    def stop(self):
        with self.lock:
            self.stopped = True
            for process in self.running:
                os.killpg(process.pid, signal.SIGKILL)


def run_all(tally, suites):
    """Results are shown in the order of the suites, those that run alone last."""
    runner = Runner()
    together = [s for s in suites if not s.alone]
    try:
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                for suite, result in zip(together, pool.map(runner.execute, together)):
                    tally.add(suite.name, *result)
            except BaseException:
                runner.stop()
                raise
        for suite in suites:
            if suite.alone:
                tally.add(suite.name, *runner.execute(suite))
    finally:
        runner.stop()


def count_unit(status, output):
    """Lines "ok" and "not ok"; a bad end without a "not ok" is a failure of its own."""
    failed = len(re.findall(r"(?m)^not ok ", output))
    if REPORT.search(output) or (status != 0 and not failed):
        failed += 1
    return len(re.findall(r"(?m)^ok ", output)), failed


def count_one(status, output):
    """A program that is one test."""
    failed = int(status != 0 or bool(REPORT.search(output)))
    return 1 - failed, failed


def count_python(status, output):
    """A file of unittest; what it says last is counted."""
    ran = sum(int(n) for n in re.findall(r"(?m)^Ran (\d+) tests? in", output))
    failed = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", output))
    failed = failed or int(status != 0)
    return max(ran - failed, 0), failed


def count_node(status, output):
    """A file of Node's test runner; its summary is counted."""
    count = {word: int(n) for word, n in re.findall(r"(?m)^# (pass|fail|cancelled) (\d+)$", output)}
    failed = count.get("fail", 0) + count.get("cancelled", 0)
    if (status != 0 and not failed) or not count:
        failed += 1
    return count.get("pass", 0), failed


def label(program, build):
    """"asan/unit/queue" of a program in the folder asan, "build/unit/queue" of one in build."""
    return f"{build.name}/{program.parent.name}/{program.name}"


def fuzz_suite(program, build):
    name = program.name.removeprefix("fuzz_")
    folders = [TESTS / "fuzz/seeds" / name, *([TESTS / "models"] if name == "model" else [])]
    iterations = ITERATIONS.get(program.name, ITERATIONS_ELSE)
    return Suite(label(program, build), [program, iterations, *filter(pathlib.Path.exists, folders)], build, count_one)


def python_suite(file, build):
    return Suite(f"{file.relative_to(TESTS)} ({build.name})", [sys.executable, "-W", "ignore", file], build,
                 count_python, alone=file.stem in ALONE)


def node_suite(file, build):
    return Suite(f"{file.relative_to(TESTS)} ({build.name})", ["node", "--test", "--test-reporter=tap", file],
                 build, count_node)


def lint_suite(build):
    return Suite("openapi.yaml lint", [NODE / "node_modules/.bin/redocly", "lint", "openapi.yaml",
                                       "--config", NODE / "redocly.yaml"], build, count_one,
                 {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"})


def programs(folder):
    """The executables in a folder, which need not exist."""
    return sorted(p for p in folder.glob("*") if p.is_file() and os.access(p, os.X_OK))


def python_files():
    return sorted([*TESTS.glob("http/test_*.py"), *TESTS.glob("cli/test_*.py")])


def units(build):
    return [Suite(label(program, build), [program], build, count_unit) for program in programs(build / "unit")]


def whole(build):
    """All that runs a program of ours."""
    return [*units(build),
            *(fuzz_suite(program, build) for program in programs(build / "fuzz")),
            python_suite(TESTS / "golden.py", build),
            *(python_suite(file, build) for file in python_files()),
            *(node_suite(file, build) for file in sorted(NODE.glob("*.test.mjs")))]


def everything(build):
    copies = [copy for copy in (build / "asan", build / "tsan") if (copy / "brickworkd").exists()]
    short = [python_suite(TESTS / f"http/{name}.py", copy) for copy in copies for name in SHORT[copy.name]]
    kernels = [Suite(f"build/unit/denoiser {name}", [build / "unit/denoiser"], build, count_unit,
                     {"BRICKWORK_CPU": name}) for name in KERNELS]
    checked = [suite for copy in copies for suite in units(copy)
               if copy.name != "tsan" or suite.command[0].name in THREADED]
    return [*units(build), *checked, *kernels,
            Suite("build/emulated", ["sh", TESTS / "emulated.sh", build], build, count_unit),
            *(fuzz_suite(program, build / "asan") for program in programs(build / "asan/fuzz")),
            python_suite(TESTS / "golden.py", build),
            *(python_suite(file, build) for file in python_files()), *short,
            *(python_suite(file, build) for file in sorted(TESTS.glob("train/test_*.py"))),
            *(node_suite(file, build) for file in sorted([*NODE.glob("*.test.mjs"), *TESTS.glob("web/*.test.mjs")])),
            lint_suite(build)]


def main(build, copies):
    build = pathlib.Path(build).resolve()
    tally, began = Tally(), time.monotonic()
    record = build / "exchanges.jsonl"
    record.write_bytes(b"")
    os.environ["BRICKWORK_RECORD"] = str(record)
    if copies:
        run_all(tally, [suite for copy in copies for suite in whole(build / copy)])
    else:
        run_all(tally, everything(build))
        run_all(tally, [Suite("contract", ["node", NODE / "contract.mjs", record], build, count_unit)])
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return int(tally.failed > 0 or tally.passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build", sys.argv[2:]))
