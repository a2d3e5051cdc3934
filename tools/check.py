"""Prove the house rules: format, headers, dependencies, sizes. Exit status 1 if one is broken."""
import pathlib
import re
import statistics
import subprocess
import sys

MODULES = ["base", "engine", "image", "api", "server", "cli"]
SEES = {"base": set(), "engine": {"base"}, "image": {"base"}, "api": {"base"},
        "server": {"base", "engine", "image", "api"}, "cli": {"base", "engine", "image", "api"}}
# The only files that may include a foreign header.
FOREIGN = {"microhttpd.h": ["server/http.c"], "uv.h": ["server/loop.c"], "cblas.h": ["engine/gemm.c"],
           "jpeglib.h": ["image/jpeg.c"], "png.h": ["image/png.c"],
           "webp/encode.h": ["image/webp.c"], "webp/mux.h": ["image/webp.c"], "nettle/sha2.h": ["engine/digest.c"],
           "nettle/hmac.h": ["server/signature.c"], "nettle/base64.h": ["server/signature.c"],
           "immintrin.h": ["engine/kernels/"],
           "jansson.h": ["engine/safetensors.c", "engine/arch.c", "api/"],
           "curl/curl.h": ["cli/url.c", "cli/load_http.c", "cli/health.c", "server/webhook.c"],
           "hiredis/hiredis.h": ["server/redis.c"], "hiredis/async.h": ["server/redis.c"]}
LIBRARIES = ("base/", "engine/", "image/", "api/")
MAY_WRITE = ("base/log.c",)
TALKS = re.compile(r"\b(printf|puts|perror|exit|abort|fprintf\(std(out|err))\b\(?")
FUNCTION_MEDIAN, FUNCTION_MOST, FILE_MEDIAN, FILE_MOST = 15, 80, 300, 800

failures = []


def fail(where, what):
    failures.append(f"{where}: {what}")


def sources():
    for module in MODULES + ["engine/kernels", "tests/unit", "tests/fuzz", "tests/http"]:
        for pattern in ("*.[ch]", "*.inc"):
            yield from sorted(pathlib.Path(module).glob(pattern))


def check_format(files):
    run = subprocess.run(["clang-format", "--dry-run", "--Werror", *map(str, files)],
                         capture_output=True, text=True)
    if run.returncode:
        fail("clang-format", run.stderr.strip())


def check_includes(path, text):
    module = str(path).split("/")[0]
    for include in re.findall(r'^#include "([^"]+)"', text, re.M):
        target = include.split("/")[0]
        if module in SEES and target != module and target not in SEES[module]:
            fail(path, f"{module}/ must not see {include}")
    for include in re.findall(r"^#include <([^>]+)>", text, re.M):
        allowed = FOREIGN.get(include)
        if allowed and module in SEES and not any(str(path).startswith(a) for a in allowed):
            fail(path, f"<{include}> belongs in {', '.join(allowed)}")


def check_header(path, text):
    guard = "BW_" + re.sub(r"\W", "_", str(path)).upper()
    if not text.startswith("/*"):
        fail(path, "a header opens with what it is for")
    if f"#ifndef {guard}\n#define {guard}\n" not in text:
        fail(path, f"the include guard is not {guard}")
    run = subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-I.", "-Wall", "-Wextra", "-Werror",
                          "-fsyntax-only", "-x", "c", str(path)], capture_output=True, text=True)
    if run.returncode:
        fail(path, "does not compile alone:\n" + run.stderr)


def check_manners(path, text):
    code = re.sub(r'//.*|/\*.*?\*/|"(\\.|[^"\\])*"', "", text, flags=re.S)
    if re.search(r"typedef\s+struct", code):
        fail(path, "structs have no typedef")
    if str(path).startswith(LIBRARIES) and str(path) not in MAY_WRITE and TALKS.search(code):
        fail(path, "libraries do not print or exit: " + TALKS.search(code).group(0))


def function_sizes(path, text):
    """Lines between the braces of every function: both stand alone in the first column."""
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            yield number - start - 1, f"{path}:{start}"
            start = None


def check_sizes(texts):
    functions = [size for path, text in texts.items() for size in function_sizes(path, text)]
    for lines, where in functions:
        if lines > FUNCTION_MOST:
            fail(where, f"a function of {lines} lines; {FUNCTION_MOST} are the most")
    files = {path: text.count("\n") for path, text in texts.items()}
    for path, lines in files.items():
        if lines > FILE_MOST:
            fail(path, f"{lines} lines; {FILE_MOST} are the most")
    product = [lines for path, lines in files.items() if path.suffix == ".c"]
    medians = statistics.median(lines for lines, _ in functions), statistics.median(product)
    if medians[0] > FUNCTION_MEDIAN or medians[1] > FILE_MEDIAN:
        fail("sizes", f"medians are {medians}")
    print(f"check: {len(files)} files, {sum(files.values())} lines (median of .c {medians[1]:.0f}); "
          f"{len(functions)} functions (median {medians[0]:.0f}, longest {max(functions)[0]})")


def main():
    texts = {path: path.read_text() for path in sources()}
    check_format(texts)
    for path, text in texts.items():
        check_includes(path, text)
        check_manners(path, text)
        if path.suffix == ".h":
            check_header(path, text)
    check_sizes(texts)
    for path in sorted(pathlib.Path(".").glob("web/*")) + sorted(pathlib.Path(".").glob("tests/web/*")):
        if path.read_text().count("\n") > FILE_MOST:
            fail(path, f"more than {FILE_MOST} lines")
    for script in sorted([*pathlib.Path("tools").glob("*.py"), *pathlib.Path("tests").glob("*.py"),
                          *pathlib.Path("tests").glob("*/*.py"),
                          *pathlib.Path("examples").glob("*.py"),
                          *pathlib.Path("train").glob("*.py")]):
        compile(script.read_text(), str(script), "exec")
    for failure in failures:
        print("check: " + failure)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
