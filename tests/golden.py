"""The engine against recorded results of the reference, and against itself on new cases.

A recorded case holds its parameters (metadata "case"), its input and what the reference made of it.
`brickwork denoise` computes the same tensors again. New cases are written here with random inputs
and parameters; without the reference beside them, what has to hold of any result is checked.
Where PyTorch is installed and BRICKWORK_REFERENCE names the reference's file, they are compared too.
"""
import functools
import importlib.util
import json
import os
import pathlib
import secrets
import struct
import sys
import tempfile
import unittest

import numpy as np

sys.path.append(str(pathlib.Path(__file__).resolve().parent / "http"))
from support import COMMAND, POMOLOGY, ROOT, run_program  # noqa: E402

FOLDER = ROOT / "tests/golden"
DTYPES = {"F32": np.float32, "U8": np.uint8}
SEED = int(os.environ.get("BRICKWORK_TEST_SEED", secrets.randbelow(2**32)))  # named in failures


# ---- files ----

def load(path):
    """(tensors by name, metadata, header) of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + length]), data[8 + length:]
    metadata = header.pop("__metadata__", {})
    tensors = {name: np.frombuffer(body[slice(*entry["data_offsets"])],
                                   DTYPES[entry["dtype"]]).reshape(entry["shape"])
               for name, entry in header.items()}
    return tensors, metadata


def save(path, name, tensor, case):
    """A case file with one input tensor."""
    entry = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [0, tensor.nbytes]}
    header = json.dumps({"__metadata__": {"case": json.dumps(case)}, name: entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + tensor.tobytes())


def model_file(name):
    path = POMOLOGY.with_name(f"{name}.safetensors")
    return path if path.exists() else ROOT / f"tests/models/{name}.safetensors"


def configuration(name):
    """The metadata "lego" of a model file, without reading the weights."""
    with open(model_file(name), "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(json.loads(file.read(length))["__metadata__"]["lego"])


def denoise(name, case, *options, precision="f32"):
    """What `brickwork denoise` makes of a case file: (tensors, metadata)."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder, "out.safetensors")
        result = run_program(COMMAND, "denoise", "--model", model_file(name), "--case", case,
                             "--out", out, "--precision", precision, *options)
        assert result.returncode == 0, result.stderr
        return load(out)


def distance(got, want):
    """Root mean square of the difference, relative to that of what is wanted."""
    got, want = got.astype(np.float64), want.astype(np.float64)
    return np.sqrt(np.mean((got - want) ** 2) / np.mean(want ** 2))


# ---- recorded cases ----

class TestRecorded(unittest.TestCase):
    """Filled with one test for each file below."""

    def compare(self, path):
        want, metadata = load(path)
        got, got_metadata = denoise(path.parent.name, path)
        self.assertEqual(got_metadata, metadata)
        self.assertEqual({n: t.shape for n, t in got.items()},
                         {n: t.shape for n, t in want.items()})
        if "d" in want:
            for name in want:
                self.assertLessEqual(distance(got[name], want[name]), 1e-5, name)
        else:
            self.assertLessEqual(np.max(np.abs(got["rgb"].astype(int) - want["rgb"].astype(int))), 1)
            self.assertLessEqual(distance(got["image"], want["image"]), 1e-3)


for one in sorted(FOLDER.glob("*/*.safetensors")):
    label = f"test_{one.parent.name}_{one.stem}".replace("-", "_")
    setattr(TestRecorded, label, lambda self, path=one: self.compare(path))


class TestDefaultPrecision(unittest.TestCase):
    def test_it_is_float32(self):
        """A comparison with the reference that names no precision means the exact one."""
        case = FOLDER / "tiny-pg-32/denoise-full.safetensors"
        want, _ = denoise("tiny-pg-32", case)
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "out.safetensors")
            result = run_program(COMMAND, "denoise", "--model", model_file("tiny-pg-32"), "--case",
                                 case, "--out", out)
            self.assertEqual(result.returncode, 0, result.stderr)
            got, _ = load(out)
        for name in want:
            self.assertTrue(np.array_equal(got[name], want[name]), name)


@functools.cache
def has_bfloat16():
    """Does this CPU multiply bfloat16?"""
    probe = run_program(COMMAND, "denoise", "--precision", "bf16", "--case", "none", "--out", "none")
    return "no bfloat16 products" not in probe.stderr


