#!/bin/sh
# Build, then load the server with everything at once for half an hour: bench/soak/run.sh [--minutes 30]
set -eu
cd "$(dirname "$0")/../.."
make -j2 all
exec /usr/bin/python3 bench/soak/soak.py "$@"
