"""The LEGO-brick network in PyTorch, written to be fast on a CPU.

The same network as train/network.py, whose modules are those of the checkpoints and can be trained; tests/golden holds
the numbers it must reproduce. What is done for speed, all of it outside the timed part:

- one evaluation is one static graph: picture in, denoised picture out, a batch of B pictures at a time;
- all tiles of all pictures go through a brick together, as [B, tokens of one picture, hidden];
- coordinate channels and patch bias never change, so their share of the patch embedding is added to the position
  table once;
- the modulations of all blocks depend on the conditioning vector alone: one product with the stacked weights;
- the 1 of "1 + scale" is part of that product's bias, the 1/sqrt(d) of the attention is part of the query weights.

FORMS lists the ways the same graph can be run: eager, traced and frozen, or optimised further, in f32 or with
bfloat16 products.

Shapes: B pictures, T tiles per picture, N tokens per tile, D hidden size, C picture channels, p patch side.
"""
import json
import math
import pathlib
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))
from train import files, network  # noqa: E402


def normalise(x, hidden):
    """Layer norm without learned numbers. Ones and zeros all the same: the ONNX operator wants the first, and
    onnxruntime's SkipLayerNormFusion crashes without the second."""
    return F.layer_norm(x, (hidden,), torch.ones(hidden, dtype=x.dtype), torch.zeros(hidden, dtype=x.dtype), eps=1e-6)


