"""Run every test: python3 tests/run.py BUILD

One line for each suite, in full only what failed, and at the end "N passed, N failed". Runs, of the
build and of its copies with sanitizers in BUILD/asan and BUILD/tsan, what is there:

    unit     programs that print "ok name" or "not ok name: why" for each test; the denoiser's for
             every set of kernels
    emulated some of them as CPUs that lack the better sets of kernels
    fuzz     every target on its seeds and on so many mutations of them
    golden   the engine against recorded results of the reference
    http     the server, driven by Python's unittest
    cli      the command line, likewise
    node     the server, driven by JavaScript: properties over generated requests, and the examples
    web      the pages the server serves, in a browser
    lint     openapi.yaml, by what tools for such documents recommend
    contract what every suite above has asked the server and was answered, held against openapi.yaml

A program that crashes, hangs or prints a sanitizer's report counts as one failure.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
NODE = TESTS / "node"
REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:")
LIMIT_S = 900  # for one suite; a healthy one takes a fraction
SANITIZED = ["test_fields", "test_protocol", "test_parallel", "test_cancel", "test_drain", "test_models",
             "test_access", "test_jobs", "test_jobs_dir", "test_webhooks", "test_metrics", "test_streams",
             "test_cacheable", "test_abuse", "test_smuggling"]
KERNELS = ["avx512bf16", "avx512", "avx2", "portable"]  # and what is after it, if the CPU lacks it
ITERATIONS = {"fuzz_model": 300}  # its inputs are large
ITERATIONS_ELSE = 20_000


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


def execute(command, build, **settings):
    """(exit status or None if it hung, output, seconds) of a program under test."""
    environment = {**os.environ, "BRICKWORK_BUILD": str(build), **settings,
                   "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    suppressions = TESTS / "tsan.supp"
    if suppressions.exists():
        environment["TSAN_OPTIONS"] = f"suppressions={suppressions}"
    began = time.monotonic()
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, start_new_session=True) as process:
        try:
            output, status = process.communicate(timeout=LIMIT_S)[0], process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the servers and browsers it has started
            output, status = process.communicate()[0] + b"\nit hung and was killed", None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return status, output.decode(errors="replace"), time.monotonic() - began


def label(program, build):
    """"asan/unit/queue" of a program in the folder asan, "build/unit/queue" of one in build."""
    return f"{build.name}/{program.parent.name}/{program.name}"


def run_unit(tally, name, command, build, **settings):
    """Lines "ok" and "not ok"; a bad end without a "not ok" is a failure of its own."""
    status, output, seconds = execute(command, build, **settings)
    passed = len(re.findall(r"(?m)^ok ", output))
    failed = len(re.findall(r"(?m)^not ok ", output))
    if REPORT.search(output) or (status != 0 and not failed):
        failed += 1
    tally.add(name, passed, failed, seconds, output)


def run_fuzz(tally, program, build):
    name = program.name.removeprefix("fuzz_")
    seeds = TESTS / "models" if name == "model" else TESTS / "fuzz/seeds" / name
    iterations = ITERATIONS.get(program.name, ITERATIONS_ELSE)
    status, output, seconds = execute([program, iterations, *([seeds] if seeds.exists() else [])],
                                      build)
    failed = int(status != 0 or bool(REPORT.search(output)))
    tally.add(label(program, build), 1 - failed, failed, seconds, output)


def run_python(tally, file, build):
    """A file of unittest; what it says last is counted."""
    status, output, seconds = execute([sys.executable, "-W", "ignore", file], build)
    ran = sum(int(n) for n in re.findall(r"(?m)^Ran (\d+) tests? in", output))
    failed = sum(int(n) for n in re.findall(r"(?:failures|errors)=(\d+)", output))
    if status != 0 and not failed:
        failed = 1
    name = f"{file.relative_to(TESTS)} ({build.name})"
    tally.add(name, max(ran - failed, 0), failed, seconds, output)


def run_node(tally, file, build):
    """A file of Node's test runner; its summary is counted."""
    status, output, seconds = execute(["node", "--test", "--test-reporter=tap", file], build)
    count = {word: int(n) for word, n in re.findall(r"(?m)^# (pass|fail|cancelled) (\d+)$", output)}
    failed = count.get("fail", 0) + count.get("cancelled", 0)
    if (status != 0 and not failed) or not count:
        failed += 1
    name = f"{file.relative_to(TESTS)} ({build.name})"
    tally.add(name, count.get("pass", 0), failed, seconds, output)


def run_lint(tally, build):
    status, output, seconds = execute([NODE / "node_modules/.bin/redocly", "lint", "openapi.yaml",
                                       "--config", NODE / "redocly.yaml"],
                                      build, REDOCLY_TELEMETRY="off",
                                      REDOCLY_SUPPRESS_UPDATE_NOTICE="true")
    failed = int(status != 0)
    tally.add("openapi.yaml lint", 1 - failed, failed, seconds, output)


def programs(folder):
    """The executables in a folder, which need not exist."""
    return sorted(p for p in folder.glob("*") if p.is_file() and os.access(p, os.X_OK))


def main(build):
    build = pathlib.Path(build).resolve()
    copies = [build / "asan", build / "tsan"]
    sanitized = [copy for copy in copies if (copy / "brickworkd").exists()]
    tally, began = Tally(), time.monotonic()
    record = build / "exchanges.jsonl"
    record.write_bytes(b"")
    os.environ["BRICKWORK_RECORD"] = str(record)
    for one in [build, *sanitized]:
        for program in programs(one / "unit"):
            run_unit(tally, label(program, one), [program], one)
    for kernels in KERNELS:
        run_unit(tally, f"build/unit/denoiser {kernels}", [build / "unit/denoiser"], build,
                 BRICKWORK_CPU=kernels)
    run_unit(tally, "build/emulated", ["sh", TESTS / "emulated.sh", build], build)
    for program in programs(build / "asan/fuzz"):
        run_fuzz(tally, program, build / "asan")
    run_python(tally, TESTS / "golden.py", build)
    for file in sorted([*TESTS.glob("http/test_*.py"), *TESTS.glob("cli/test_*.py")]):
        run_python(tally, file, build)
    for one in sanitized:
        for name in SANITIZED:
            run_python(tally, TESTS / f"http/{name}.py", one)
    for file in sorted([*NODE.glob("*.test.mjs"), *TESTS.glob("web/*.test.mjs")]):
        run_node(tally, file, build)
    run_lint(tally, build)
    run_unit(tally, "contract", ["node", NODE / "contract.mjs", record], build)
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{tally.passed} passed, {tally.failed} failed")
    return int(tally.failed > 0 or tally.passed == 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build"))
