#!/bin/sh
# Time the network in onnxruntime and in PyTorch beside our own engine, on this processor.
#   bench/peers/run.sh [--seconds N] [--rounds N] [--threads N] [--json FILE]
#
# Installs what is missing, writes the network as ONNX, proves that both peers compute the recorded numbers of
# tests/golden, and only then times; compare.py says how. Our side is the command in BRICKWORK_BENCH.
set -eu
cd "$(dirname "$0")/../.."
folder=build/peers
model=models/pomology-128.safetensors

packages="python3-torch python3-numpy"
command -v node >/dev/null || packages="$packages nodejs"
command -v npm >/dev/null || packages="$packages npm"
# shellcheck disable=SC2086 # a list of words
tools/install.sh $packages

# The npm package contains the library for CPUs; its install script would only fetch those for GPUs.
mkdir -p "$folder"
if ! cmp -s bench/peers/package.json "$folder/package.json" || [ ! -d "$folder/node_modules/onnxruntime-node" ]; then
    cp bench/peers/package.json "$folder/package.json.new"
    rm -f "$folder/package.json"
    mv "$folder/package.json.new" "$folder/package.json"
    npm install --prefix "$folder" --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error ||
        { rm -f "$folder/package.json"; exit 1; }
fi

# The ONNX files are as new as what they were made from.
stale=
for batch in 1 8; do
    for form in standard fused; do
        file="$folder/lego-$batch-$form.onnx"
        for source in "$model" bench/peers/lego_torch.py bench/peers/export_onnx.py; do
            [ -e "$file" ] && [ ! "$source" -nt "$file" ] || stale=yes
        done
    done
done
[ -z "$stale" ] || /usr/bin/python3 bench/peers/export_onnx.py "$model" "$folder" 1 8

exec /usr/bin/python3 bench/peers/compare.py --model "$model" --folder "$folder" "$@"
