#!/bin/sh
# Build, install what is missing, measure: bench/slo/run.sh [--seconds 20]
set -eu
cd "$(dirname "$0")/../.."
make -j2 all
tools/install.sh python3-matplotlib
exec /usr/bin/python3 bench/slo/run.py "$@"
