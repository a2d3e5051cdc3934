"""What the suites of train/ need. One thread: small products gain nothing from more, and sums stay the same."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/http")]
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402

import golden  # noqa: E402
from train import diffusion  # noqa: E402
from support import COMMAND, PATIENCE_S, run_program  # noqa: E402

torch.set_num_threads(1)

# Two bricks for pictures of 16: enough for shapes, and a hundred steps in seconds.
TINY = {"image_size": 16, "bricks": [{"size": 8, "patch": 4, "depth": 1}, {"size": 16, "patch": 4, "depth": 2}],
        "hidden_size": 64, "num_heads": 2, "batch": 64, "images": 64 * 8, "warmup": 20, "ema": 0.01,
        "report_steps": 4, "checkpoint_steps": 1000}


def command(*arguments, status=0):
    """python3 -m train ...; its output. AssertionError if it ends with another status."""
    result = subprocess.run([sys.executable, "-m", "train", *map(str, arguments)], cwd=ROOT, text=True,
                            capture_output=True, timeout=5 * PATIENCE_S, check=False)
    if result.returncode != status:
        raise AssertionError(f"train {arguments} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr


def engine(model, case, x, folder, precision="f32", kernels=None):
    """What `brickwork denoise` makes of x [C, H, W] with that model file, and that set of kernels at most: tensors by
    name."""
    name = "x" if case["kind"] == "denoise" else "noise"
    golden.save(folder / "case.safetensors", name, x.numpy(), case)
    result = run_program(COMMAND, "denoise", "--model", model, "--case", folder / "case.safetensors",
                         "--out", folder / "out.safetensors", "--precision", precision,
                         env={"BRICKWORK_CPU": kernels} if kernels else None)
    assert result.returncode == 0, result.stderr
    return golden.load(folder / "out.safetensors")[0]


def evaluate(net, case, x):
    """What the network makes of a case: tensors by the engine's names. x [C, H, W]."""
    label, x = torch.tensor([case["label"]]), x[None]
    if case["kind"] == "sample":
        guidance = case.get("guidance", 1) if case["label"] >= 0 else 1
        return {"image": diffusion.sample(net, x, label, case["steps"], guidance, case.get("solver", "dpmpp2m"),
                                          case.get("masks"))[0].numpy()}
    outputs = []
    net_outputs = net.forward
    net.forward = lambda *rest: outputs.extend(net_outputs(*rest)) or outputs
    d = diffusion.denoise(net, x, torch.tensor([case["sigma"]]), diffusion.one_hot(label, net.network["num_classes"]),
                          diffusion.whole(1, x.shape[2:], x.device), case["mask"], case["shifts"])[-1]
    del net.forward
    ran = [k for k, runs in enumerate(case["mask"]) if runs]
    return {"d": d[0].numpy(), **{f"brick{k}": out[0].numpy() for k, out in zip(ran, outputs)}}


def same_weights(a, b):
    """Are two state dicts equal, bit by bit?"""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
