"""Comparing sets of pictures by a small classifier trained on the same data.

Its features know what tells these classes apart and nothing else, so a distance over them ranks models of one data
set. It is no FID, which is over Inception's features, and is named for what it is.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from train import data, run

SIDE, FEATURES, BATCH = 32, 64, 64
EPOCHS, FEWEST_STEPS, RATE = 10, 100, 3e-3
NAME = "frechet_distance_own_classifier"


def small(x):
    """[B, C, SIDE, SIDE] of pictures of any size."""
    return data.show_whole(x, (SIDE, SIDE))


class Classifier(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
            for inputs, outputs in [(channels, 16), (16, 32), (32, FEATURES)])
        self.last = nn.Linear(FEATURES, classes)

    def features(self, x):
        """[B, FEATURES] of pictures [B, C, H, W]."""
        x = small(x)
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))
        return x.mean((2, 3))

    def forward(self, x):
        return self.last(self.features(x))


def learn(pictures, labels, classes, seed=0):
    """A classifier of pictures [N, C, H, W]."""
    torch.manual_seed(seed)
    model = Classifier(pictures.shape[1], classes).to(pictures.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    pictures = in_pieces(small, pictures)
    steps = max(FEWEST_STEPS, EPOCHS * len(pictures) // BATCH)
    for step in range(steps):
        at = torch.randint(len(pictures), (min(BATCH, len(pictures)),), generator=run.generator(seed, step))
        at = at.to(pictures.device)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(pictures[at]), labels[at]).backward()
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        optimizer.step()
    return model.eval()


@torch.no_grad()
def in_pieces(function, pictures):
    return torch.cat([function(piece) for piece in pictures.split(256)])


def accuracy(model, pictures, labels):
    return float((in_pieces(model, pictures).argmax(1) == labels).float().mean())


def frechet(a, b):
    """Frechet distance of the normal distributions that fit features a [N, D] and b [M, D]."""
    a, b = (x.double().cpu().numpy() for x in (a, b))
    means = np.sum((a.mean(0) - b.mean(0)) ** 2)
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.clip(np.linalg.eigvals(covariances[0] @ covariances[1]).real, 0, None))
    return float(means + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * roots.sum())
