"""A published LEGO checkpoint -> a model file.

    python3 -m train import_lego CHECKPOINT.pkl OUT.safetensors [--name NAME] [--classes FILE] [--heads N]
        [--decoder FILE] [--f32]

The checkpoints (LEGO-L-PG-64, LEGO-L-PR-64, LEGO-XL-U-256) are pickles in EDM's style: a dictionary whose `ema` is the
preconditioned network, its weights model.model.<brick>... A pickle is a program, so it is read by an unpickler
that knows a closed list of names: tensors are rebuilt by this file, classes of the network become inert records, and
any other name, a function that the pickle would call above all, ends the import before it is looked up. The shape of
the network is taken from the tensors.
"""
import argparse
import collections
import io
import math
import pathlib
import pickle
import struct

import torch

from train import config, export, network

DTYPES = {"FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
          "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
          "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
          "BoolStorage": torch.bool}
# Modules whose classes are part of such a network. They become records: what they hold is kept, no code runs.
RECORDS = ("torch.nn.", "timm.", "torch_utils.", "training.", "dnnlib.", "networks.", "models.")
POSITION_ERROR = 1e-4


class Record(dict):
    """An object of a class that is not run: `state` is what its pickle sets, `name` its class."""
    name, state = "", {}

    def __init__(self, *_, **__):
        super().__init__()

    def __setstate__(self, state):
        self.state = state if isinstance(state, dict) else {}


def record_class(module, name):
    return type("Record", (Record,), {"name": f"{module}.{name}"})


def persistent(meta):
    """What torch_utils.persistence reconstructs: it would run the source code that comes along."""
    one = Record()
    one.name = str(meta["class_name"])
    one.__setstate__(meta["state"])
    return one


# ---- tensors ----

class Storage(collections.namedtuple("Storage", "key dtype")):
    """A place in a file of tensors that is filled once its end has been read."""


def rebuild_tensor(numbers, offset, size, stride, *_):
    """torch._utils._rebuild_tensor, checked against the storage. numbers [count]."""
    last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if all(size) else 0
    if (len(size) != len(stride) or min((offset, *size, *stride)) < 0 or last >= max(len(numbers), 1)
            or math.prod(size) > len(numbers)):
        raise pickle.UnpicklingError("a tensor lies outside its storage")
    return numbers.as_strided(size, stride, offset).clone()


class StorageReader(pickle.Unpickler):
    """The pickles inside a storage as torch.save (its older form) writes them."""

    def find_class(self, module, name):
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"a storage names {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise pickle.UnpicklingError("a storage is something else")
        return Storage(key, dtype)


def storage_from_bytes(data):
    """torch.storage._load_from_bytes, without torch.load: the numbers [count] of one storage.

    Such a file is a magic number, a version, what the writer's machine is like, the object, the keys of the
    storages that follow, and for each its count and its bytes.
    """
    file = io.BytesIO(data)
    for _ in range(3):
        StorageReader(file).load()
    wanted, keys = StorageReader(file).load(), StorageReader(file).load()
    if not isinstance(wanted, Storage) or keys != [wanted.key]:
        raise pickle.UnpicklingError("not one storage")
    (count,) = struct.unpack("<q", file.read(8))
    size = torch.empty((), dtype=wanted.dtype).element_size()
    numbers = bytearray(file.read(count * size if count > 0 else 0))
    if count < 0 or len(numbers) != count * size:
        raise pickle.UnpicklingError("a storage ends early")
    return torch.frombuffer(numbers, dtype=wanted.dtype) if count else torch.empty(0, dtype=wanted.dtype)


# What a pickle may call, and what is called instead.
CALLS = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): persistent,
    ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch.storage", "_load_from_bytes"): storage_from_bytes,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("torch", "Size"): lambda size=(): tuple(size),
    ("torch", "device"): lambda *_: None,
}
KINDS = {"float32", "float16", "bfloat16", "float64", "int64", "int32", "uint8", "bool"}


class Restricted(pickle.Unpickler):
    """Names outside the closed list are refused before anything is looked up."""

    def find_class(self, module, name):
        if (module, name) in CALLS:
            return CALLS[module, name]
        if module == "torch" and name in KINDS:
            return getattr(torch, name)
        if module.startswith(RECORDS):
            return record_class(module, name)
        raise pickle.UnpicklingError(f"the pickle names {module}.{name}, which is no part of a checkpoint")

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("the pickle refers to something outside itself")


def read_pickle(path):
    """What the pickle holds, with records for objects. ValueError if it is not what it should be."""
    with open(path, "rb") as file:
        try:
            return Restricted(file).load()
        except Exception as error:  # a malformed pickle raises almost anything
            raise ValueError(f"{path}: {error}") from error


# ---- from a record to a network ----

def tensors_of(module, prefix=""):
    """The state dict of a record of a torch.nn.Module."""
    found = {}
    for part in ("_parameters", "_buffers"):
        found.update({prefix + name: t for name, t in (module.state.get(part) or {}).items() if torch.is_tensor(t)})
    for name, child in (module.state.get("_modules") or {}).items():
        if isinstance(child, Record):
            found.update(tensors_of(child, f"{prefix}{name}."))
    return found


