"""Fuzz: python3 tests/fuzz/run.py PROGRAMS [--runs N] [--seconds S] [--minimise] [TARGET...]

PROGRAMS is the folder of the programs that `make fuzz` builds with libFuzzer, ASan and UBSan. They take
turns of at most a minute until each has executed N inputs, or for S seconds, whichever is first. What
each has done is noted, so a run that was interrupted goes on where it was. In the end a table. What is
found stays in PROGRAMS/found/ and makes the exit status 1.

--minimise reduces what was learnt to the fewest inputs that reach as much, and adds those to
seeds/TARGET/ under names by their content.

FUZZ_WRAP may hold words put before each command ("nice -n 19").
"""
import argparse
import hashlib
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PIECE_S = 60
# The allocator keeps enough freed memory to see what is used too late, but not so much that it is slower than the code
# under test. Every input is tried from one thread, so one frame of each allocation is enough to find its place.
SANITIZERS = {"ASAN_OPTIONS": "malloc_context_size=1:quarantine_size_mb=8:thread_local_quarantine_size_kb=64"}
# Lengths: a request's query or header field is at most as long as the header block, bodies have few long members.
LENGTH, LENGTHS = 1024, {"model": 4096, "request": 2048, "openai": 2048, "sdapi": 2048, "trace": 2048,
                         "job": 2048, "schedule": 2048, "record": 2048, "config": 2048,
                         "decoder": 12288}
WORDS = {"json": ("request", "openai", "sdapi", "case", "job", "trace", "schedule")}  # and each its own


class Target:
    """One program, its folders and its log, a line for each piece: executions, seconds, edges, features."""

    def __init__(self, program):
        self.program, self.name = program, program.name.removeprefix("fuzz_")
        self.corpus = program.parent / "corpus" / self.name
        self.found = program.parent / "found"
        self.log = program.parent / f"{self.name}.log"
        self.seeds = HERE / "seeds" / self.name
        for folder in (self.corpus, self.found):
            folder.mkdir(parents=True, exist_ok=True)

    def history(self):
        """(executions, seconds, edges, features) so far."""
        rows = [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []
        return (sum(int(r[0]) for r in rows), sum(int(r[1]) for r in rows),
                max((int(r[2]) for r in rows), default=0), max((int(r[3]) for r in rows), default=0))

    def execute(self, *arguments):
        run = subprocess.run([*os.environ.get("FUZZ_WRAP", "").split(), str(self.program), *map(str, arguments)],
                             env={**os.environ, **SANITIZERS}, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, cwd=self.program.parent)
        return run.returncode, run.stdout.decode(errors="replace")

    def options(self):
        names = [word for word, targets in WORDS.items() if self.name in targets] + [self.name]
        words = [HERE / "words" / f"{name}.dict" for name in names]
        text = "".join(file.read_text() for file in words if file.exists())
        together = self.program.parent / f"{self.name}.dict"
        together.write_text(text)
        return [*([f"-dict={together}"] if text else []), f"-max_len={LENGTHS.get(self.name, LENGTH)}",
                "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={self.found}/{self.name}-",
                "-print_final_stats=1", "-reload=0"]

    def piece(self, runs, seconds):
        """At most so many executions in so many seconds; the output if something was found."""
        status, output = self.execute(*self.options(), f"-runs={runs}", f"-max_total_time={seconds}",
                                      self.corpus, self.seeds)
        executed = re.search(r"number_of_executed_units: (\d+)", output)
        took = re.search(r"Done \d+ runs in (\d+) second", output)
        reached = re.findall(r"cov: (\d+) ft: (\d+)", output)
        with self.log.open("a") as log:
            print(executed.group(1) if executed else 0, took.group(1) if took else 0,
                  *(reached[-1] if reached else (0, 0)), file=log)
        return output if status or not executed else ""

    def left(self, runs, seconds):
        """(executions, seconds) of the next piece, or None if there is nothing left to do."""
        executed, spent = self.history()[:2]
        runs_left = -1 if runs is None else runs - executed
        seconds_left = PIECE_S if seconds is None else min(seconds - spent, PIECE_S)
        return (runs_left, seconds_left) if runs_left and seconds_left >= 1 else None

    def minimise(self):
        least = self.program.parent / "least" / self.name
        least.mkdir(parents=True, exist_ok=True)
        for file in least.iterdir():
            file.unlink()
        self.execute("-set_cover_merge=1", "-use_counters=0", *self.options(), least, self.seeds, self.corpus)
        own = {file.read_bytes() for file in self.seeds.iterdir()}
        for file in sorted(least.iterdir()):
            content = file.read_bytes()
            if content not in own:
                name = hashlib.sha256(content).hexdigest()[:12]
                (self.seeds / f"learnt-{name}").write_bytes(content)


def run(targets, runs, seconds):
    """All in turns, a piece each, until each has had enough; the names of those that found something."""
    bad, busy = [], list(targets)
    while busy:
        for target in list(busy):
            left = target.left(runs, seconds)
            output = target.piece(*left) if left else ""
            if output:
                print(output[-6000:], flush=True)
                bad.append(target.name)
            if output or not left:
                busy.remove(target)
    return bad


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--minimise", action="store_true")
    asked = parser.parse_intermixed_args()
    targets = [Target(p) for p in sorted(asked.programs.resolve().glob("fuzz_*")) if os.access(p, os.X_OK)]
    targets = [t for t in targets if not asked.targets or t.name in asked.targets]
    bad = run(targets, asked.runs, asked.seconds) if asked.runs or asked.seconds else []
    for target in targets if asked.minimise else []:
        target.minimise()
    print("| target | executions | edges | features | seconds |\n|---|---|---|---|---|")
    for target in targets:
        executed, seconds, edges, features = target.history()
        print(f"| {target.name} | {executed:,} | {edges} | {features} | {seconds} |")
    print("found something: " + ", ".join(bad) if bad else "nothing found")
    return bool(bad or not targets)


if __name__ == "__main__":
    sys.exit(main())
