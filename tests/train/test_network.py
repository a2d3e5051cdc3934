"""The training network against the recorded results of the reference, and against the engine on new models."""
import json
import os
import pathlib
import secrets
import tempfile
import unittest

import kit
import golden
import numpy as np
import torch
from train import config, diffusion, export, files, network

LIMIT = 1e-5
SEED = int(os.environ.get("BRICKWORK_TEST_SEED", secrets.randbelow(2**32)))  # named in failures


def load(path):
    """The training network with the weights of a model file."""
    tensors, metadata = files.read_safetensors(path)
    net = network.Lego(json.loads(metadata["lego"])).requires_grad_(False)
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return net


class TestReference(unittest.TestCase):
    """One test for each recorded case, below: arrangements PG, PR and U, with masks, shifts, other sizes."""

    def compare(self, path):
        want, metadata = golden.load(path)
        case, net = json.loads(metadata["case"]), load(golden.model_file(path.parent.name))
        got = kit.evaluate(net, case, torch.from_numpy(want["x" if "d" in want else "noise"].copy()))
        self.assertEqual(set(got) | {"x", "noise", "rgb"}, set(want) | {"x", "noise", "rgb"})
        for name, tensor in got.items():
            self.assertLessEqual(golden.distance(tensor, want[name]), LIMIT, name)


for one in sorted(golden.FOLDER.glob("tiny*/*.safetensors")):
    setattr(TestReference, f"test_{one.parent.name}_{one.stem}".replace("-", "_"),
            lambda self, path=one: self.compare(path))


def random_model(path, random, bricks, classes=3, image_size=16):
    """A model file with random weights of every tensor, none of them zero."""
    torch.manual_seed(int(random.integers(2**31)))
    net = network.Lego(config.check_network({
        "format": 1, "name": "random", "image_size": image_size, "channels": 3, "num_classes": classes,
        "classes": [f"class {i}" for i in range(classes)], "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2,
        "sigma_data": 0.6, "bricks": bricks}))
    weights = {n: 0.5 * torch.randn(t.shape) / max(t[0].numel(), 1) ** 0.5 for n, t in net.state_dict().items()}
    export.write_model(path, weights, export.metadata(net.network), half=False)


class TestEngine(unittest.TestCase):
    """New models and new cases: random masks, shifts, labels, sizes and noise levels."""

    def compare(self, name, bricks, image_size=16, classes=3):
        random = np.random.default_rng(SEED)
        reference = golden.load_reference()
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder, "model.safetensors")
            random_model(model, random, bricks, classes, image_size)
            net = load(model)
            for _ in range(4):
                case = golden.random_case(random, net.network)
                case["shifts"] = diffusion.local_shifts(net.network, lambda size: random.integers(0, size, 2).tolist())
                case["shifts"] = [list(shift) for shift in case["shifts"]]
                x = torch.from_numpy(golden.random_input(random, net.network, case))
                want, got = kit.engine(model, case, x, pathlib.Path(folder)), kit.evaluate(net, case, x)
                for tensor in got:
                    self.assertLessEqual(golden.distance(got[tensor], want[tensor]), LIMIT,
                                         f"{name} {tensor} {case}, BRICKWORK_TEST_SEED={SEED}")
                if reference:
                    said = reference.denoise(reference.Model(model), x, case["sigma"], case["label"], case["mask"],
                                             case["shifts"])
                    self.assertLessEqual(golden.distance(got["d"], said.numpy()), LIMIT, f"{name} {case}")

    def test_custom_stack(self):
        self.compare("custom", kit.TINY["bricks"])

    def test_one_brick_without_classes(self):
        self.compare("one", [{"size": 16, "patch": 4, "depth": 1}], classes=0)

    def test_samples(self):
        """A whole picture, by every solver, with guidance and masks."""
        random = np.random.default_rng(SEED)
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder, "model.safetensors")
            random_model(model, random, kit.TINY["bricks"])
            for solver in ("dpmpp2m", "heun", "euler"):
                case = {"kind": "sample", "size": [16, 16], "label": 1, "steps": 4, "guidance": 1.5, "solver": solver,
                        "masks": [[False, True], [True, True], [True, True], [True, False]]}
                x = torch.from_numpy(golden.random_input(random, load(model).network, case))
                want, got = kit.engine(model, case, x, pathlib.Path(folder)), kit.evaluate(load(model), case, x)
                self.assertLessEqual(golden.distance(got["image"], want["image"]), 1e-4, solver)


