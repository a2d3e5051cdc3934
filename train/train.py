"""Train what a configuration describes.

    python3 -m train train CONFIG.json --data DATA --out RUN [--resume]
    torchrun --nproc_per_node 8 -m train train CONFIG.json --data DATA --out RUN

RUN gets run.json (recipe and network), log.jsonl (a line for each report) and checkpoint.pt. SIGTERM and SIGINT end
a run after the step, with a checkpoint, and exit status 3; --resume goes on from it as if nothing had happened.
"""
import argparse
import pathlib

import torch

from train import config, network, run
from train.data import Dataset

NOT_OVER = 3  # exit status: the budget is not spent, --resume goes on


def train(recipe, data, out, resume=False, steps=None):
    """Train in this process (or as one of torchrun's). Returns the run and whether its budget is spent."""
    team = run.Team()
    torch.set_float32_matmul_precision("high")
    dataset = Dataset(data, team.device, recipe["held_out"], recipe["resident"])
    shape = config.network_of(recipe, dataset.description)
    about = {"data": str(pathlib.Path(data).resolve()), "license": dataset.description["license"],
             "source": dataset.description["source"]}
    one = run.start(recipe, shape, about, dataset, pathlib.Path(out), team, resume)
    if team.rank == 0:
        print(f"{shape['name']}: {network.parameter_count(one.net) / 1e6:.2f} million parameters, "
              f"{int(dataset.shares.sum())} pictures, {team.count} x {team.device.type}, from step {one.done}")
    if recipe["compile"] and team.device.type == "cuda":
        for brick in one.net.model:  # one graph for each serves every mask
            brick.forward = torch.compile(brick.forward)
        one.warm_up()
    over = run.drive(one, pathlib.Path(out), steps)
    team.leave()
    return one, over


def main(arguments):
    parser = argparse.ArgumentParser(prog="train train", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="what prepare wrote")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the run's folder")
    parser.add_argument("--resume", action="store_true", help="go on from RUN's checkpoint if there is one")
    parser.add_argument("--steps", type=int, help="at most so many steps now")
    options = parser.parse_args(arguments)
    _, over = train(config.read(options.config), options.data, options.out, options.resume, options.steps)
    return 0 if over else NOT_OVER
