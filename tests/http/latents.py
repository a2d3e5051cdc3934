"""A tiny model of latents and its tiny decoder, made of random weights when a test wants them. The model has a U of
three bricks over 8x8 latents, so its own picture is 64x64; the decoder has 16 channels at every level and one residual
layer in each.
"""
import hashlib
import json
import struct

import numpy as np

MODEL, DECODER = "tiny-latent-8.safetensors", "tiny-decoder.safetensors"
LEGO = {"format": 1, "name": "tiny-latent-8", "image_size": 8, "channels": 4, "num_classes": 2,
        "classes": ["class 0", "class 1"], "hidden_size": 32, "num_heads": 1, "mlp_ratio": 2, "sigma_data": 0.5,
        "bricks": [{"size": 8, "patch": 2, "depth": 1}, {"size": 4, "patch": 2, "depth": 1},
                   {"size": 8, "patch": 2, "depth": 1}]}
TIME_FEATURES, CHANNELS, LEVELS = 256, 16, 4


def file_bytes(tensors, metadata):
    """A safetensors file of float32 `tensors`, by name."""
    header, offset = {"__metadata__": metadata}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(tensor.tobytes() for tensor in tensors.values())


class Weights(dict):
    """Random tensors by name. Rows are scaled so that what goes through keeps its size."""

    def __init__(self, seed):
        super().__init__()
        self.random = np.random.default_rng(seed)

    def add(self, name, *shape, scale=1.0, shift=0.0):
        spread = scale / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.1 * scale
        self[name] = (shift + spread * self.random.standard_normal(shape)).astype(np.float32)

    def layer(self, prefix, *shape, scale=1.0):
        self.add(prefix + ".weight", *shape, scale=scale)
        self.add(prefix + ".bias", shape[0])

    def norm(self, prefix, channels):
        self.add(prefix + ".weight", channels, shift=1)
        self.add(prefix + ".bias", channels)


def model(seed=1, decoder=None, lego=None, said=()):
    """The bytes of a model file; `decoder`: those of its decoder's, named DECODER. `lego` changes the shape, `said`
    the metadata."""
    shape = {**LEGO, **(lego or {})}
    w, d, channels = Weights(seed), shape["hidden_size"], shape["channels"]
    w.layer("t_embedder.mlp.0", d, TIME_FEATURES)
    w.layer("t_embedder.mlp.2", d, d)
    w.layer("y_embedder.embedding_table", d, shape["num_classes"])
    for k, brick in enumerate(shape["bricks"]):
        patch, block = brick["patch"], f"model.{k}.blocks.0."
        w.layer(f"model.{k}.x_embedder.proj", d, channels * (2 if k else 1) + 2, patch, patch)
        w.layer(block + "adaLN_modulation.1", 6 * d, d)
        w.layer(block + "attn.qkv", 3 * d, d)
        w.layer(block + "attn.proj", d, d)
        w.layer(block + "mlp.fc1", shape["mlp_ratio"] * d, d)
        w.layer(block + "mlp.fc2", d, shape["mlp_ratio"] * d)
        w.layer(f"model.{k}.final_layer.adaLN_modulation.1", 2 * d, d)
        w.layer(f"model.{k}.final_layer.linear", patch * patch * channels, d)
    metadata = {"lego": json.dumps(shape)}
    if decoder:
        metadata |= {"decoder": DECODER, "decoder_sha256": hashlib.sha256(decoder).hexdigest()}
    return file_bytes(w, {**metadata, **dict(said)})


def decoder(seed=1):
    """The bytes of a decoder's file."""
    w = Weights(seed)

    def conv(prefix, outputs=CHANNELS, inputs=CHANNELS, side=3, scale=1.0):
        w.layer(prefix, outputs, inputs, side, side, scale=scale)

    def resnet(prefix):
        for part in "12":
            w.norm(f"{prefix}.norm{part}", CHANNELS)
            conv(f"{prefix}.conv{part}")

    conv("post_quant_conv", 4, 4, 1)
    conv("decoder.conv_in", inputs=4)
    for i in range(2):
        resnet(f"decoder.mid_block.resnets.{i}")
    w.norm("decoder.mid_block.attentions.0.group_norm", CHANNELS)
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        w.layer(f"decoder.mid_block.attentions.0.{name}", CHANNELS, CHANNELS)
    for level in range(LEVELS):
        resnet(f"decoder.up_blocks.{level}.resnets.0")
        if level + 1 < LEVELS:
            conv(f"decoder.up_blocks.{level}.upsamplers.0.conv")
    w.norm("decoder.conv_norm_out", CHANNELS)
    conv("decoder.conv_out", 3, scale=0.5)
    return file_bytes(w, {"norm_num_groups": "4"})
