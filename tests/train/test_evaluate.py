"""Losses, neighbours, distances, diagrams: each against what it must be where that is known."""
import json
import pathlib
import tempfile
import unittest
import xml.etree.ElementTree

import kit
import numpy as np
import shapes
import torch
from PIL import Image
from train import chart, config, data, diffusion, evaluate, features, plot, prepare, run, train


class TestRun(unittest.TestCase):
    """A short run, evaluated by the command."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        shapes.write(cls.folder / "pictures", 40)
        prepare.prepare(cls.folder / "pictures", cls.folder / "data", [(16, 16)])
        cls.out = cls.folder / "run"
        train.train(config.complete(kit.TINY), cls.folder / "data", cls.out)
        cls.output = kit.command("evaluate", cls.out, "--pictures", 64)
        cls.results = json.loads((cls.out / evaluate.RESULTS).read_text())

    def test_skip_loss_is_the_loss_of_that_mask(self):
        """One entry computed from the definition: weight times squared error, the noise that of the seed."""
        table = self.results["skip_loss"]
        self.assertEqual(table["sigma"], evaluate.SIGMAS)
        self.assertEqual(table["bricks"], ["10", "01", "11"])
        net, _, dataset = evaluate.load(self.out)
        x, labels = dataset.held_out((16, 16))
        noise = torch.randn(x.shape, generator=self.dice_after_levels(len(x)))
        sigma, sd = evaluate.SIGMAS[7], net.network["sigma_data"]
        d = diffusion.denoise(net, x + sigma * noise, torch.full((len(x),), sigma), diffusion.one_hot(labels, 4),
                              diffusion.whole(len(x), (16, 16), x.device), [False, True], [(0, 0)] * 2)[-1]
        want = (sigma ** 2 + sd ** 2) / (sigma * sd) ** 2 * float(((d - x) ** 2).mean())
        self.assertAlmostEqual(table["loss"][7][1] / want, 1, 3)

    @staticmethod
    def dice_after_levels(count):
        dice = torch.Generator().manual_seed(run.HELD_OUT_SEED)
        torch.randn(count, generator=dice)
        return dice

    def test_pictures_and_names(self):
        for part in ("samples", "neighbours"):
            with Image.open(self.out / self.results[part]["file"]) as image:
                self.assertEqual((image.width % 16, image.height % 16, image.mode), (0, 0, "RGB"))
        self.assertEqual(self.results["samples"]["rows"], sorted(shapes.COLOURS))
        self.assertIn("frechet_distance_own_classifier", self.results["features"])
        self.assertNotIn("fid", json.dumps(self.results).lower())
        self.assertGreaterEqual(self.results["features"]["classifier_accuracy_held_out"], 0.75)

    def test_parts_can_be_had_alone(self):
        kit.command("evaluate", self.out, "--part", "samples")
        self.assertEqual(json.loads((self.out / evaluate.RESULTS).read_text()), self.results)

    def test_diagrams(self):
        kit.command("plot", self.out)
        for name in ("loss", "masks", "frontier"):
            root = xml.etree.ElementTree.parse(self.out / f"{name}.svg").getroot()
            width, height = map(int, root.get("viewBox").split()[2:])
            with Image.open(self.out / f"{name}.png") as image:
                self.assertEqual(image.size, (width, height))
                self.assertGreater(len(image.getcolors(10**6)), 2)

    def test_a_run_that_is_none(self):
        self.assertIn("run.json", kit.command("evaluate", self.folder, status=1))


class TestNeighbours(unittest.TestCase):
    def setUp(self):
        dice = torch.Generator().manual_seed(1)
        self.training, self.held_out, self.new = (torch.rand(n, 3, 32, 32, generator=dice) for n in (50, 50, 40))

    def share(self, generated):
        with tempfile.TemporaryDirectory() as folder:
            return evaluate.neighbours(generated, self.training, self.held_out, pathlib.Path(folder))

    def test_what_is_new_is_not_suspected(self):
        self.assertLessEqual(self.share(self.new)["share_below_threshold"], 0.1)

    def test_copies_are_found(self):
        """Half of the pictures are training pictures with a little noise, some of them mirrored."""
        copies = self.training[:20].clone()
        copies[::2] = copies[::2].flip(3)
        generated = torch.cat([copies + 0.02 * torch.randn(copies.shape), self.new[:20]])
        found = self.share(generated)
        self.assertAlmostEqual(found["share_below_threshold"], 0.5, delta=0.06)
        self.assertEqual(evaluate.nearest(generated[:20], self.training)[1].tolist(), list(range(20)))


class TestFeatures(unittest.TestCase):
    def test_frechet_distance_of_normal_distributions(self):
        """|m1 - m2|^2 + sum (s1 - s2)^2 for diagonal ones."""
        random = np.random.default_rng(1)
        a = torch.from_numpy(random.normal([0, 1, 2], [1, 2, 3], (200_000, 3)))
        b = torch.from_numpy(random.normal([1, 1, 0], [2, 2, 1], (200_000, 3)))
        self.assertAlmostEqual(features.frechet(a, b), (1 + 4) + (1 + 4), delta=0.15)
        self.assertAlmostEqual(features.frechet(a, a), 0, 6)

    def test_a_classifier_tells_shapes_apart(self):
        random = np.random.default_rng(1)
        pixels = [np.asarray(shapes.picture(name, random)) for name in shapes.COLOURS for _ in range(30)]
        pictures = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 127.5 - 1
        labels = torch.arange(4).repeat_interleave(30)
        model = features.learn(pictures[::2], labels[::2], 4)
        self.assertGreaterEqual(features.accuracy(model, pictures[1::2], labels[1::2]), 0.9)

    def test_one_class_is_not_enough(self):
        self.assertIn("left_out", evaluate.distances(None, None, None, None, 1))


class TestFrontier(unittest.TestCase):
    network = {"image_size": 16, "hidden_size": 64, "mlp_ratio": 4, "bricks": kit.TINY["bricks"]}
    table = {"sigma": [0.01, 1.0, 80.0], "bricks": ["10", "01", "11"],
             "loss": [[1.5, 1.1, 1.0], [1.2, 1.2, 1.0], [3.0, 1.001, 1.0]]}

    def test_work(self):
        self.assertEqual(plot.mask_work(self.network, ["11"]).tolist(), [1])
        self.assertAlmostEqual(float(plot.mask_work(self.network, ["10", "01"]).sum()), 1)

    def test_it_begins_with_everything_and_only_rises(self):
        points = plot.frontier(self.network, self.table)
        self.assertEqual(points[0], (0.0, 0.0))
        self.assertTrue(all(a[0] < b[0] and a[1] <= b[1] for a, b in zip(points, points[1:])))
        self.assertAlmostEqual(points[-1][0], 1 - float(plot.mask_work(self.network, ["10"])[0]), 6,
                               "at any price: the cheapest brick alone")

    def test_no_schedule_of_one_mask_is_better(self):
        """At any rate of exchange, the schedule chosen for it loses least in total."""
        rates = (0.0, 0.01, 0.1, 0.3, 1.0, 10.0)
        levels = np.log(diffusion.noise_levels(20)[:-1])
        for column, work in zip(plot.excess(self.table).T, plot.mask_work(self.network, self.table["bricks"])):
            loss = np.interp(levels, np.log(self.table["sigma"]), column).mean()
            for rate in rates:
                ((left_out, more),) = plot.frontier(self.network, self.table, rates=[rate])
                self.assertLessEqual(more - rate * left_out, loss - rate * (1 - work) + 1e-9)


class TestChart(unittest.TestCase):
    def test_words_are_words(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "chart")
            chart.write(path, chart.curves("a < b & c", "x", "y", {"<script>": [(1, 1), (2, 4)]}))
            texts = [e.text for e in xml.etree.ElementTree.parse(f"{path}.svg").iter() if e.tag.endswith("text")]
            self.assertIn("a < b & c", texts)
            self.assertIn("<script>", texts)

    def test_axes(self):
        axis = chart.Axis([1, 100], 0, 10, True)
        self.assertEqual([round(axis(v), 6) for v in (1, 10, 100)], [0, 5, 10])
        self.assertEqual([words for _, words in axis.ticks(3)], ["1", "10", "100"])
        self.assertEqual(chart.Axis([5, 5], 0, 10)(5), 0, "one value alone")

    def test_a_grid_of_pictures(self):
        sheet = np.asarray(evaluate.grid(torch.stack([torch.full((3, 2, 2), v) for v in (-1.0, 0.0, 1.0)]), 2))
        self.assertEqual(sheet[:, :, 0].tolist(), [[0, 0, 128, 128]] * 2 + [[255, 255, 255, 255]] * 2)
        self.assertEqual(evaluate.grid(torch.zeros(1, 4, 2, 2), 1).mode, "RGB")
        self.assertEqual(data.show_whole(torch.zeros(1, 3, 8, 4), (4, 4)).shape, (1, 3, 4, 4))


if __name__ == "__main__":
    unittest.main()