def attribute(module, name):
    """The first value of that attribute in a record and its children."""
    if name in module.state:
        return module.state[name]
    children = [c for c in (module.state.get("_modules") or {}).values() if isinstance(c, Record)]
    return next((value for c in children if (value := attribute(c, name)) is not None), None)


def brick_shape(weights, k):
    """Brick k's tile, patch and depth, from the shapes of its tensors."""
    prefix = f"model.{k}."
    patch, tokens = weights[prefix + "x_embedder.proj.weight"].shape[-1], weights[prefix + "pos_embed"].shape[-2]
    depth = len({name.split(".")[3] for name in weights if name.startswith(prefix + "blocks.")})
    if int(tokens ** 0.5) ** 2 != tokens:
        raise ValueError(f"brick {k} has {tokens} positions, which is no square")
    return {"size": int(tokens ** 0.5) * patch, "patch": patch, "depth": depth}


def shape_of(ema, weights, name, classes, heads):
    """The metadata "lego". What tensors do not tell (heads, sigma_data, class names) comes from the record or the
    caller."""
    count = len({key.split(".")[1] for key in weights if key.startswith("model.")})
    bricks = [brick_shape(weights, k) for k in range(count)]
    embed, table = weights["model.0.x_embedder.proj.weight"], weights.get("y_embedder.embedding_table.weight")
    hidden, number = embed.shape[0], 0 if table is None else table.shape[1]
    heads = heads or attribute(ema, "num_heads")
    if not heads:
        raise ValueError("the checkpoint does not say how many heads there are; --heads does")
    if classes and len(classes) != number:
        raise ValueError(f"{len(classes)} class names for {number} classes")
    return config.check_network({
        "format": config.FORMAT, "name": name, "image_size": max(b["size"] for b in bricks),
        "channels": embed.shape[1] - 2, "num_classes": number,
        "classes": classes or [f"class {i}" for i in range(number)], "hidden_size": hidden, "num_heads": int(heads),
        "mlp_ratio": weights["model.0.blocks.0.mlp.fc1.weight"].shape[0] // hidden,
        "sigma_data": float(attribute(ema, "sigma_data") or 0.5), "bricks": bricks})


def check_positions(weights, shape):
    """The engine computes position tables itself; the checkpoint's have to be those."""
    for k, brick in enumerate(shape["bricks"]):
        ours = network.position_table(shape["hidden_size"], brick["size"] // brick["patch"])
        theirs = weights.pop(f"model.{k}.pos_embed").float().view_as(ours)
        if (ours - theirs).abs().max() > POSITION_ERROR:
            raise ValueError(f"brick {k} has positions other than sines and cosines")


def convert(path, name, classes=None, heads=None):
    """(tensors by our names, metadata "lego") of a checkpoint."""
    holds = read_pickle(path)
    ema = holds.get("ema") if isinstance(holds, dict) else None
    if not isinstance(ema, Record):
        raise ValueError(f'{path} is no pickle with an "ema"')
    weights = {key.removeprefix("model."): t for key, t in tensors_of(ema).items() if key.startswith("model.")}
    try:
        shape = shape_of(ema, weights, name, classes, heads)
        check_positions(weights, shape)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is no LEGO network: {error}") from None
    wanted = {key: tensor.shape for key, tensor in network.Lego(shape).state_dict().items()}
    have = {key: tensor.shape for key, tensor in weights.items() if key in wanted}
    if have != wanted:
        wrong = sorted(key for key in wanted if have.get(key) != wanted[key])
        raise ValueError(f"{path}: not the tensors of these bricks: {', '.join(wrong[:4])}")
    return {key: weights[key] for key in wanted}, shape


def main(arguments):
    parser = argparse.ArgumentParser(prog="train import_lego", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--name", help="the model's name (default: the checkpoint's)")
    parser.add_argument("--classes", type=pathlib.Path, help="a file with a class name in each line")
    parser.add_argument("--heads", type=int, help="attention heads, if the checkpoint does not say")
    parser.add_argument("--f32", action="store_true", help="single precision, twice the size")
    parser.add_argument("--license", default="")
    parser.add_argument("--source", default="")
    export.add_notes(parser)
    options = parser.parse_args(arguments)
    names = options.classes and options.classes.read_text(encoding="utf-8").splitlines()
    tensors, shape = convert(options.checkpoint, options.name or options.checkpoint.stem, names, options.heads)
    said = export.metadata(shape, license=options.license, source=options.source,
                           **{**export.decoder_notes(shape, options.decoder), **dict(options.metadata)})
    export.write_model(options.out, tensors, said, not options.f32)
    export.say_where(options.out, options.decoder)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {len(shape['bricks'])} bricks, "
          f"hidden size {shape['hidden_size']}, {shape['num_heads']} heads, {shape['num_classes']} classes")
