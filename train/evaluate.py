"""What a run has learnt, from its averaged weights.

    python3 -m train evaluate RUN [--pictures 512] [--part NAME ...]

RUN gets evaluation.json, which export and plot read, and pictures to look at:
    skip_loss     held-out loss of every mask of bricks at every noise level; the service's presets come from it
    samples       samples.png: a row for each class
    neighbours    is a generated picture nearer to a training picture than pictures held out are?
                  neighbours.png: generated, and its nearest beside it, the nearest pairs first
    features      distances over the features of a classifier trained on the same data, not FID
"""
import argparse
import pathlib

import numpy as np
import torch
from PIL import Image

from train import data, diffusion, features, files, network, run

SIGMAS = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 40.0, 80.0]
RESULTS = "evaluation.json"
NEIGHBOUR_SIDE = 32  # pictures are compared at this size, so that noise and grain do not count
NEAR_SHARE = 0.01    # as near as the nearest of so many pictures held out: suspicious
MOST_TRAINING = 50_000  # training pictures compared with; all of them lie in memory as floats
PIECE, ROW, MOST_ROWS = 64, 8, 16


def load(folder, device=None):
    """(averaged network, what run.json says, the data set) of a run."""
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    about = files.read_json(pathlib.Path(folder) / run.ABOUT)
    net = network.Lego(about["network"]).to(device).requires_grad_(False)
    net.load_state_dict(run.load_checkpoint(folder, device)["ema"])
    dataset = data.Dataset(about["data"], device, about["recipe"]["held_out"], about["recipe"]["resident"])
    return net.eval(), about, dataset


# ---- losses ----

def skip_loss(net, recipe, dataset, sigmas=SIGMAS, most=data.MOST_HELD_OUT):
    """The metadata "lego_skip_loss": loss[i][j] of masks bricks[j] at noise level sigma[i]."""
    masks = diffusion.all_masks(len(net.model))
    still = diffusion.local_shifts(net.network, lambda _: (0, 0))
    bf16 = recipe["bf16"] and next(net.parameters()).is_cuda
    table = [[float(f"{run.held_out_loss(net, dataset, recipe, mask, still, sigma, most, bf16)[-1]:.4g}")
              for mask in masks] for sigma in sigmas]
    return {"sigma": sigmas, "bricks": [diffusion.mask_text(mask) for mask in masks], "loss": table}


# ---- pictures ----

def generate(net, labels, seed=0, **how):
    """Pictures [N, C, side, side] of those labels."""
    shape, device = net.network, next(net.parameters()).device
    made = []
    for i, piece in enumerate(labels.to(device).split(PIECE)):
        noise = torch.randn(len(piece), shape["channels"], shape["image_size"], shape["image_size"],
                            generator=run.generator(seed, i))
        made.append(diffusion.sample(net, noise.to(device), piece, **how))
    return torch.cat(made)


