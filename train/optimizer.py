"""Muon: momentum made orthogonal by Newton-Schulz steps (Keller Jordan, 2024), scaled to the size of Adam's
steps (Liu et al., arXiv 2502.16982). It moves the matrices inside the blocks; AdamW moves the rest."""
import math

import torch

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic whose iteration pulls singular values to about 1
ITERATIONS = 5


def orthogonal(g):
    """The nearest matrices with singular values of about 1. g [..., rows, columns]."""
    a, b, c = COEFFICIENTS
    x = g.bfloat16() if g.is_cuda else g
    tall = x.shape[-2] > x.shape[-1]
    x = x.transpose(-1, -2) if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        y = x @ x.transpose(-1, -2)
        x = a * x + (b * y + c * y @ y) @ x
    return (x.transpose(-1, -2) if tall else x).to(g.dtype)


def direction(g):
    """What Muon subtracts for momenta g [count, rows, columns]. A fused qkv is three square maps."""
    count, rows, columns = g.shape
    if rows == 3 * columns:
        g = g.reshape(3 * count, columns, columns)
    return (0.2 * math.sqrt(max(g.shape[1:])) * orthogonal(g)).reshape(count, rows, columns)


class Muon(torch.optim.Optimizer):
    """For matrices. One without a gradient (its brick did not run) stays as it is."""

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            shapes = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for alike in shapes.values():
                self.move(alike, group)

    def move(self, parameters, group):
        """Matrices of one shape go through the iteration together."""
        looks_ahead = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            looks_ahead.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
        for parameter, change in zip(parameters, direction(torch.stack(looks_ahead))):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-group["lr"])


def is_inner_matrix(name, parameter):
    return parameter.ndim == 2 and ".blocks." in name and "adaLN" not in name


def optimizers(net, recipe):
    """A list of optimizers that together move every parameter once."""
    named = list(net.named_parameters())
    inner = [p for n, p in named if recipe["optimizer"] == "muon" and is_inner_matrix(n, p)]
    taken = set(map(id, inner))
    rest = [p for _, p in named if id(p) not in taken]
    fused = {"fused": True} if rest[0].is_cuda else {}
    adam = torch.optim.AdamW(rest, lr=recipe["adam_lr"], betas=(0.9, 0.99), weight_decay=0.0, **fused)
    return [adam, Muon(inner, recipe["lr"])] if inner else [adam]