class Attention(torch.nn.Module):
    """softmax(q k^T) v inside each tile, the heads side by side."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, qkv):  # [tiles, N, 3*D] -> [tiles, N, D]
        tiles, n, width = qkv.shape
        q, k, v = qkv.view(tiles, n, 3, self.heads, width // 3 // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        a = torch.softmax(q @ k.transpose(-1, -2), -1) @ v
        return a.transpose(1, 2).reshape(tiles, n, width // 3)


class Block(torch.nn.Module):
    """One DiT block (adaLN-Zero) on [B, T*N, D]. Products run in `dtype`, the residual stream in the stream's."""

    def __init__(self, weights, prefix, tokens, heads, attention):
        super().__init__()
        self.tokens, self.attention = tokens, attention(heads)
        def linear(name):
            return [torch.nn.Parameter(weights[prefix + name + end].clone(), requires_grad=False)
                    for end in (".weight", ".bias")]
        self.qkv_w, self.qkv_b = linear("attn.qkv")
        self.proj_w, self.proj_b = linear("attn.proj")
        self.fc1_w, self.fc1_b = linear("mlp.fc1")
        self.fc2_w, self.fc2_b = linear("mlp.fc2")
        hidden = self.hidden = self.proj_w.shape[0]
        for tensor in (self.qkv_w, self.qkv_b):
            tensor[:hidden] /= math.sqrt(hidden // heads)

    def forward(self, x, modulation):  # [B, T*N, D], six of [B, 1, D]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        batch, all_tokens, hidden = x.shape[0], x.shape[1], self.hidden
        y = torch.addcmul(shift1, normalise(x, hidden), scale1).to(self.qkv_w.dtype)
        y = self.attention(F.linear(y, self.qkv_w, self.qkv_b).view(-1, self.tokens, 3 * hidden))
        y = F.linear(y.view(batch, all_tokens, hidden), self.proj_w, self.proj_b)
        x = torch.addcmul(x, y.to(x.dtype), gate1)
        y = torch.addcmul(shift2, normalise(x, hidden), scale2).to(self.qkv_w.dtype)
        y = self.gelu(F.linear(y, self.fc1_w, self.fc1_b))
        y = F.linear(y, self.fc2_w, self.fc2_b)
        return torch.addcmul(x, y.to(x.dtype), gate2)

    @staticmethod
    def gelu(x):
        """The tanh form of GELU, as x sigmoid(2u) instead of x (1 + tanh u)/2: the same function, but PyTorch's
        sigmoid is several times faster than its tanh."""
        k = math.sqrt(8 / math.pi)
        u = torch.addcmul(torch.full((1,), k, dtype=x.dtype), x, x, value=0.044715 * k)
        return u.mul_(x).sigmoid_().mul_(x)


class Brick(torch.nn.Module):
    """Tiles of `size`, patches of `patch`: tokens, blocks, and pixels again."""

    def __init__(self, weights, index, config, attention, block):
        super().__init__()
        brick, hidden, picture = config["bricks"][index], config["hidden_size"], config["image_size"]
        prefix = "model.%d." % index
        self.hidden, self.channels, self.patch = hidden, config["channels"], brick["patch"]
        self.grid, self.side = picture // brick["size"], brick["size"] // brick["patch"]
        embed = weights[prefix + "x_embedder.proj.weight"]
        inputs = embed.shape[1] - 2  # without the two coordinate channels
        self.embed_w = torch.nn.Parameter(embed[:, :inputs].reshape(hidden, -1).clone(), requires_grad=False)
        line = torch.linspace(-1, 1, picture)
        coordinates = torch.stack([line[:, None].expand(picture, picture), line[None].expand(picture, picture)])
        fixed = F.linear(self.patches(coordinates[None]), embed[:, inputs:].reshape(hidden, -1))
        position = network.position_table(hidden, self.side).repeat(self.grid ** 2, 1)
        self.register_buffer("position", fixed + position + weights[prefix + "x_embedder.proj.bias"])  # [1, T*N, D]
        self.blocks = torch.nn.ModuleList(
            block(weights, "%sblocks.%d." % (prefix, j), self.side ** 2, config["num_heads"], attention)
            for j in range(brick["depth"]))
        self.final_w = torch.nn.Parameter(weights[prefix + "final_layer.linear.weight"].clone(), requires_grad=False)
        self.final_b = torch.nn.Parameter(weights[prefix + "final_layer.linear.bias"].clone(), requires_grad=False)

    def patches(self, z):
        """[B, channels, H, W] -> [B, T*N, channels*p*p], tile after tile."""
        batch, channels = z.shape[:2]
        z = z.reshape(batch, channels, self.grid, self.side, self.patch, self.grid, self.side, self.patch)
        return z.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(batch, -1, channels * self.patch ** 2)

    def pixels(self, x):
        """[B, T*N, p*p*C] -> [B, C, H, W]."""
        size = self.grid * self.side * self.patch
        x = x.view(-1, self.grid, self.grid, self.side, self.side, self.patch, self.patch, self.channels)
        return x.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(-1, self.channels, size, size)

    def forward(self, z, modulation):  # [B, channels, H, W], (6*depth + 2) of [B, 1, D]
        x = F.linear(self.patches(z).to(self.embed_w.dtype), self.embed_w) + self.position
        for j, block in enumerate(self.blocks):
            x = block(x, modulation[6 * j:6 * j + 6])
        shift, scale = modulation[-2:]
        x = torch.addcmul(shift, normalise(x, self.hidden), scale).to(self.final_w.dtype)
        return self.pixels(F.linear(x, self.final_w, self.final_b).to(z.dtype))


class Lego(torch.nn.Module):
    """The denoiser D(x; sigma): all bricks, no shifts, pictures of the training size."""

    def __init__(self, path, attention=Attention, block=Block):
        super().__init__()
        weights, metadata = files.read_safetensors(path)
        weights = {name: tensor.float() for name, tensor in weights.items()}
        config = self.config = json.loads(metadata["lego"])
        hidden = config["hidden_size"]
        self.hidden, self.sigma_data = hidden, config["sigma_data"]
        self.register_buffer("frequencies", 10000.0 ** -(torch.arange(128) / 128.0))
        self.time = torch.nn.ParameterList(
            torch.nn.Parameter(weights["t_embedder.mlp." + name], requires_grad=False)
            for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
        self.label = torch.nn.ParameterList(
            torch.nn.Parameter(weights["y_embedder.embedding_table." + name], requires_grad=False)
            for name in ("weight", "bias"))
        self.bricks = torch.nn.ModuleList(
            Brick(weights, k, config, attention, block) for k in range(len(config["bricks"])))
        # Stack the modulations: six vectors per block, two per final layer; add the 1 of every "1 + scale".
        rows, bias, self.parts = [], [], []
        for k, brick in enumerate(config["bricks"]):
            names = ["model.%d.blocks.%d.adaLN_modulation.1" % (k, j) for j in range(brick["depth"])]
            names.append("model.%d.final_layer.adaLN_modulation.1" % k)
            for name in names:
                rows.append(weights[name + ".weight"])
                b = weights[name + ".bias"].clone().view(-1, hidden)
                b[1::3] += 1  # shift, scale, gate, shift, scale, gate; shift, scale
                bias.append(b.flatten())
            self.parts.append(6 * brick["depth"] + 2)
        self.modulation_w = torch.nn.Parameter(torch.cat(rows), requires_grad=False)
        self.modulation_b = torch.nn.Parameter(torch.cat(bias), requires_grad=False)

    def to_bfloat16(self, stream):
        """Weights of the large products in bfloat16; with `stream` the residual stream as well."""
        for brick in self.bricks:
            for name, tensor in brick.named_parameters():
                tensor.data = tensor.data.bfloat16()
            if stream:
                brick.position = brick.position.bfloat16()
        self.modulation_w.data = self.modulation_w.data.bfloat16()
        self.modulation_b.data = self.modulation_b.data.bfloat16()
        self.stream = torch.bfloat16 if stream else torch.float32
        return self

    stream = torch.float32

    def modulate(self, c):
        """[B, D] -> [B, rows of the stacked weights]. One row of c is a matrix-vector product, and said to be one."""
        if len(c) == 1:
            return torch.addmv(self.modulation_b, self.modulation_w, c[0])[None]
        return F.linear(c, self.modulation_w, self.modulation_b)

    def forward(self, x, sigma, label):
        """[B, C, H, W] noisy, [B] noise level, [B, classes] one-hot (zeros: unconditional) -> [B, C, H, W]."""
        angle = (sigma.log() / 4)[:, None] * self.frequencies
        c = torch.cat([angle.cos(), angle.sin()], 1)
        c = F.linear(F.silu(F.linear(c, self.time[0], self.time[1])), self.time[2], self.time[3])
        c = F.silu(c + F.linear(label, self.label[0], self.label[1])).to(self.modulation_w.dtype)
        modulation = self.modulate(c).to(self.stream).view(-1, sum(self.parts), 1, self.hidden).unbind(1)

        s = sigma.view(-1, 1, 1, 1)
        variance = s * s + self.sigma_data ** 2
        scaled, out = x * variance.rsqrt(), None
        for brick, first, count in zip(self.bricks, np.cumsum([0] + self.parts).tolist(), self.parts):
            z = scaled if out is None else torch.cat([out, scaled], 1)
            out = brick(z, modulation[first:first + count])
        return x * (self.sigma_data ** 2 / variance) + out * (s * self.sigma_data * variance.rsqrt())


# name: (precision of the comparison, how weights are stored, how the graph is run)
FORMS = {
    "f32 frozen": ("f32", "f32", "freeze"),
    "f32 optimised": ("f32", "f32", "optimise"),
    "bf16 autocast eager": ("bf16", "autocast", "eager"),
    "bf16 autocast frozen": ("bf16", "autocast", "freeze"),
    "bf16 weights, f32 residual, frozen": ("bf16", "mixed", "freeze"),
    "bf16 throughout, frozen": ("bf16", "bf16", "freeze"),
}


def build(path, form, example):
    """A function (x, sigma, label) -> D for one of FORMS; example: inputs of the shape it will be called with."""
    _, storage, how = FORMS[form]
    model = Lego(path).eval()
    if storage in ("mixed", "bf16"):
        model.to_bfloat16(stream=storage == "bf16")
    def precision():
        return torch.autocast("cpu", torch.bfloat16) if storage == "autocast" else nullcontext()

    if how == "eager":
        def call(*inputs):
            with torch.inference_mode(), precision():
                return model(*inputs)
        return call
    with warnings.catch_warnings(), torch.no_grad(), precision():
        warnings.simplefilter("ignore")  # sizes become constants: a graph of one shape is what is wanted
        graph = torch.jit.freeze(torch.jit.trace(model, example, check_trace=False))
        if how == "optimise":
            graph = torch.jit.optimize_for_inference(graph)

    def call(*inputs):
        with torch.inference_mode():
            return graph(*inputs)
    return call
