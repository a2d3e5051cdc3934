"""From a folder of pictures to a served picture, by the commands as docs/TRAINING.md gives them."""
import io
import json
import pathlib
import tempfile
import unittest

import kit
import golden
import numpy as np
import shapes
import torch
from PIL import Image
from support import COMMAND, Server, ask, run_program
from test_network import LIMIT, load

RECIPE = kit.ROOT / "train/recipes/shapes-16.json"
FRACTION = 0.4  # of what the held-out loss begins at; measured: 0.16
RIGHT = 0.8     # share of generated pictures in the colour of their class; measured: 1
PICTURES = 6    # of each class
CLASSES = sorted(shapes.COLOURS)


class TestShapes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.out, cls.model = cls.folder / "run", cls.folder / "shapes-16.safetensors"
        shapes.write(cls.folder / "pictures", 150)
        kit.command("prepare", cls.folder / "pictures", cls.folder / "data", "--canvas", "16x16", "--license",
                    "CC0-1.0", "--source", "drawn by a test")
        kit.command("train", RECIPE, "--data", cls.folder / "data", "--out", cls.out)
        kit.command("evaluate", cls.out, "--pictures", 128)
        cls.export_output = kit.command("export", cls.out, cls.model)

    def test_it_has_learnt(self):
        lines = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
        first, last = lines[0]["held_out"][-1], lines[-1]["held_out"][-1]
        print(f"held-out loss {first:.3f} -> {last:.3f} ({last / first:.2f}) in {lines[-1]['seconds']} s")
        self.assertLess(last, FRACTION * first)
        self.assertLess(lines[-1]["held_out_shifted"][-1], FRACTION * first, "with a moved grid as well")

    def test_every_mask_is_of_use(self):
        """Where most is learnt, each subset of bricks is far better than nothing, and all of them are best."""
        table = json.loads((self.out / "evaluation.json").read_text())["skip_loss"]
        for sigma, row in zip(table["sigma"], table["loss"]):
            if 0.3 <= sigma <= 3:
                self.assertLess(max(row), FRACTION * 3, sigma)
                self.assertLess(row[-1], 1.05 * min(row), sigma)

    def test_nothing_is_memorised_and_classes_are_told_apart(self):
        found = json.loads((self.out / "evaluation.json").read_text())
        print("neighbours", found["neighbours"], "features", found["features"])
        self.assertGreaterEqual(found["features"]["classifier_accuracy_generated"], 0.6)

    def test_the_engine_agrees_on_the_exported_model(self):
        """The file's half-precision weights, in PyTorch and in the engine."""
        net, random = load(self.model), np.random.default_rng(1)
        for _ in range(6):
            case = golden.random_case(random, net.network)
            x = torch.from_numpy(golden.random_input(random, net.network, case))
            want, got = kit.evaluate(net, case, x), kit.engine(self.model, case, x, self.folder)
            for name, tensor in want.items():
                self.assertLessEqual(golden.distance(got[name], tensor), LIMIT, f"{name} {case}")

    def test_the_file_says_what_it_is(self):
        result = run_program(COMMAND, "info", "--model", self.model)
        self.assertEqual(result.returncode, 0, result.stderr)
        for words in ("shapes-16", "red squares", "CC0-1.0"):
            self.assertIn(words, result.stdout)
        self.assertNotIn("without losses", self.export_output)

    def right(self, pictures):
        """The share of [(class, bytes of a picture)] whose colour is that of the class."""
        seen = [(name, shapes.colour_of(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))))
                for name, data in pictures]
        return sum(want == got for want, got in seen) / len(seen)

    def test_the_command_line_draws_the_class_asked_for(self):
        made = []
        for name in CLASSES:
            result = run_program(COMMAND, "generate", "--model", self.model, "--class", name, "--n", PICTURES,
                                 "--seed", 1, "--out", self.folder / "out.png")
            self.assertEqual(result.returncode, 0, result.stderr)
            made += [(name, (self.folder / f"out-{i}.png").read_bytes()) for i in range(PICTURES)]
        share = self.right(made)
        print(f"right colours: {share:.2f} of {len(made)}")
        self.assertGreaterEqual(share, RIGHT)

    def test_the_service_serves_it(self):
        """All bricks, and a schedule that the measured losses make."""
        server = Server(model=self.model)
        self.addCleanup(server.stop)
        for skip in ("none", "balanced"):
            answers = [(name, ask(server, "POST", "/v1/generate",
                                  {"class": name, "seed": seed, "format": "png", "skip": skip}))
                       for name in CLASSES for seed in range(2)]
            self.assertEqual({answer.status for _, answer in answers}, {200})
            self.assertGreaterEqual(self.right([(name, answer.body) for name, answer in answers]), RIGHT, skip)


class TestCommands(unittest.TestCase):
    def test_usage(self):
        self.assertIn("import_lego", kit.command("--help"))
        self.assertIn("usage", kit.command("nothing", status=2))
        self.assertIn("usage", kit.command(status=2))
        for name in ("prepare", "train", "evaluate", "export", "plot", "import_lego"):
            self.assertIn(f"usage: train {name}", kit.command(name, "--help"))

    def test_failures_are_one_line(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "recipe.json")
            for text in ("{", "[]", '{"colour": 1}', '{"images": 0}'):
                path.write_text(text)
                output = kit.command("train", path, "--data", folder, "--out", folder, status=1)
                self.assertTrue(output.startswith(f"train: {path}: "), output)
                self.assertEqual(output.count("\n"), 1, output)


if __name__ == "__main__":
    unittest.main()