@unittest.skipUnless(has_bfloat16(), "this CPU has no bfloat16 products")
class TestBfloat16(unittest.TestCase):
    """The same cases with eight bits of precision in most products."""

    def compare(self, path):
        want, _ = load(path)
        got, _ = denoise(path.parent.name, path, precision="bf16")
        if "d" in want:
            for name in want:
                self.assertLessEqual(distance(got[name], want[name]), 1e-2, name)
        else:
            error = np.sqrt(np.mean((got["image"].astype(np.float64) - want["image"]) ** 2))
            self.assertGreaterEqual(20 * np.log10(2 / error), 40)


for one in sorted(FOLDER.glob("*/*.safetensors")):
    label = f"test_{one.parent.name}_{one.stem}".replace("-", "_")
    setattr(TestBfloat16, label, lambda self, path=one: self.compare(path))


# ---- cases never recorded ----

def sides(config):
    """The sides up to twice the model's own that every brick can tile."""
    def tiles(side, brick):
        if side < brick["size"]:
            return side % brick["patch"] == 0
        return brick["size"] == config["image_size"] or side % brick["size"] == 0
    return [side for side in range(1, 2 * config["image_size"] + 1)
            if all(tiles(side, brick) for brick in config["bricks"])]


def random_case(random, config):
    """A denoise case with everything left to chance but the shifts, which are zero."""
    bricks = len(config["bricks"])
    mask = random.random(bricks) < 0.6
    mask[random.integers(bricks)] = True
    height, width = random.choice(sides(config), 2)
    return {"kind": "denoise", "size": [int(height), int(width)],
            "sigma": float(np.exp(random.uniform(np.log(0.002), np.log(80)))),
            "label": int(random.integers(-1, config["num_classes"])),
            "mask": [bool(runs) for runs in mask], "shifts": [[0, 0]] * bricks}


def random_input(random, config, case):
    height, width = case["size"]
    scale = max(case.get("sigma", 1), config["sigma_data"])
    return (scale * random.standard_normal((config["channels"], height, width))).astype(np.float32)


def for_random_cases(count):
    """Run a check for that many sources of chance on every small model; it gets the model's name,
    its configuration and the source. A failure names the seed that repeats it."""
    def decorate(check):
        @functools.wraps(check)
        def test(self):
            for model in ["tiny-pg-32", "tiny-pr-32", "tiny-u-32"]:
                for i in range(count):
                    with self.subTest(model=model, i=i, BRICKWORK_TEST_SEED=SEED):
                        check(self, model, configuration(model), np.random.default_rng([SEED, i]))
        return test
    return decorate


