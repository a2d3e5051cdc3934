#!/bin/sh
# Build the container and prove what the Dockerfile promises, without a Docker engine: as root on Debian,
#     deploy/container.sh [FOLDER]
# FOLDER (/var/tmp/brickwork-container) keeps the base image, the layers and the picture that the container made. One
# line for each check; exit status 1 if one failed.
# shellcheck disable=SC2016,SC2086 # what others are to expand; $store is words
set -eu
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-/var/tmp/brickwork-container}")
BASE=docker.io/library/debian:bookworm-slim
IMAGE=localhost/brickwork:proof
NAME=brickwork-proof-$$
MOST_BYTES=250000000
PATIENCE_S=60
PYTHON=/usr/bin/python3

[ "$(id -u)" = 0 ] || { echo "container.sh: has to run as root" >&2; exit 2; }
tools/install.sh buildah podman runc debootstrap curl python3 python3-pil
mkdir -p "$folder"

# Storage of their own, so that nothing else on this machine is seen or touched.
store="--root $folder/storage --runroot $folder/run"
podman() { command podman $store --cgroup-manager cgroupfs "$@"; }
buildah() { BUILDAH_ISOLATION=chroot command buildah $store "$@"; }

passed=0 failed=0
# check NAME COMMAND...: a line, and what the command said if it failed.
check() {
    name=$1
    shift
    if "$@" >"$folder/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok     $name"
    else
        failed=$((failed + 1))
        echo "FAILED $name"
        sed 's/^/       /' "$folder/said"
    fi
}
# needed NAME COMMAND...: the same, and without it the rest makes no sense.
needed() {
    before=$failed
    check "$@"
    [ "$failed" = "$before" ] || exit 1
}
# Wait for a command to succeed, so many seconds at most.
patiently() {
    end=$(($(date +%s) + PATIENCE_S))
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.1
    done
}
finish() {
    podman rm --force --time 1 --volumes "$NAME" >/dev/null 2>&1 || :
    podman volume rm "$NAME" >/dev/null 2>&1 || :
    podman image unmount "$IMAGE" >/dev/null 2>&1 || :
}
trap finish EXIT
trap 'exit 1' INT TERM

# ---- the base image: Debian as small as the one of that name, from where this machine's apt gets it ----

# Lines of sources.list for Debian's own suites of this release.
sources() {
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sort -u | sed -n -E 's,^(bookworm(-updates|-security)?) main (.*[^/])/?$,deb \3 \1 main,p'
}

SLIM="usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian"
make_base() {
    root=$folder/base
    [ -n "$(sources)" ] || apt-get update -qq
    mirror=$(sources | awk '$3 == "bookworm" { print $2; exit }')
    [ -n "$mirror" ] || { echo "apt knows no Debian bookworm"; return 1; }
    proxy= && eval "$(apt-config shell proxy Acquire::http::Proxy)"
    rm -rf "$root"
    ${proxy:+env http_proxy=$proxy} debootstrap --variant=minbase bookworm "$root" "$mirror" || return 1
    for path in $SLIM; do
        rm -rf "${root:?}/$path"
        echo "path-exclude /$path/*"
    done >"$root/etc/dpkg/dpkg.cfg.d/slim"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*
    sources >"$root/etc/apt/sources.list"
    apt-config dump Acquire | grep -E '::(Check-[A-Za-z-]+|Proxy) ' >"$root/etc/apt/apt.conf.d/as-outside" || :
    container=$(buildah from scratch) &&
        buildah add --quiet "$container" "$root" / &&
        buildah config --cmd bash "$container" &&
        buildah commit --quiet --rm "$container" "$BASE" &&
        rm -rf "$root"
}

podman image exists "$BASE" || needed "a base image, by debootstrap" make_base

# ---- the image ----

