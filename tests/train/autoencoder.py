"""The decoder of Stable Diffusion's autoencoder in plain PyTorch, with diffusers' names, as the reference of tests."""
import kit  # noqa: F401
import torch
from torch import nn
from torch.nn import functional


class Resnet(nn.Module):
    def __init__(self, inputs, outputs, groups):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs, 1e-6), nn.GroupNorm(groups, outputs, 1e-6)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x):
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x) + h


class Attention(nn.Module):
    """One head over all pixels."""

    def __init__(self, channels, groups):
        super().__init__()
        self.group_norm = nn.GroupNorm(groups, channels, 1e-6)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x):
        rows = self.group_norm(x).flatten(2).transpose(1, 2)
        weights = self.to_q(rows) @ self.to_k(rows).transpose(1, 2) / x.shape[1] ** 0.5
        out = self.to_out[0](weights.softmax(-1) @ self.to_v(rows))
        return x + out.transpose(1, 2).reshape(x.shape)


class Mid(nn.Module):
    def __init__(self, channels, groups):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(channels, channels, groups) for _ in range(2)])
        self.attentions = nn.ModuleList([Attention(channels, groups)])

    def forward(self, x):
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Upsampler(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x):
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    def __init__(self, inputs, outputs, layers, groups, enlarges):
        super().__init__()
        self.resnets = nn.ModuleList([Resnet(outputs if i else inputs, outputs, groups) for i in range(layers)])
        if enlarges:
            self.upsamplers = nn.ModuleList([Upsampler(outputs)])

    def forward(self, x):
        for layer in [*self.resnets, *getattr(self, "upsamplers", [])]:
            x = layer(x)
        return x


class Decoder(nn.Module):
    def __init__(self, channels, layers, groups):
        super().__init__()
        top = [*reversed(channels)]
        self.conv_in = nn.Conv2d(4, top[0], 3, 1, 1)
        self.mid_block = Mid(top[0], groups)
        self.up_blocks = nn.ModuleList([Level(top[max(i - 1, 0)], top[i], layers, groups, i < 3) for i in range(4)])
        self.conv_norm_out = nn.GroupNorm(groups, top[3], 1e-6)
        self.conv_out = nn.Conv2d(top[3], 3, 3, 1, 1)

    def forward(self, x):
        x = self.mid_block(self.conv_in(x))
        for level in self.up_blocks:
            x = level(x)
        return self.conv_out(functional.silu(self.conv_norm_out(x)))


class Autoencoder(nn.Module):
    """Its half that decodes. `channels` from the picture's level up, as diffusers lists them."""

    def __init__(self, channels=(128, 256, 512, 512), layers=3, groups=32, scaling=0.18215):
        super().__init__()
        self.scaling = scaling
        self.post_quant_conv = nn.Conv2d(4, 4, 1)
        self.decoder = Decoder(channels, layers, groups)

    def forward(self, latent):
        return self.decoder(self.post_quant_conv(latent / self.scaling))


def randomise(net, seed):
    """Weights that keep the size of what goes through, so that every layer matters to the picture."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in net.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        if p.dim() > 1:
            p.data = noise / p[0].numel() ** 0.5
        else:
            p.data = noise * 0.1 + (1 if "norm" in name and name.endswith("weight") else 0)
    net.decoder.conv_out.weight.data *= 0.4
    return net.requires_grad_(False)


def rgb(picture):
    """Bytes [H, W, 3] of what a network says, [1, 3, H, W]."""
    return (picture[0] * 127.5 + 128).floor().clamp(0, 255).byte().permute(1, 2, 0).contiguous()
