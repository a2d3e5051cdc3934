"""Models of the published checkpoints' shapes with random weights: files, and PyTorch's network for them.

Such files hold gigabytes. They are written tensor by tensor and evaluated transformer block by transformer block: a
brick has one block in memory, which takes on the weights of each in its turn.
"""
import json
import math
import struct

import kit  # noqa: F401
import numpy as np
import torch
from train import config, export, files, network

CLASSES = 1000


def shape(size, arrangement, image_size, channels=3, depth=None):
    """The metadata "lego" of a size and an arrangement that recipes can name; `depth`: other than the size's."""
    hidden, heads, blocks = config.SIZES[size]
    return config.check_network({
        "format": config.FORMAT, "name": f"LEGO-{size}-{arrangement}-{image_size}", "image_size": image_size,
        "channels": channels, "num_classes": CLASSES, "classes": [f"class {i}" for i in range(CLASSES)],
        "hidden_size": hidden, "num_heads": heads, "mlp_ratio": 4, "sigma_data": 0.5,
        "bricks": config.named_stack(arrangement, image_size, depth or blocks)})


class OneBlockEach(network.Lego):
    """That network with bricks of a single block, whose weights are about to be given."""

    def __init__(self, lego):
        super().__init__({**lego, "bricks": [{**brick, "depth": 1} for brick in lego["bricks"]]})
        self.requires_grad_(False)

    def initialise(self):
        pass


def tensor_shapes(lego):
    """{name: shape} of all that a model file holds."""
    shapes = {}
    for name, tensor in OneBlockEach(lego).state_dict().items():
        part = name.split(".")
        blocks = lego["bricks"][int(part[1])]["depth"] if ".blocks." in name else 1
        shapes.update({name.replace(".blocks.0.", f".blocks.{j}."): tuple(tensor.shape) for j in range(blocks)})
    return shapes


def random_weights(random, name, size):
    """Uniform, and such that numbers stay of ordinary size on their way. No bias is zero, and so no gate: every block
    contributes. The class is worth as much as the noise level."""
    inputs = 1 if len(size) == 1 or "embedding_table" in name else math.prod(size[1:])
    return (random.random(size, np.float32) - np.float32(0.5)) * np.float32(1.7 / inputs ** 0.5)


def write(path, lego, seed):
    """A model file in half precision; the number of its parameters."""
    random, header, offset = np.random.Generator(np.random.SFC64(seed)), {}, 0
    shapes = tensor_shapes(lego)
    for name, size in shapes.items():
        end = offset + 2 * math.prod(size)
        header[name] = {"dtype": "F16", "shape": size, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps({"__metadata__": export.metadata(lego), **header}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, size in shapes.items():
            file.write(random_weights(random, name, size).astype(np.float16).tobytes())
    return offset // 2


class Blocks:
    """The blocks of a brick, one after the other: always the same module, with the weights of each."""

    def __init__(self, block, weights, prefix, depth):
        self.block, self.weights, self.prefix, self.depth = block, weights, prefix, depth

    def __iter__(self):
        for j in range(self.depth):
            fill(self.block, self.weights, f"{self.prefix}{j}.")
            yield self.block


def fill(module, weights, prefix=""):
    """Give a module those of the mapped weights that it has."""
    for name, tensor in module.state_dict().items():
        tensor.copy_(torch.from_numpy(weights[prefix + name].astype(np.float32)))


def load(path):
    """The network of a model file, as train/network.py has it."""
    weights, metadata = files.map_safetensors(path)
    lego = json.loads(metadata["lego"])
    net = OneBlockEach(lego)
    fill(net, weights)
    for k, brick in enumerate(net.model):
        block = brick.blocks[0]
        del brick.blocks
        brick.blocks = Blocks(block, weights, f"model.{k}.blocks.", lego["bricks"][k]["depth"])
    return net


def case(lego, random):
    """Parameters and input of an evaluation of all bricks at the model's own size."""
    side, bricks = lego["image_size"], len(lego["bricks"])
    x = torch.from_numpy(random.standard_normal((lego["channels"], side, side), np.float32))
    return {"kind": "denoise", "size": [side, side], "sigma": 0.7, "label": int(random.integers(CLASSES)),
            "mask": [True] * bricks, "shifts": [[0, 0]] * bricks}, x