for arrangement in config.ARRANGEMENTS:
    setattr(TestEngine, f"test_{arrangement}", lambda self, name=arrangement: self.compare(
        name, config.named_stack(name, 32, 4), 32))


class TestBfloat16(unittest.TestCase):
    def test_products_are_rounded_and_little_else(self):
        """As on a GPU: near the exact result, and not the exact result."""
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder, "model.safetensors")
            random_model(model, np.random.default_rng(SEED), kit.TINY["bricks"])
            net, x = load(model), torch.randn(2, 3, 16, 16)
            exact, rounded = (diffusion.denoise(
                net, x, torch.tensor([0.3, 2.0]), diffusion.one_hot(torch.tensor([0, -1]), 3),
                diffusion.whole(2, (16, 16), x.device), [True, True], [(1, 2), (0, 0)], bf16)[-1]
                for bf16 in (False, True))
        self.assertLess(golden.distance(rounded.numpy(), exact.numpy()), 3e-2)
        self.assertGreater(golden.distance(rounded.numpy(), exact.numpy()), 1e-5)


class TestShapes(unittest.TestCase):
    def test_named_sizes(self):
        """Every size in every arrangement is a network that the engine takes."""
        description = {"classes": [], "channels": 3, "std": 0.5}
        for size, (hidden, heads, depth) in config.SIZES.items():
            for arrangement in config.ARRANGEMENTS:
                for side in (32, 64, 128, 256):
                    recipe = config.complete({"images": 1, "size": size, "arrangement": arrangement,
                                              "image_size": side})
                    shape = config.network_of(recipe, description)
                    self.assertEqual((shape["hidden_size"], shape["num_heads"]), (hidden, heads))
                    self.assertAlmostEqual(sum(b["depth"] for b in shape["bricks"]), depth, delta=1)

    def test_recipes(self):
        """All that come along can be read; the default model's makes the network of the default model."""
        shapes = {path.stem: config.network_of(config.read(path), {"classes": [], "channels": 3, "std": 0.5})
                  for path in (kit.ROOT / "train/recipes").glob("*.json")}
        self.assertLessEqual({"pomology-128", "small-64", "shapes-16"}, set(shapes))
        said = golden.configuration("pomology-128")
        self.assertEqual(shapes["pomology-128"], {**said, "num_classes": 0, "classes": []})

    def test_what_is_refused(self):
        wrong = [({}, "the budget is either"), ({"images": 1, "seconds": 1}, "the budget is either"),
                 ({"images": 1, "colour": "red"}, "unknown: colour"), ({"images": True}, "images is not an integer"),
                 ({"images": 1, "partial": 1.5}, "partial is not a number from 0 to 1"),
                 ({"images": 1, "arrangement": "PX"}, "arrangement is not one of PG, PR, U"),
                 ({"images": 1, "bricks": [{"size": 8}]}, "bricks is not a list of 1 to 8"),
                 ({"images": 1, "sizes": [[1]]}, "sizes is not a list of"),
                 ({"images": 1, "batch": 10, "micro_batch": 4}, "not a multiple of micro_batch"),
                 ({"images": 1, "flip": 1}, "flip is not true or false"),
                 ({"images": 1, "name": ""}, "name is not text")]
        for given, message in wrong:
            with self.assertRaises(ValueError) as caught:
                config.complete(given)
            self.assertIn(message, str(caught.exception))

    def test_networks_that_are_refused(self):
        description = {"classes": [], "channels": 3, "std": 0.5}
        wrong = [({"hidden_size": 48}, "hidden_size 48"), ({"num_heads": 3}, "num_heads 3"),
                 ({"bricks": [{"size": 6, "patch": 3, "depth": 1}]}, "do not divide 16"),
                 ({"bricks": [{"size": 8, "patch": 3, "depth": 1}]}, "do not divide 16"),
                 ({"min_size": 9}, "cannot tile min_size 9"), ({"sizes": [[16, 20]]}, "cannot tile [16, 20]")]
        for given, message in wrong:
            with self.assertRaises(ValueError) as caught:
                config.network_of(config.complete({**kit.TINY, **given}), description)
            self.assertIn(message, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
