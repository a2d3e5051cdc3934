"""What prepare wrote, cut into batches.

A picture is shown in one of two ways. Whole: its canvas scaled to cover the size asked for and cut at the centre,
with coordinates from -1 to 1. As a window: a piece of the canvas as it is, at a random place, with the
coordinates of that place; so the network learns what it is asked for when a larger picture is covered by windows.
"""
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from train import diffusion, files
from train.prepare import DESCRIPTION

SPLIT_SEED, MOST_HELD_OUT = 1, 1024


class Canvas:
    """Pictures of one size. pixels [N, H, W, C], on `device` if they are to stay there, else in the file."""

    def __init__(self, folder, width, height, device, resident):
        pixels = np.load(folder / f"pixels-{width}x{height}.npy", mmap_mode=None if resident else "r")
        self.pixels = torch.from_numpy(pixels).to(device) if resident else pixels
        self.labels = torch.from_numpy(np.load(folder / f"labels-{width}x{height}.npy")).to(device)
        self.size, self.device = (height, width), device

    def split(self, share):
        """Set aside a share of the pictures, at least one if that leaves one: `train` and `held_out`."""
        count = len(self.labels)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
        held = min(MOST_HELD_OUT, max(1, int(count * share)), count - 1)
        self.held_out, self.train = order[:held], order[held:]

    def take(self, index):
        """[B, C, H, W] of -1 to 1 (bytes; other numbers are what they are). index [B] on the CPU."""
        if torch.is_tensor(self.pixels):
            x = self.pixels[index.to(self.device)]
        else:
            x = torch.from_numpy(self.pixels[index.numpy()]).to(self.device)
        x = x.permute(0, 3, 1, 2)
        return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x.float()


class Dataset:
    """All canvases of a folder, split into pictures to learn from and pictures held out."""

    def __init__(self, folder, device, held_out=0.05, resident=True):
        folder = pathlib.Path(folder)
        self.description = files.read_json(folder / DESCRIPTION)
        self.canvases = [Canvas(folder, c["width"], c["height"], device, resident)
                         for c in self.description["canvases"]]
        for canvas in self.canvases:
            canvas.split(held_out)
        if not any(len(canvas.held_out) for canvas in self.canvases):
            raise ValueError(f"{folder} has too few pictures to hold one out")
        self.shares = torch.tensor([float(len(c.train)) for c in self.canvases])

    def held_out(self, size, most=MOST_HELD_OUT):
        """(pictures [N, C, h, w], labels [N]) shown whole, none of which is trained on."""
        return self._whole("held_out", size, most)

    def training(self, size, most=10**9):
        return self._whole("train", size, most)

    def _whole(self, part, size, most):
        parts = [(canvas, index) for canvas in self.canvases if len(index := getattr(canvas, part))]
        share = min(1, most / sum(len(index) for _, index in parts))
        parts = [(canvas, index[:max(1, int(len(index) * share))]) for canvas, index in parts]
        pictures = [show_whole(canvas.take(index), size) for canvas, index in parts]
        labels = [canvas.labels[index.to(canvas.device)] for canvas, index in parts]
        return torch.cat(pictures), torch.cat(labels)


def show_whole(x, size):
    """[B, C, H, W] scaled to cover `size` (h, w), and cut at the centre."""
    scale = max(size[0] / x.shape[2], size[1] / x.shape[3])
    scaled = tuple(max(wanted, round(side * scale)) for wanted, side in zip(size, x.shape[2:]))
    if scaled != tuple(x.shape[2:]):
        x = F.interpolate(x, scaled, mode="bilinear", antialias=True, align_corners=False)
    top, left = ((side - wanted) // 2 for side, wanted in zip(scaled, size))
    return x[:, :, top:top + size[0], left:left + size[1]]


def show_windows(x, size, generator):
    """Pieces of `size` at random places, and their boxes [B, 4] as diffusion.coordinates() takes them."""
    (height, width), (h, w), count = x.shape[2:], size, len(x)
    top = torch.randint(height - h + 1, (count,), generator=generator)
    left = torch.randint(width - w + 1, (count,), generator=generator)
    rows, columns = top[:, None] + torch.arange(h), left[:, None] + torch.arange(w)
    at = (torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :])
    pieces = x.permute(0, 2, 3, 1)[tuple(one.to(x.device) for one in at)].permute(0, 3, 1, 2)

    def place(pixel, side):
        return pixel.float() / max(side - 1, 1) * 2 - 1
    boxes = torch.stack([place(top, height), place(top + h - 1, height),
                         place(left, width), place(left + w - 1, width)], 1)
    return pieces, boxes.to(x.device)


def show(x, size, windows, generator):
    """(pictures [B, C, h, w], coordinates [B, 2, h, w]), a share of them windows where the canvas is larger."""
    pictures, places = show_whole(x, size), diffusion.whole(len(x), size, x.device)
    larger = x.shape[2] >= size[0] and x.shape[3] >= size[1] and tuple(x.shape[2:]) != tuple(size)
    if not windows or not larger:
        return pictures, places
    pieces, boxes = show_windows(x, size, generator)
    chosen = (torch.rand(len(x), generator=generator) < windows).to(x.device)[:, None, None, None]
    return (torch.where(chosen, pieces, pictures),
            torch.where(chosen, diffusion.coordinates(boxes, size), places))


def draw(dataset, size, count, recipe, generator):
    """A batch: pictures, coordinates, one-hot classes, some of them dropped. `generator` (CPU) decides all."""
    at = int(torch.multinomial(dataset.shares, 1, generator=generator))
    canvas = dataset.canvases[at]
    index = canvas.train[torch.randint(len(canvas.train), (count,), generator=generator)]
    pictures, places = show(canvas.take(index), size, recipe["windows"], generator)
    if recipe["flip"]:
        flipped = (torch.rand(count, generator=generator) < 0.5).to(canvas.device)[:, None, None, None]
        pictures = torch.where(flipped, pictures.flip(3), pictures)
    dropped = torch.rand(count, generator=generator) < recipe["label_drop"]
    labels = canvas.labels[index.to(canvas.device)].masked_fill(dropped.to(canvas.device), -1)
    return pictures, places, diffusion.one_hot(labels, len(dataset.description["classes"]))
