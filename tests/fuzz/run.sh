#!/bin/sh
# Build every fuzz target with libFuzzer and the sanitizers, and run each for some seconds.
#   run.sh BUILD_DIR SECONDS SOURCES LDLIBS
# What a run finds stays in BUILD_DIR/NAME/; the exit status is that of the first target that fails.
set -eu
build=$1 seconds=$2 sources=$3 libraries=$4
cd "$(dirname "$0")/../.."
mkdir -p "$build"
flags="-g -O1 -std=c11 -fno-math-errno -ffp-contract=off -pthread"
flags="$flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all"

objects=
for source in $sources server/config.c server/listen.c server/record.c server/allow.c \
    server/signature.c; do
    object=$build/$(echo "${source%.c}" | tr / _).o
    # shellcheck disable=SC2086
    clang $flags -D_GNU_SOURCE -I. -c -o "$object" "$source"
    objects="$objects $object"
done

for target in tests/fuzz/fuzz_*.c; do
    name=$(basename "$target" .c)
    seeds=tests/fuzz/seeds/${name#fuzz_}
    # shellcheck disable=SC2086
    clang $flags -fsanitize=fuzzer -D_GNU_SOURCE -I. -o "$build/$name" "$target" $objects $libraries
    mkdir -p "$build/corpus-$name" "$build/$name-found"
    "$build/$name" -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=4096 \
        -artifact_prefix="$build/$name-found/" -print_final_stats=1 -verbosity=0 \
        "$build/corpus-$name" "$seeds" 2>&1 | tee "$build/$name.log" | tail -n 20
    # the pipe hides the status; a crash is what libFuzzer reports in so many words
    if grep -q -e "^SUMMARY: " -e "deadly signal" "$build/$name.log"; then
        echo "not ok $name"
        exit 1
    fi
    echo "ok $name $seconds s"
done
