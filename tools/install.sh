#!/bin/sh
# Install what is missing of the given Debian packages; says nothing if nothing is.
#   install.sh PACKAGE...
set -eu

# Node.js and npm may have come from elsewhere; Debian's would be in their way.
is_there() {
    case $1 in
    nodejs) node -e 'process.exit(parseInt(process.versions.node) < 18)' 2>/dev/null && return ;;
    npm) command -v npm >/dev/null && return ;;
    esac
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q '^install ok installed'
}

missing=
for package in "$@"; do
    is_there "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || { echo "please install:$missing" >&2; exit 1; }
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
