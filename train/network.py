"""The bricks (Zheng et al., ICLR 2024, arXiv 2310.06389), made of DiT blocks (arXiv 2212.09748).

Parameters have the names of the published checkpoints. Shapes: B pictures, T tiles of a picture, N tokens of a
tile, D hidden size, C channels, p patch side. engine/brick.c computes the same.
"""
import torch
import torch.nn.functional as F
from torch import nn

TIME_FEATURES = 256


def position_table(hidden, side):
    """[side*side, hidden]: the first half of the channels encodes the column, the second the row."""
    def encode(position):
        omega = 10000.0 ** -(torch.arange(hidden // 4, dtype=torch.float64) / (hidden / 4))
        angle = position.double()[:, None] * omega
        return torch.cat([angle.sin(), angle.cos()], 1)
    line = torch.arange(side)
    return torch.cat([encode(line.repeat(side)), encode(line.repeat_interleave(side))], 1).float()


def modulate(x, shift, scale):
    """Layer norm, then shift and scale of each picture. x [B, T, N, D], the others [B, D]."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None, None]) + shift[:, None, None]


def attend(q, k, v):
    """softmax(q k^T / sqrt(d)) v of [..., N, d]."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(q, k, v)
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) @ v


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x):
        b, t, n, d = x.shape
        qkv = self.qkv(x).view(b * t, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(attend(*qkv).transpose(1, 2).reshape(b, t, n, d))


class Mlp(nn.Module):
    def __init__(self, hidden, ratio):
        super().__init__()
        self.fc1 = nn.Linear(hidden, ratio * hidden)
        self.fc2 = nn.Linear(ratio * hidden, hidden)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def modulation(hidden, parts):
    return nn.Sequential(nn.SiLU(), nn.Linear(hidden, parts * hidden))


class Block(nn.Module):
    def __init__(self, hidden, heads, ratio):
        super().__init__()
        self.attn = Attention(hidden, heads)
        self.mlp = Mlp(hidden, ratio)
        self.adaLN_modulation = modulation(hidden, 6)

    def forward(self, x, c):
        """x [B, T, N, D] and the conditioning c [B, D] -> [B, T, N, D]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, 1)
        x = x + gate1[:, None, None] * self.attn(modulate(x, shift1, scale1))
        return x + gate2[:, None, None] * self.mlp(modulate(x, shift2, scale2))


class FinalLayer(nn.Module):
    def __init__(self, hidden, outputs):
        super().__init__()
        self.linear = nn.Linear(hidden, outputs)
        self.adaLN_modulation = modulation(hidden, 2)

    def forward(self, x, c):
        shift, scale = self.adaLN_modulation(c).chunk(2, 1)
        return self.linear(modulate(x, shift, scale))


class PatchEmbedder(nn.Module):
    def __init__(self, inputs, hidden, patch):
        super().__init__()
        self.proj = nn.Conv2d(inputs, hidden, patch, patch)

    def forward(self, patches):
        """The convolution as the product it is, of patches [..., inputs*p*p]."""
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


# ---- pictures as tiles of tokens ----

def to_tokens(z, tile, p):
    """z [B, C, H, W] cut into tiles of `tile` (h, w) and patches of p -> [B, T, N, C*p*p]."""
    b, c, height, width = z.shape
    h, w = tile
    z = z.reshape(b, c, height // h, h // p, p, width // w, w // p, p).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return z.reshape(b, (height // h) * (width // w), (h // p) * (w // p), c * p * p)


def to_picture(x, size, tile, p):
    """The way back, from [B, T, N, p*p*C] to [B, C, H, W] of `size` (H, W)."""
    (height, width), (h, w) = size, tile
    b, c = x.shape[0], x.shape[-1] // (p * p)
    x = x.reshape(b, height // h, width // w, h // p, w // p, p, p, c).permute(0, 7, 1, 3, 5, 2, 4, 6)
    return x.reshape(b, c, height, width)


def window_offsets(length, size):
    """Where overlapping windows begin: evenly spread, at most size/2 apart, from 0 to length - size."""
    if length == size:
        return [0]
    n = -(-(length - size) // (size // 2))
    return [(i * (length - size) + n // 2) // n for i in range(n + 1)]


def ramp(size, windows, like):
    """Weight of a window's pixels along a side: a triangle, or all the same for a single one."""
    i = torch.arange(size, dtype=torch.float32, device=like.device)
    return torch.minimum(i + 1, size - i) if windows > 1 else torch.ones_like(i)


def blend(pieces, places, size, weight):
    """The weighted mean of pieces [B, C, h, w] that lie at `places` (y, x) of a picture of `size`."""
    b, c, h, w = pieces[0].shape
    total = pieces[0].new_zeros(b, c, *size, dtype=torch.float32)
    share = weight.new_zeros(size)
    for piece, (y, x) in zip(pieces, places):
        total[:, :, y:y + h, x:x + w] += piece * weight
        share[y:y + h, x:x + w] += weight
    return total / share


class Brick(nn.Module):
    """Full-resolution picture in, full-resolution picture out; what runs in between sees one tile at a time.

    A local brick tiles the picture. The global one, whose tile is the training size, covers a larger picture by
    overlapping windows. In a smaller picture both shrink to it, and with them the position table.
    """

    def __init__(self, shape, inputs, network):
        super().__init__()
        hidden, self.is_global = network["hidden_size"], shape["size"] == network["image_size"]
        self.size, self.patch = shape["size"], shape["patch"]
        self.x_embedder = PatchEmbedder(inputs, hidden, self.patch)
        self.blocks = nn.ModuleList(Block(hidden, network["num_heads"], network["mlp_ratio"])
                                    for _ in range(shape["depth"]))
        self.final_layer = FinalLayer(hidden, self.patch ** 2 * network["channels"])
        self.register_buffer("positions", position_table(hidden, self.size // self.patch), persistent=False)

    def run_tiles(self, patches, tile, c):
        """[B, T, N, inputs*p*p] -> [B, T, N, p*p*C]."""
        side = self.size // self.patch
        rows, columns = (length // self.patch for length in tile)
        place = self.positions.view(side, side, -1)[:rows, :columns].reshape(rows * columns, -1)
        x = self.x_embedder(patches) + place
        for block in self.blocks:
            x = block(x, c)
        return self.final_layer(x, c)

    def forward(self, z, c):
        """z [B, inputs, H, W], c [B, D] -> [B, C, H, W]."""
        size, p = tuple(z.shape[2:]), self.patch
        tile = tuple(min(self.size, side) for side in size)
        if not self.is_global or tile == size:
            return to_picture(self.run_tiles(to_tokens(z, tile, p), tile, c), size, tile, p)
        ys, xs = (window_offsets(side, t) for side, t in zip(size, tile))
        places = [(y, x) for y in ys for x in xs]
        windows = [to_tokens(z[:, :, y:y + tile[0], x:x + tile[1]], tile, p) for y, x in places]
        out = self.run_tiles(torch.cat(windows, 1), tile, c)
        pieces = [to_picture(out[:, i:i + 1], tile, tile, p) for i in range(len(places))]
        weight = ramp(tile[0], len(ys), z)[:, None] * ramp(tile[1], len(xs), z)
        return blend(pieces, places, size, weight)


class TimeEmbedder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_FEATURES, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        half = TIME_FEATURES // 2
        self.register_buffer("frequencies", (1 / 10000) ** (torch.arange(half).float() / half), persistent=False)

    def forward(self, c_noise):
        angle = c_noise[:, None].float() * self.frequencies
        return self.mlp(torch.cat([angle.cos(), angle.sin()], 1))


class ClassEmbedder(nn.Module):
    def __init__(self, classes, hidden):
        super().__init__()
        self.embedding_table = nn.Linear(classes, hidden)

    def forward(self, onehot):
        return self.embedding_table(onehot)


class Lego(nn.Module):
    """The whole stack; `network` is what a model file's metadata "lego" says."""

    def __init__(self, network):
        super().__init__()
        hidden, channels = network["hidden_size"], network["channels"]
        self.network = network
        self.model = nn.ModuleList(Brick(shape, (2 if k else 1) * channels + 2, network)
                                   for k, shape in enumerate(network["bricks"]))
        self.t_embedder = TimeEmbedder(hidden)
        self.y_embedder = ClassEmbedder(network["num_classes"], hidden) if network["num_classes"] else None
        self.initialise()

    def initialise(self):
        """As in DiT: Xavier, and zeros where a block or brick joins the stream, so each begins as nothing."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.view(module.weight.shape[0], -1))
                nn.init.zeros_(module.bias)
        for brick in self.model:
            for layer in [b.adaLN_modulation[1] for b in brick.blocks] + [
                    brick.final_layer.adaLN_modulation[1], brick.final_layer.linear]:
                nn.init.zeros_(layer.weight)
        tables = [self.y_embedder.embedding_table] if self.y_embedder else []
        for layer in [self.t_embedder.mlp[0], self.t_embedder.mlp[2], *tables]:
            nn.init.normal_(layer.weight, std=0.02)

    def forward(self, x, c_noise, onehot, places, mask, shifts):
        """The output of every brick that runs, in order: a list of [B, C, H, W].

        x [B, C, H, W] scaled noisy pictures, c_noise [B], onehot [B, classes] (a row of zeros: no class), places
        [B, 2, H, W] coordinates, mask[k]: does brick k run, shifts[k] = (dy, dx): how far the picture is rolled
        under its grid.
        """
        c = self.t_embedder(c_noise)
        if self.y_embedder is not None:
            c = c + self.y_embedder(onehot)
        below, outputs, seen = torch.zeros_like(x), [], torch.cat([x, places], 1)
        for k, brick in enumerate(self.model):
            if not mask[k]:
                continue
            z, (dy, dx) = (torch.cat([below, seen], 1) if k else seen), shifts[k]
            below = brick(z.roll((dy, dx), (2, 3)), c).roll((-dy, -dx), (2, 3)) if dy or dx else brick(z, c)
            outputs.append(below)
        return outputs


def parameter_count(model):
    return sum(parameter.numel() for parameter in model.parameters())