version=$(sed -n 's/^#define BW_VERSION "\(.*\)"$/\1/p' base/version.h)
build_image() {
    buildah build --format docker --pull-never --layers --tag "$IMAGE" --build-arg VERSION="$version" \
        --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        --build-arg CREATED="$(date -u +%Y-%m-%dT%H:%M:%SZ)" .
}
of_image() { podman image inspect --format "$1" "$IMAGE"; }
is_small() {
    bytes=$(of_image '{{.Size}}')
    echo "$bytes bytes"
    [ "$bytes" -lt "$MOST_BYTES" ]
}
# Neither tools nor what only they need.
TOOLS='(.*-)?(cc|c\+\+|cpp|gcc|g\+\+|clang|tcc|as|ld|make)(-[0-9.]+)?'
PACKAGES='.*-dev|binutils|(gcc|clang)-[0-9]+'
has_no_compiler() {
    root=$(podman image mount "$IMAGE")
    tools=$(find "$root/usr/bin" -printf '%f\n' | grep -Ex "$TOOLS" || :)
    packages=$(dpkg-query --admindir "$root/var/lib/dpkg" -W -f '${Package}\n' | grep -Ex "$PACKAGES" || :)
    podman image unmount "$IMAGE"
    echo "$tools $packages"
    [ -z "$tools$packages" ]
}
label_is() { [ "$(of_image "{{index .Labels \"org.opencontainers.image.$1\"}}")" = "$2" ]; }

needed "the image builds" build_image
check "it is under $((MOST_BYTES / 1000000)) MB, the model included: $(($(of_image '{{.Size}}') / 1000000)) MB" is_small
check "it has no compiler" has_no_compiler
check "it says what it is" label_is title Brickwork
check "it says which version" label_is version "$version"
check "it names a user by number" [ "$(of_image '{{.Config.User}}')" = 10001:10001 ]

# ---- the container: nothing of it may be written but the volume of its jobs ----

port=$($PYTHON -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
start() {
    podman run --detach --name "$NAME" --runtime /usr/sbin/runc --network host --ulimit nofile=20000:20000 \
        --ulimit nproc=1000:1000 --no-healthcheck --log-driver k8s-file --read-only --read-only-tmpfs=false \
        --cap-drop all --security-opt no-new-privileges --volume "$NAME:/var/lib/brickwork" \
        --env BRICKWORK_LISTEN="127.0.0.1:$port" --env BRICKWORK_JOBS=/var/lib/brickwork "$IMAGE"
}
inside() { podman exec "$NAME" "$@"; }
answers() { curl --silent --show-error --fail --max-time 5 --output /dev/null "$url$1"; }
is_ready() {
    patiently answers /readyz && return
    podman logs "$NAME"
    return 1
}
# A line of the first process' /proc/self/status.
process_has() { grep -E "^$1:[[:space:]]+$2" "/proc/$(podman inspect --format '{{.State.Pid}}' "$NAME")/status"; }
writes_only_jobs() {
    inside sh -c 'for folder in / /etc /home /run /tmp /usr /var /var/tmp; do touch $folder/x && exit 1; done
        touch /var/lib/brickwork/x && rm /var/lib/brickwork/x'
}
generate() { # FILE BODY
    curl --silent --show-error --fail --max-time "$PATIENCE_S" --output "$1" -H 'Content-Type: application/json' \
        -H 'Accept: image/jpeg' --data "$2" "$url/v1/generate"
}
is_jpeg() { # FILE WxH
    $PYTHON -c 'import sys; from PIL import Image; i = Image.open(sys.argv[1]); i.load()
assert (i.format, "%dx%d" % i.size) == ("JPEG", sys.argv[2]), (i.format, i.size)' "$@"
}
# What the image's HEALTHCHECK says, run as an engine would.
is_healthy() {
    command=$(of_image '{{range $i, $word := .HealthCheck.Test}}{{if $i}}{{$word}}{{end}}{{end}}')
    [ -n "$command" ] && inside sh -c "$command"
}
makes_a_picture() {
    generate "$folder/picture.jpg" '{"class": "apples", "seed": 1}' && is_jpeg "$folder/picture.jpg" 128x128
}
# The plainest kernels, which leave products to OpenBLAS.
makes_a_plain_picture() {
    file=/var/lib/brickwork/plain.jpg
    inside env BRICKWORK_CPU=portable brickwork generate --class apples --seed 1 --steps 4 --out "$file" &&
        inside cat "$file" >"$folder/plain.jpg" && inside rm "$file" && is_jpeg "$folder/plain.jpg" 128x128
}
job() { curl --silent --show-error --fail --max-time "$PATIENCE_S" "$@" "$url/v1/jobs/proof"; }
job_is_done() { job -X GET | grep '"status": *"completed"'; }
has_work() { curl --silent --max-time 5 "$url/metrics" | grep -q '^brickwork_in_progress_pictures [1-9]'; }
# SIGTERM while a request is under way: it is answered, then the container ends by itself.
stops_cleanly() {
    generate "$folder/last.jpg" '{"class": "pears", "seed": 2, "steps": 64}' &
    request=$!
    patiently has_work && podman stop --time "$PATIENCE_S" "$NAME" && wait "$request" &&
        is_jpeg "$folder/last.jpg" 128x128
}
exits_with() { [ "$(podman inspect --format '{{.State.ExitCode}} {{.State.OOMKilled}}' "$NAME")" = "$1 false" ]; }
log_has() { podman logs "$NAME" 2>&1 | grep "event=$1"; }

needed "it starts" start
needed "it gets ready" is_ready
check "it runs as user 10001" process_has Uid "10001[[:space:]]+10001"
check "it has no capability" process_has CapEff '0+$'
check "it cannot gain one" process_has NoNewPrivs 1
check "it cannot write to its root, only to the volume" writes_only_jobs
check "it makes a picture, a JPEG of 128x128" makes_a_picture
check "so does the command line inside, as on a CPU without vectors" makes_a_plain_picture
check "its HEALTHCHECK says that it is well" is_healthy
check "it takes a job" job -X PUT -H 'Content-Type: application/json' --data '{"class": "plums", "seed": 3}'
check "and does it" patiently job_is_done
check "told to stop, it answers what is under way" stops_cleanly
check "and exits 0" exits_with 0
check "having said so" log_has stopped
check "started again" podman start "$NAME"
needed "it is ready" is_ready
check "and has the job" job_is_done
check "stopped idle" podman stop --time "$PATIENCE_S" "$NAME"
check "it exits 0" exits_with 0
echo "the picture is $folder/picture.jpg"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
