"""A run as diagrams, each as SVG and PNG in its folder.

    python3 -m train plot RUN [--steps 20]

    loss       training and held-out loss (of log.jsonl); a line for every brick's output
    masks      excess loss of every mask of bricks at every noise level (of evaluation.json)
    frontier   excess loss against work left out, over a picture of `--steps` steps, if at each step the mask is taken
               that is best at an exchange rate; work is counted in multiplications
"""
import argparse
import json
import pathlib

import numpy as np

from train import chart, diffusion, evaluate, files, run

RATES = [0.0, *(10.0 ** (i / 8) for i in range(-32, 9))]  # exchange rates between loss and work
DARK = 0.5  # the excess loss that a cell of the heat map is darkest at


def brick_work(network, brick):
    """Multiplications of one brick for one picture of the training size, to within a few percent."""
    hidden, tokens = network["hidden_size"], (brick["size"] // brick["patch"]) ** 2
    tiles = (network["image_size"] // brick["size"]) ** 2
    products = (4 + 2 * network["mlp_ratio"]) * hidden ** 2
    return tiles * tokens * brick["depth"] * (products + 2 * tokens * hidden)


def mask_work(network, masks):
    """The share of all bricks' work that each mask ("101") does."""
    work = np.array([brick_work(network, b) for b in network["bricks"]], float)
    return np.array([sum(work[k] for k, runs in enumerate(mask) if runs == "1") for mask in masks]) / work.sum()


def excess(table):
    """loss(mask) / loss(all) - 1. [sigmas, masks]"""
    loss = np.array(table["loss"])
    everything = table["bricks"].index("1" * len(table["bricks"][0]))
    return loss / loss[:, everything:everything + 1] - 1


def frontier(network, table, steps=20, rates=RATES):
    """[(share of work left out, mean excess loss)] for every exchange rate."""
    levels = np.log(diffusion.noise_levels(steps)[:-1])
    known = excess(table)
    losses = np.stack([np.interp(levels, np.log(table["sigma"]), column) for column in known.T], 1)
    work = mask_work(network, table["bricks"])
    points = []
    for rate in rates:
        chosen = np.argmin(losses + rate * work, 1)
        points.append((float(1 - work[chosen].mean()), float(losses[np.arange(steps), chosen].mean())))
    return sorted(set(points))


# ---- the three ----

def plot_loss(folder, out):
    log = (folder / run.LOG).read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in log]
    series = {"training": [(one["step"], one["loss"]) for one in lines if one["loss"]]}
    for k in range(len(lines[0]["held_out"])):
        series[f"held out, brick {k}"] = [(one["step"], one["held_out"][k]) for one in lines]
    shapes = chart.curves("Loss, weighted as in training", "step", "loss", {k: v for k, v in series.items() if v},
                          (False, True))
    chart.write(out / "loss", shapes)


def plot_masks(table, out):
    title, levels = "Excess loss in percent: noise level by bricks that run", list(map(str, table["sigma"]))
    shapes, size = chart.heat_map(title, levels, table["bricks"], excess(table).tolist(), DARK)
    chart.write(out / "masks", shapes, size)


def plot_frontier(network, table, steps, out):
    points = [(100 * left_out, 100 * more) for left_out, more in frontier(network, table, steps)]
    chart.write(out / "frontier", chart.curves(f"What skipping costs, {steps} steps", "work left out, %",
                                               "mean excess loss, %", {"best masks": points}))


def plot(folder, steps=20):
    """Returns the names of what was drawn."""
    folder = pathlib.Path(folder)
    plot_loss(folder, folder)
    results = folder / evaluate.RESULTS
    table = files.read_json(results).get("skip_loss") if results.exists() else None
    if not table:
        return ["loss"]
    plot_masks(table, folder)
    plot_frontier(files.read_json(folder / run.ABOUT)["network"], table, steps, folder)
    return ["loss", "masks", "frontier"]


def main(arguments):
    parser = argparse.ArgumentParser(prog="train plot", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=20, help="of the frontier's picture")
    options = parser.parse_args(arguments)
    for name in plot(options.run, options.steps):
        print(f"{options.run}/{name}.svg, .png")
