"""Files: safetensors and JSON. Writers go through a temporary file beside the target and rename it."""
import contextlib
import hashlib
import json
import os
import struct

import numpy as np
import torch

DTYPES = {"F16": np.float16, "F32": np.float32}
MOST_HEADER = 1 << 26
NAMES = {np.dtype(kind): name for name, kind in DTYPES.items()}


@contextlib.contextmanager
def replacing(path):
    """A path to write to, which takes the place of `path` once the block has ended well."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def read_json(path):
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def write_json(path, value):
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.write("\n")


def read_header(file):
    """The header of an open safetensors file, which is then at its tensors. ValueError if it has none."""
    try:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length if length < MOST_HEADER else 0))
    except (struct.error, ValueError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{file.name} is no safetensors file")
    return header


def digest(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def map_safetensors(path):
    """(arrays by name, metadata) of a file of F16 and F32. The arrays lie in the mapped file: what is looked at is
    read, and no more."""
    with open(path, "rb") as file:
        header = read_header(file)
        body = np.memmap(path, np.uint8, "r", offset=file.tell())
    metadata = header.pop("__metadata__", {})
    return {name: body[slice(*entry["data_offsets"])].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()}, metadata


def read_safetensors(path):
    """(tensors by name, metadata) of a file of F16 and F32."""
    arrays, metadata = map_safetensors(path)
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, metadata


def write_safetensors(path, tensors, metadata):
    """`tensors` of float16 or float32, `metadata` text by text."""
    header, offset = {"__metadata__": metadata}, 0
    arrays = {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        header[name] = {"dtype": NAMES[array.dtype], "shape": list(array.shape),
                        "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.tobytes())
