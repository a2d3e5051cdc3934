"""Prove deploy/nginx.conf: three replicas behind it restarted, killed, frozen and overloaded. Prints a table.

    /usr/bin/python3 tests/deploy/proof.py [ROUNDS]    of build/brickworkd, or of what BRICKWORK_BUILD names

Exit status 1 if a single request failed.
"""
import signal
import sys
import time

import replicas

PAUSE = 100  # right answers between two events
COLUMNS = "{:<36} {:>7} {:>7} {:>7} {:>7} {:>9}  {}"


def main(rounds):
    scenarios = [lambda: replicas.restarted(rounds, PAUSE), lambda: replicas.restarted(rounds, PAUSE, held=False),
                 lambda: replicas.killed(3 * rounds, PAUSE), lambda: replicas.frozen(rounds, PAUSE),
                 lambda: replicas.frozen(rounds, PAUSE, signal.SIGKILL), lambda: replicas.overloaded(64, 10 * PAUSE)]
    failures = []
    began = time.monotonic()
    print(COLUMNS.format("replica", "served", "failed", "again", "moved", "slowest s", ""))
    for scenario in scenarios:
        row = scenario()
        failures += row.failures
        print(COLUMNS.format(row.name, row.served, row.failed, row.again, row.moved, f"{row.slowest_s:.2f}",
                             row.notes), flush=True)
    print("\nserved: right answers, byte for byte. failed: any other. again: streams that broke off and jobs' 503 with\n"
          "Retry-After, asked again by their clients. moved: asked of a second replica by nginx.")
    for failure in failures:
        print("failure: " + failure)
    print(f"{time.monotonic() - began:.0f} s, {len(failures)} failures")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
