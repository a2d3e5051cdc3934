"""A run's averaged weights as a model file.

    python3 -m train export RUN OUT.safetensors [--f32] [--name NAME] [--decoder FILE] [--metadata KEY=VALUE ...]

The metadata: `lego` (shape and class names), `lego_skip_loss` if evaluate has measured it (without it presets are
fixed t_breaks, and the service cannot say what skipping costs), `license` and `source` as prepare was told; of a model of latents `decoder`, the
name of its decoder's file, and `decoder_sha256`.
"""
import argparse
import json
import pathlib

import torch

from train import evaluate, files, run

SKIP_LOSS = "lego_skip_loss"
LATENT_CHANNELS, DECODER_TENSOR = 4, "decoder.conv_in.weight"


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def metadata(network, skip_loss=None, **notes):
    """A model file's metadata; notes without text are left out."""
    said = {"lego": compact(network), "format": "pt", **{key: value for key, value in notes.items() if value}}
    return {**said, SKIP_LOSS: compact(skip_loss)} if skip_loss else said


def decoder_notes(network, path):
    """The metadata that names the decoder in that file, or {} without one. ValueError if it is none, or of no use."""
    if not path:
        return {}
    if network["channels"] != LATENT_CHANNELS:
        raise ValueError(f"{path}: a network of {network['channels']} channels has no use for a decoder")
    with open(path, "rb") as file:
        if DECODER_TENSOR not in files.read_header(file):
            raise ValueError(f"{path} is no decoder with diffusers' names: {DECODER_TENSOR} is missing")
    return {"decoder": path.name, "decoder_sha256": files.digest(path)}


def say_where(out, decoder):
    """The service looks for the decoder beside the model."""
    if decoder and decoder.resolve().parent != out.resolve().parent:
        print(f"{decoder} has to lie beside {out} when it is served")


def write_model(path, tensors, said, half=True):
    """ValueError if a weight is no finite number as it would be stored."""
    tensors = {name: tensor.half() if half else tensor.float() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds what is no finite {'half' if half else 'single'}-precision number")
    files.write_safetensors(path, tensors, said)


def export(folder, out, half=True, name=None, notes=(), decoder=None):
    folder = pathlib.Path(folder)
    about = files.read_json(folder / run.ABOUT)
    results = folder / evaluate.RESULTS
    skip_loss = files.read_json(results).get("skip_loss") if results.exists() else None
    shape = {**about["network"], **({"name": name} if name else {})}
    said = metadata(shape, skip_loss, license=about["license"], source=about["source"],
                    **{**decoder_notes(shape, decoder), **dict(notes)})
    write_model(out, run.load_checkpoint(folder, "cpu")["ema"], said, half)
    return said


def pair(text):
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    return key, value


def add_notes(parser):
    """The options that end up in the metadata, of this command and of import_lego."""
    parser.add_argument("--decoder", type=pathlib.Path, metavar="FILE",
                        help="the decoder of a model of latents, which will lie beside the model")
    parser.add_argument("--metadata", type=pair, action="append", default=[], help="KEY=VALUE for the file's metadata")


def main(arguments):
    parser = argparse.ArgumentParser(prog="train export", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--f32", action="store_true", help="single precision, twice the size")
    parser.add_argument("--name", help="the model's name, if not the run's")
    add_notes(parser)
    options = parser.parse_args(arguments)
    said = export(options.run, options.out, not options.f32, options.name, options.metadata,
                  options.decoder)
    if SKIP_LOSS not in said:
        print("without losses by mask: run evaluate first if the service is to skip bricks by itself")
    say_where(options.out, options.decoder)
    print(f"{options.out}: {options.out.stat().st_size} bytes")
