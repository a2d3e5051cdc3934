#!/bin/sh
# Runs the programs as CPUs that lack what the better sets of kernels need, so that no stray
# instruction slips in where the CPU was not asked first.
#   emulated.sh BUILD
set -u
build=${1:?usage: emulated.sh BUILD}
sh tools/install.sh qemu-user >/dev/null || { echo "not ok emulated: cannot install qemu-user"; exit 1; }
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
status=0

# as CPU TESTS PROGRAM [ARGUMENT...]: one line that says how it went; all tests if none are named.
as() {
    cpu=$1 program=$3
    unset CHECK_TESTS
    [ -z "$2" ] || export CHECK_TESTS="$2"
    shift 3
    name=emulated/$cpu/$program
    timeout 300 qemu-x86_64 -cpu "$cpu" "$build/$program" "$@" >"$log" 2>&1
    code=$?
    case $code in
    0) echo "ok $name"; return ;;
    124) why="not done after 300 s" ;;
    132) why="illegal instruction" ;;
    *) why="exit status $code: $(grep -m 1 '^not ok' "$log" || tail -n 1 "$log")" ;;
    esac
    echo "not ok $name: $why"
    status=1
}

# sets CPU NAME...: the sets of kernels that this CPU must be found able to run.
sets() {
    cpu=$1
    shift
    found=$(qemu-x86_64 -cpu "$cpu" "$build/unit/kernels" sets 2>/dev/null | tr '\n' ' ')
    if [ "$found" = "$* " ]; then
        echo "ok emulated/$cpu/sets"
    else
        echo "not ok emulated/$cpu/sets: found $found, not $*"
        status=1
    fi
}

# OpenBLAS asks the CPU for itself; its Haswell products are not what is tested, and crash or hang in
# some versions of the emulator.
export OPENBLAS_CORETYPE=Nehalem
unset BRICKWORK_CPU
sets Haswell avx2 portable
sets Nehalem portable
# Emulated vectors are slow: under Haswell the tests that reach every function, and no more.
as Haswell "" unit/kernels
as Haswell "bits_of_products gelu_far_out vectors" unit/kernels_products
as Haswell "small_tiles far_out scratch_grows" unit/kernels_attention
as Haswell "large_patches" unit/kernels_network
as Haswell "guidance_is_linear" unit/denoiser
for program in kernels kernels_products kernels_attention kernels_network; do
    as Nehalem "" unit/$program
done
as Nehalem "company_makes_no_difference_pr one_step_is_the_estimate" unit/denoiser
for cpu in Haswell Nehalem; do
    as $cpu "" brickworkd --version
    as $cpu "" brickwork info
done
exit $status