class NewCase(unittest.TestCase):
    """A case file in a folder of its own."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name, "case.safetensors")

    def run_case(self, model, name, tensor, case, *options):
        save(self.file, name, tensor, case)
        return denoise(model, self.file, *options)

    def assert_same(self, one, other):
        self.assertEqual(list(one), list(other))
        for name in one:
            self.assertTrue(np.array_equal(one[name], other[name]), name)


class TestNewDenoise(NewCase):

    @for_random_cases(8)
    def test_result_is_complete(self, model, config, random):
        """Every brick that runs is there, d follows from the last, and the input is untouched."""
        case = random_case(random, config)
        x = random_input(random, config, case)
        got, metadata = self.run_case(model, "x", x, case)
        ran = [f"brick{k}" for k, runs in enumerate(case["mask"]) if runs]
        self.assertEqual(set(got), {"x", "d", *ran}, case)
        self.assertEqual(json.loads(metadata["case"]), case)
        self.assertTrue(np.array_equal(got["x"], x))
        sigma, data = case["sigma"], config["sigma_data"]
        total = sigma**2 + data**2
        d = data**2 / total * x + sigma * data / np.sqrt(total) * got[ran[-1]]
        self.assertLessEqual(distance(got["d"], d), 1e-6, case)
        self.assertTrue(all(np.isfinite(t).all() for t in got.values()), case)

    @for_random_cases(4)
    def test_same_twice_and_with_other_threads(self, model, config, random):
        case = random_case(random, config)
        x = random_input(random, config, case)
        first, _ = self.run_case(model, "x", x, case)
        for options in [], ["--threads", 1], ["--threads", 3]:
            self.assert_same(self.run_case(model, "x", x, case, *options)[0], first)

    @for_random_cases(6)
    def test_shift_by_whole_tiles_is_no_shift(self, model, config, random):
        """But for rounding: the same tiles stand at other places of a matrix then."""
        case = random_case(random, config)
        x = random_input(random, config, case)
        still, _ = self.run_case(model, "x", x, case)
        height, width = case["size"]
        shifts = [[int(random.integers(-3, 4)) * min(brick["size"], height),
                   int(random.integers(-3, 4)) * min(brick["size"], width)]
                  for brick in config["bricks"]]
        moved, _ = self.run_case(model, "x", x, {**case, "shifts": shifts})
        self.assertEqual(set(moved), set(still))
        for name in still:
            self.assertLessEqual(distance(moved[name], still[name]), 1e-6, name)

    @for_random_cases(2)
    def test_shift_matters(self, model, config, random):
        """The test above can fail: a shift by part of a tile does change what a brick makes."""
        local = next(k for k, b in enumerate(config["bricks"])
                     if b["size"] < config["image_size"])
        case = {**random_case(random, config), "sigma": 0.5, "size": [32, 32]}
        case["mask"] = [k == local for k in range(len(config["bricks"]))]
        x = random_input(random, config, case)
        still, _ = self.run_case(model, "x", x, case)
        shifts = [[1, 1]] * len(config["bricks"])
        moved, _ = self.run_case(model, "x", x, {**case, "shifts": shifts})
        self.assertGreater(distance(moved["d"], still["d"]), 1e-4)


class TestNewSample(NewCase):

    def sample(self, model, noise, case, *options):
        return self.run_case(model, "noise", noise, case, *options)[0]

    @for_random_cases(3)
    def test_result_is_complete(self, model, config, random):
        """The bytes are those of the image, and the noise is what it was."""
        case = {"kind": "sample", "size": random_case(random, config)["size"],
                "label": int(random.integers(-1, config["num_classes"])),
                "steps": int(random.integers(1, 6)), "guidance": float(random.uniform(0, 4)),
                "solver": str(random.choice(["dpmpp2m", "heun", "euler"]))}
        noise = random_input(random, config, case)
        got = self.sample(model, noise, case)
        self.assertEqual(set(got), {"noise", "image", "rgb"})
        self.assertTrue(np.array_equal(got["noise"], noise))
        rgb = np.clip(np.float32(127.5) * got["image"] + np.float32(128), 0, 255)
        off = np.abs(rgb.astype(np.uint8).transpose(1, 2, 0).astype(int) - got["rgb"])
        self.assertLessEqual(off.max(), 1, "one where the rounding of a product decides")
        self.assert_same(self.sample(model, noise, case, "--threads", 1), got)

    @for_random_cases(2)
    def test_all_bricks_are_the_default(self, model, config, random):
        case = {"kind": "sample", "size": [32, 32], "label": -1, "steps": 3}
        noise = random_input(random, config, case)
        masks = [[True] * len(config["bricks"])] * 3
        self.assert_same(self.sample(model, noise, {**case, "masks": masks}),
                         self.sample(model, noise, case))

    @for_random_cases(2)
    def test_guidance_needs_a_class(self, model, config, random):
        """Without a class, guidance makes no difference; with one, it does, but for 1."""
        case = {"kind": "sample", "size": [32, 32], "label": -1, "steps": 2}
        noise = random_input(random, config, case)
        plain = self.sample(model, noise, case)
        self.assert_same(self.sample(model, noise, {**case, "guidance": 5}), plain)
        if config["num_classes"]:
            guided = [self.sample(model, noise, {**case, "label": 0, "guidance": g})["image"]
                      for g in (0, 1, 5)]
            self.assertLess(distance(guided[0], plain["image"]), 1e-5, "0: unconditional")
            self.assertGreater(distance(guided[2], guided[1]), 1e-6)


def load_reference():
    """The reference as a module, or None where it cannot run."""
    path = os.environ.get("BRICKWORK_REFERENCE")
    if not path or not importlib.util.find_spec("torch"):
        return None
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = load_reference()

if REFERENCE:
    import torch

    class TestAgainstReference(NewCase):
        """New cases, shifts included, computed by the reference as well."""

        @for_random_cases(4)
        def test_denoise(self, model, config, random):
            case = random_case(random, config)
            case["shifts"] = [[int(v) for v in random.integers(0, brick["size"], 2)]
                              if brick["size"] < config["image_size"] else [0, 0]
                              for brick in config["bricks"]]
            x = random_input(random, config, case)
            got, _ = self.run_case(model, "x", x, case)
            with torch.no_grad():
                want = REFERENCE.denoise(REFERENCE.Model(model_file(model)), torch.from_numpy(x),
                                         case["sigma"], case["label"], case["mask"],
                                         [tuple(shift) for shift in case["shifts"]])
            self.assertLessEqual(distance(got["d"], want.numpy()), 1e-5, case)


if __name__ == "__main__":
    unittest.main()
