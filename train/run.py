"""A run: its state, its steps, its checkpoints, alone or as one of several processes.

A step's batch is cut into pieces of micro_batch pictures. What is drawn for a piece depends on (seed, step, piece)
alone; processes share the pieces out and add up gradients. So a resumed run draws what an uninterrupted one
would, and the number of GPUs changes who computes a piece and nothing else.
"""
import collections
import copy
import json
import math
import os
import pathlib
import signal
import time

import numpy as np
import torch
import torch.distributed as dist

from train import data, diffusion, files, network, optimizer

CHECKPOINT, LOG, ABOUT = "checkpoint.pt", "log.jsonl", "run.json"
HELD_OUT_SEED, LOWEST_RATE = 2, 0.02
AGREE_STEPS = 10  # how often several processes hear from the first one what time it is
# What a resumed run may do otherwise: where its budget ends, and how the machine is used.
MAY_CHANGE = {"images", "seconds", "compile", "resident", "report_steps", "checkpoint_steps"}
PLAIN = ("done", "seconds", "stage", "stage_began", "loss_steps")  # of a Run's state

Plan = collections.namedtuple("Plan", "size mask shifts")  # what all pieces of a step have in common


# ---- processes ----

class Team:
    """The processes of a run: torchrun's if there are any, or this one alone."""

    def __init__(self):
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if cuda else torch.device("cpu")
        if cuda:
            torch.cuda.set_device(self.device)
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo")

    def add_up(self, tensors):
        """Replace each tensor by its sum over all processes, in one message."""
        if self.count > 1:
            flat = torch.cat([t.flatten() for t in tensors])
            dist.all_reduce(flat)
            for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors])):
                tensor.copy_(total.view_as(tensor))

    def agree(self, *numbers):
        """What the first process says these are."""
        if self.count == 1:
            return numbers
        said = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.broadcast(said, 0)
        return tuple(said.tolist())

    def leave(self):
        if self.count > 1:
            dist.destroy_process_group()


# ---- what a step is, as pure functions ----

