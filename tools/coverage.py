"""Say which lines the tests have run: python3 tools/coverage.py BUILD

BUILD was compiled with --coverage and has been run. A line for each module, then for each file the lines
that no test has reached; BUILD/coverage.html shows them in their places.
"""
import collections
import json
import pathlib
import subprocess
import sys

MODULES = ["base", "engine", "image", "api", "server", "cli"]


def measure(build):
    """{file: {line: times it ran}} of the product, by gcovr."""
    filters = [word for module in MODULES for word in ("--filter", f"{module}/")]
    run = subprocess.run(["gcovr", "--root", ".", "--object-directory", build, *filters, "--json", "-",
                          "--html-details", f"{build}/coverage.html", build],
                         check=True, stdout=subprocess.PIPE, text=True)
    counts = collections.defaultdict(dict)
    for file in json.loads(run.stdout)["files"]:
        for line in file["lines"]:
            if not line.get("gcovr/noncode"):
                number = line["line_number"]
                counts[file["file"]][number] = counts[file["file"]].get(number, 0) + line["count"]
    return counts


def ranges(numbers):
    """[3, 4, 5, 9] -> "3-5 9"."""
    spans = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return " ".join(f"{a}-{b}" if a < b else f"{a}" for a, b in spans)


def main(build):
    counts = measure(str(pathlib.Path(build)))
    print(f"{'module':<8} {'lines':>6} {'run':>6}")
    for module in MODULES:
        lines = [n for file, of in counts.items() if file.split("/")[0] == module for n in of.values()]
        if lines:
            print(f"{module:<8} {len(lines):>6} {sum(n > 0 for n in lines) / len(lines):>6.1%}")
    print("\nnever run:")
    for file, of in sorted(counts.items()):
        missed = [number for number, count in of.items() if not count]
        if missed:
            print(f"  {file}: {ranges(missed)}")


if __name__ == "__main__":
    main(sys.argv[1])
