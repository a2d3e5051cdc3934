"""What surrounds the network: preconditioning and loss (Karras et al., arXiv 2206.00364), coordinates, samplers
(theirs, and DPM-Solver++ 2M, Lu et al., arXiv 2211.01095)."""
import contextlib
import math

import torch

LOWEST, HIGHEST, RHO = 0.002, 80.0, 7.0  # noise levels of the sampler
WHOLE = (-1.0, 1.0, -1.0, 1.0)  # the box of a picture that is all there is


def coordinates(boxes, size):
    """[B, 2, H, W]: row, then column coordinate. boxes [B, 4]: first row, last row, first and last column, of a
    picture that spans -1 to 1."""
    (height, width), device = size, boxes.device
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    rows = torch.linspace(0, 1, height, device=device) * (bottom - top) + top
    columns = torch.linspace(0, 1, width, device=device) * (right - left) + left
    count = len(boxes)
    return torch.stack([rows[:, :, None].expand(count, height, width),
                        columns[:, None, :].expand(count, height, width)], 1)


def whole(count, size, device):
    """The coordinates of pictures that are no part of a larger one."""
    return coordinates(torch.tensor([WHOLE], device=device).expand(count, 4), size)


def one_hot(labels, classes):
    """[B, classes]; a label of -1 is no class, a row of zeros."""
    return (labels[:, None] == torch.arange(classes, device=labels.device)).float()


def precision(device, bf16):
    """Where the network runs: in bfloat16 products or as it is."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else contextlib.nullcontext()


def denoise(net, x, sigma, onehot, places, mask, shifts, bf16=False):
    """D(x; sigma) by every brick that runs: a list of [B, C, H, W]. x [B, C, H, W], sigma [B]; the rest as
    Lego.forward() takes it."""
    sigma_data, s = net.network["sigma_data"], sigma.view(-1, 1, 1, 1)
    total = s ** 2 + sigma_data ** 2
    with precision(x.device, bf16):
        outputs = net(x / total.sqrt(), sigma.log() / 4, onehot, places, mask, shifts)
    return [sigma_data ** 2 / total * x + s * sigma_data / total.sqrt() * out.float() for out in outputs]


def losses(net, x, sigma, noise, *rest, bf16=False):
    """The weighted squared error of every brick that runs, picture by picture: a list of [B]. x [B, C, H, W] clean
    pictures; `rest` as denoise() takes it from onehot on."""
    s, sigma_data = sigma.view(-1, 1, 1, 1), net.network["sigma_data"]
    weight = (s ** 2 + sigma_data ** 2) / (s * sigma_data) ** 2
    outputs = denoise(net, x + noise * s, sigma, *rest, bf16=bf16)
    return [(weight * (out - x) ** 2).mean((1, 2, 3)) for out in outputs]


# ---- masks, shifts ----

def all_masks(bricks):
    """Every non-empty subset of the bricks, in the order of its bits; the last one is all of them."""
    return [[bool(bits >> k & 1) for k in range(bricks)] for bits in range(1, 2 ** bricks)]


def mask_text(mask):
    """[True, False, True] -> "101", as the metadata writes it."""
    return "".join("1" if runs else "0" for runs in mask)


def local_shifts(network, shift):
    """shift(size) -> (dy, dx) for every local brick; a global one stays where it is."""
    return [shift(b["size"]) if b["size"] < network["image_size"] else (0, 0) for b in network["bricks"]]


def step_shifts(network, step):
    """The grid's places while sampling: a low-discrepancy sequence (R2), one for each step."""
    u, v = 0.7548776662466927 * step % 1.0, 0.5698402909980532 * step % 1.0
    return local_shifts(network, lambda size: (int(u * size), int(v * size)))


# ---- sampling ----

def noise_levels(steps):
    """`steps` levels from HIGHEST down to LOWEST, then 0."""
    high, low = HIGHEST ** (1 / RHO), LOWEST ** (1 / RHO)
    return [(high + i / max(steps - 1, 1) * (low - high)) ** RHO for i in range(steps)] + [0.0]


def heun(d, s, s_next, x, d0):
    """d(x, sigma) denoises."""
    slope = (x - d0) / s
    ahead = x + (s_next - s) * slope
    return x + (s_next - s) * 0.5 * (slope + (ahead - d(ahead, s_next)) / s_next)


def dpmpp2m(s_before, s, s_next, x, d0, d_before):
    h = math.log(s / s_next)
    if d_before is not None:
        r = math.log(s_before / s) / h
        d0 = (1 + 1 / (2 * r)) * d0 - d_before / (2 * r)
    return s_next / s * x - math.expm1(-h) * d0


@torch.no_grad()
def sample(net, noise, labels, steps=20, guidance=1.5, solver="dpmpp2m", masks=None, bf16=False):
    """Pictures [B, C, H, W] of about -1 to 1 from standard normal noise of that shape; labels [B], -1: no class.
    masks[i]: the bricks that run at step i (default: all). One batch, so mind the memory."""
    count, classes = len(noise), net.network["num_classes"]
    places = whole(count, noise.shape[2:], noise.device)
    onehot = one_hot(labels, classes)

    def denoiser(i):
        mask = masks[i] if masks else [True] * len(net.model)
        shifts = step_shifts(net.network, i)

        def d(x, s):
            def run(condition):
                sigma = torch.full((count,), s, device=x.device)
                return denoise(net, x.float(), sigma, condition, places, mask, shifts, bf16)[-1].double()
            conditional = run(onehot)
            if guidance == 1 or not classes:
                return conditional
            free = run(torch.zeros_like(onehot))
            return free + guidance * (conditional - free)
        return d

    t = noise_levels(steps)
    x, d_before = noise.double() * t[0], None
    for i in range(steps):
        d = denoiser(i)
        d0 = d(x, t[i])
        if t[i + 1] == 0:
            x = d0
        elif solver == "dpmpp2m":
            x = dpmpp2m(t[i - 1], t[i], t[i + 1], x, d0, d_before)
        elif solver == "heun":
            x = heun(d, t[i], t[i + 1], x, d0)
        else:
            x = x + (t[i + 1] - t[i]) * (x - d0) / t[i]
        d_before = d0
    return x.float()


def to_bytes(x):
    """Pictures [B, C, H, W] of -1 to 1 -> an array [B, H, W, C] of bytes."""
    return (x * 127.5 + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