def generator(seed, step, piece=None):
    """Random numbers for a step's plan, or for one of its pieces."""
    state = np.random.SeedSequence([seed, step, 0 if piece is None else piece + 1]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def pick(choices, dice):
    return choices[int(torch.randint(len(choices), (1,), generator=dice))]


def chance(share, dice):
    return float(torch.rand(1, generator=dice)) < share


def plan(recipe, net, step, stage=None):
    """Size, mask and shifts of a step. `stage` is the brick whose turn it is, if they are trained one after
    another: it is the last to run."""
    dice = generator(recipe["seed"], step)
    side, count = net["image_size"], len(net["bricks"])
    width, height = pick(recipe["sizes"] or [[side, side]], dice)
    top = count - 1 if stage is None else stage
    masks = [m for m in diffusion.all_masks(count) if not any(m[top + 1:]) and (stage is None or m[stage])]
    partial = len(masks) > 1 and chance(recipe["partial"], dice)
    mask = pick(masks[:-1], dice) if partial else masks[-1]
    shifts = diffusion.local_shifts(net, lambda size: (
        pick(range(size), dice), pick(range(size), dice)) if chance(recipe["shifted"], dice) else (0, 0))
    return Plan((height, width), mask, shifts)


def rate(recipe, fraction, steps):
    """What learning rates are multiplied with when that fraction of the budget is spent: up, level, down."""
    return min(1, (steps + 1) / recipe["warmup"]) * min(1, max(LOWEST_RATE, (1 - fraction) / recipe["decay"]))


def levels(recipe, count, dice):
    """Noise levels to train at. [count]"""
    return torch.exp(torch.randn(count, generator=dice) * recipe["noise_std"] + recipe["noise_mean"])


def combined(outputs, early_weight):
    """The loss of a piece: the last brick's, and the earlier ones' by their weight, so that they stay exits."""
    last, early = outputs[-1].mean(), [o.mean() for o in outputs[:-1]]
    return last + early_weight * sum(early) / len(early) if early else last


class Run:
    """State of a run on this process; step() moves it on by one batch."""

    def __init__(self, recipe, dataset, shape, team):
        self.recipe, self.dataset, self.shape, self.team = recipe, dataset, shape, team
        torch.manual_seed(recipe["seed"])
        self.net = network.Lego(shape).to(team.device)
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.optimizers = optimizer.optimizers(self.net, recipe)
        self.base_rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.bf16 = recipe["bf16"] and team.device.type == "cuda"
        self.micro = recipe["micro_batch"] or recipe["batch"]
        self.pieces = recipe["batch"] // self.micro
        if self.pieces % team.count:
            raise ValueError(f"{self.pieces} pieces (batch / micro_batch) cannot be shared by {team.count} processes")
        self.done = self.seconds = 0  # steps, and time they took
        self.stage, self.stage_began = None, 0
        self.asked_to_stop = False  # this process, by a signal
        self.loss_sum, self.loss_steps = torch.zeros((), device=team.device), 0

    # -- progress --

    @property
    def images(self):
        return self.done * self.recipe["batch"]

    def fraction(self):
        """How much of the budget is spent."""
        if self.recipe["images"]:
            return self.images / self.recipe["images"]
        return self.seconds / self.recipe["seconds"]

    def enter_stage(self):
        """Bricks in turn: each gets an equal share of the budget, learns alone, and is left as it is then. The
        conditioning, which all share, is learnt with the first. Returns the fraction of the stage spent."""
        if self.recipe["training"] == "joint":
            return self.fraction()
        stages = len(self.net.model)
        stage = min(int(self.fraction() * stages), stages - 1)
        if stage != self.stage:
            self.stage, self.stage_began = stage, self.done
        self.net.requires_grad_(False)
        self.net.model[stage].requires_grad_(True)
        for shared in [self.net.t_embedder, self.net.y_embedder]:
            if shared is not None:
                shared.requires_grad_(stage == 0)
        return self.fraction() * stages - stage

    # -- one step --

    def piece_loss(self, what, step, piece):
        """[bricks that run] lists of losses [micro] of one piece."""
        dice = generator(self.recipe["seed"], step, piece)
        x, places, onehot = data.draw(self.dataset, what.size, self.micro, self.recipe, dice)
        sigma = levels(self.recipe, self.micro, dice)
        device_dice = torch.Generator(x.device).manual_seed(dice.initial_seed())
        noise = torch.randn(x.shape, generator=device_dice, device=x.device)
        return diffusion.losses(self.net, x, sigma.to(x.device), noise, onehot, places, what.mask, what.shifts,
                                bf16=self.bf16)

    def step(self):
        """Train on one batch."""
        multiple = rate(self.recipe, self.enter_stage(), self.done - self.stage_began)
        what, total = plan(self.recipe, self.shape, self.done, self.stage), torch.zeros_like(self.loss_sum)
        for piece in range(self.team.rank, self.pieces, self.team.count):
            outputs = self.piece_loss(what, self.done, piece)
            (combined(outputs, self.recipe["early_weight"]) / self.pieces).backward()
            total += outputs[-1].detach().mean() / self.pieces
        moved = [p for p in self.net.parameters() if p.grad is not None]
        self.team.add_up([p.grad for p in moved] + [total])
        torch.nn.utils.clip_grad_norm_(moved, self.recipe["clip"])
        for one, rates in zip(self.optimizers, self.base_rates):
            for group, base in zip(one.param_groups, rates):
                group["lr"] = base * multiple
            one.step()
            one.zero_grad(set_to_none=True)
        self.follow()
        self.done += 1
        self.loss_sum, self.loss_steps = self.loss_sum + total, self.loss_steps + 1

    @torch.no_grad()
    def follow(self):
        """The average follows the weights, at first quickly."""
        pace = max(self.recipe["ema"], 1 / (self.done / 10 + 10))
        averages, weights = list(self.ema.parameters()), list(self.net.parameters())
        torch._foreach_mul_(averages, 1 - pace)
        torch._foreach_add_(averages, weights, alpha=pace)

    def warm_up(self):
        """Let the compiler see every mask and size before the clock runs."""
        for size in self.recipe["sizes"] or [[self.shape["image_size"]] * 2]:
            for mask in diffusion.all_masks(len(self.net.model)):
                what = Plan((size[1], size[0]), mask, diffusion.local_shifts(self.shape, lambda _: (0, 0)))
                combined(self.piece_loss(what, 0, 0), 1).backward()
        self.net.zero_grad(set_to_none=True)

    # -- held out --

    def held_out(self, shift=lambda size: (0, 0)):
        """Mean loss of every brick's output on pictures never trained on, by the average of the weights."""
        what = diffusion.local_shifts(self.shape, shift)
        return held_out_loss(self.ema, self.dataset, self.recipe, [True] * len(self.net.model), what, bf16=self.bf16)

    # -- checkpoints --

    def save(self, folder):
        """Plain values go as text, because the loader below takes tensors and text alone. What optimizers have
        besides their tensors follows from the recipe."""
        plain = {name: getattr(self, name) for name in PLAIN}
        state = {"plain": json.dumps(plain), "loss_sum": self.loss_sum, "net": self.net.state_dict(),
                 "ema": self.ema.state_dict(), "optimizers": [o.state_dict()["state"] for o in self.optimizers]}
        with files.replacing(folder / CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def restore(self, folder):
        state = load_checkpoint(folder, self.team.device)
        for name, value in json.loads(state["plain"]).items():
            setattr(self, name, value)
        self.loss_sum = state["loss_sum"]
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        for one, saved in zip(self.optimizers, state["optimizers"]):
            one.load_state_dict({"state": saved, "param_groups": one.state_dict()["param_groups"]})


def load_checkpoint(folder, device):
    """Nothing in the file is run."""
    return torch.load(pathlib.Path(folder) / CHECKPOINT, map_location=device, weights_only=True)


@torch.no_grad()
def held_out_loss(net, dataset, recipe, mask, shifts, sigma=None, most=data.MOST_HELD_OUT, bf16=False):
    """Mean loss of every brick that runs, on pictures held out, always with the same noise: at the noise levels of
    training, or at `sigma`."""
    side = net.network["image_size"]
    x, labels = dataset.held_out((side, side), most)
    dice = torch.Generator().manual_seed(HELD_OUT_SEED)
    sigmas = levels(recipe, len(x), dice)
    sigmas = sigmas if sigma is None else torch.full((len(x),), float(sigma))
    noise = torch.randn(x.shape, generator=dice).to(x.device)
    onehot, total = diffusion.one_hot(labels, net.network["num_classes"]), 0
    for at in torch.arange(len(x), device=x.device).split(min(256, recipe["micro_batch"] or recipe["batch"])):
        places = diffusion.whole(len(at), (side, side), x.device)
        total = total + torch.stack(diffusion.losses(
            net, x[at], sigmas.to(x.device)[at], noise[at], onehot[at], places, mask, shifts, bf16=bf16)).sum(1)
    return [float(value) for value in total / len(x)]


# ---- the whole of it ----

def start(recipe, shape, about, dataset, folder, team, resume):
    """A new run in `folder`, or the one whose checkpoint lies there."""
    run = Run(recipe, dataset, shape, team)
    if (folder / CHECKPOINT).exists():
        if not resume:
            raise ValueError(f"{folder} holds a run; --resume goes on with it")
        before = files.read_json(folder / ABOUT)
        changed = sorted(k for k in recipe if recipe[k] != before["recipe"][k] and k not in MAY_CHANGE)
        if changed or before["network"] != shape:
            raise ValueError(f"{folder} is a run with another {', '.join(changed) or 'network'}")
        run.restore(folder)
    if team.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        cut_log(folder / LOG, run.done)
        files.write_json(folder / ABOUT, {**about, "recipe": recipe, "network": shape,
                                          "parameters": network.parameter_count(run.net)})
    return run


def cut_log(path, done):
    """Lines of steps that no checkpoint knows of go: they will be made again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and done else []
    kept = [line for line in lines if json.loads(line)["step"] <= done]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def report(run, folder):
    """A line of the log, and one to read."""
    line = {"step": run.done, "images": run.images, "seconds": round(run.seconds, 1),
            "images_per_s": round(run.images / run.seconds, 1) if run.seconds else None,
            "loss": float(run.loss_sum) / run.loss_steps if run.loss_steps else None,
            "held_out": run.held_out(), "held_out_shifted": run.held_out(lambda size: (size // 2, size // 2))}
    with open(folder / LOG, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    loss = "" if line["loss"] is None else f"loss {line['loss']:.4f}  "
    print(f"{100 * min(1, run.fraction()):5.1f} %  step {run.done}  {run.seconds:.0f} s  "
          f"{line['images_per_s'] or 0:.0f} pictures/s  {loss}held out {line['held_out'][-1]:.4f}", flush=True)


def reported(run, folder):
    """Report if this is the first process, and begin a new mean."""
    if run.team.rank == 0:
        report(run, folder)
    run.loss_sum, run.loss_steps = torch.zeros_like(run.loss_sum), 0


def listen(run):
    """SIGTERM and SIGINT: finish the step, write a checkpoint, leave."""
    def stop(*_):
        run.asked_to_stop = True
    return {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}


def drive(run, folder, steps=None):
    """Step until the budget is spent, or `steps` steps are done in this call, or a signal comes; the checkpoint is
    written in any case. Returns whether the budget is spent."""
    last, before = math.inf if steps is None else run.done + steps, run.seconds
    handlers, recipe, began, stop = listen(run), run.recipe, time.monotonic(), False
    if run.done == 0:
        reported(run, folder)
    try:
        while run.fraction() < 1 and not stop and run.done < last:
            run.step()
            if run.team.count == 1 or run.done % AGREE_STEPS == 0:
                now = before + time.monotonic() - began
                run.seconds, stop = run.team.agree(now, run.asked_to_stop)
            if run.done % recipe["report_steps"] == 0:
                reported(run, folder)
            if run.done % recipe["checkpoint_steps"] == 0 and run.team.rank == 0:
                run.save(folder)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    over = run.fraction() >= 1
    if over and run.loss_steps:
        reported(run, folder)
    if run.team.rank == 0:
        run.save(folder)
    return over