def grid(pictures, columns):
    """An image of pictures [N, C, H, W] in rows; what does not show as RGB shows its first channel in grey."""
    tiles = diffusion.to_bytes(pictures)
    tiles = tiles if tiles.shape[3] == 3 else np.repeat(tiles[:, :, :, :1], 3, 3)
    rows, (height, width) = -(-len(tiles) // columns), tiles.shape[1:3]
    sheet = np.full((rows * height, columns * width, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // columns * height, i % columns * width
        sheet[y:y + height, x:x + width] = tile
    return Image.fromarray(sheet)


def samples(net, out):
    """A row for each class, or one row of pictures without class."""
    classes = min(net.network["num_classes"], MOST_ROWS)
    labels = torch.arange(classes).repeat_interleave(ROW) if classes else torch.full((ROW,), -1)
    pictures = generate(net, labels)
    grid(pictures, ROW).save(out / "samples.png")
    return {"file": "samples.png", "rows": net.network["classes"][:classes]}


# ---- memorised pictures ----

def nearest(pictures, others):
    """(distance, index) of each picture's nearest of `others`, mirrored or not; root mean squares."""
    def flat(x):
        return data.show_whole(x, (NEIGHBOUR_SIDE, NEIGHBOUR_SIDE)).flatten(1)
    wanted = flat(pictures)
    distances = [torch.cat([torch.cdist(wanted, flat(way)) for way in (piece, piece.flip(3))]).view(2, len(wanted), -1)
                 .amin(0) for piece in others.split(1024)]
    best = torch.cat(distances, 1).min(1)
    return best.values / wanted.shape[1] ** 0.5, best.indices


def neighbours(generated, training, held_out, out):
    """How near generated pictures come to training pictures, against how near pictures held out come."""
    distance, index = nearest(generated, training)
    usual = nearest(held_out, training)[0]
    suspicious = torch.quantile(usual, NEAR_SHARE)
    order = distance.argsort()[:4 * ROW]
    pairs = torch.stack([generated[order], training[index[order]]], 1).flatten(0, 1)
    grid(pairs, 2 * ROW).save(out / "neighbours.png")
    return {"file": "neighbours.png", "median_generated": float(distance.median()),
            "median_held_out": float(usual.median()),
            "threshold": float(suspicious), "share_below_threshold": float((distance < suspicious).float().mean()),
            "share_expected": NEAR_SHARE}


# ---- distances over features ----

def distances(generated, labels, training, held_out, classes):
    """Frechet distances over the features of a classifier of these classes; needs at least two."""
    if classes < 2:
        return {"left_out": "needs at least two classes"}
    model = features.learn(*training, classes)
    made, seen, unseen = (features.in_pieces(model.features, x) for x in (generated, training[0], held_out[0]))
    count = min(len(made), len(seen))  # of both: a distance depends on how many pictures it is estimated from
    some = torch.randperm(len(seen), generator=run.generator(0, 1))[:count].to(seen.device)
    return {features.NAME: features.frechet(made[:count], unseen),
            "the_same_of_training_pictures": features.frechet(seen[some], unseen),
            "pictures": [count, len(unseen)],
            "classifier_accuracy_held_out": features.accuracy(model, *held_out),
            "classifier_accuracy_generated": features.accuracy(model, generated, labels)}


def evaluate(folder, pictures=512, parts=("skip_loss", "samples", "neighbours", "features")):
    """Compute those parts, and replace them in evaluation.json. Returns all of it."""
    folder = pathlib.Path(folder)
    net, about, dataset = load(folder)
    path, classes, side = folder / RESULTS, net.network["num_classes"], net.network["image_size"]
    results = files.read_json(path) if path.exists() else {}
    if "skip_loss" in parts:
        results["skip_loss"] = skip_loss(net, about["recipe"], dataset)
    if "samples" in parts:
        results["samples"] = samples(net, folder)
    if {"neighbours", "features"} & set(parts):
        training, held_out = dataset.training((side, side), MOST_TRAINING), dataset.held_out((side, side))
        # As many of each class as the data have, so that the sets differ in nothing but who made them.
        at = torch.randint(len(training[1]), (pictures,), generator=run.generator(0, 0))
        labels = training[1][at.to(training[1].device)] if classes else torch.full((pictures,), -1)
        generated = generate(net, labels, seed=1, guidance=1)
    if "neighbours" in parts:
        results["neighbours"] = neighbours(generated, training[0], held_out[0], folder)
    if "features" in parts:
        results["features"] = distances(generated, labels, training, held_out, classes)
    files.write_json(path, results)
    return results


def main(arguments):
    parser = argparse.ArgumentParser(prog="train evaluate", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ["skip_loss", "samples", "neighbours", "features"]
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--pictures", type=int, default=512, help="generated for comparisons")
    parser.add_argument("--part", choices=parts, action="append", help="only this; may be repeated")
    options = parser.parse_args(arguments)
    results = evaluate(options.run, options.pictures, options.part or parts)
    for part in ("neighbours", "features"):
        for name, value in results.get(part, {}).items():
            print(f"{part}: {name} {value}")
