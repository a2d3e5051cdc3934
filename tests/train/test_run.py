"""Steps, checkpoints, processes: a run is a function of its recipe and data, however it is cut or shared."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

import kit
import shapes
import torch
from support import PATIENCE_S, wait_until
from train import config, diffusion, optimizer, prepare, run, train

STEPS = 8  # of kit.TINY's budget


def log_of(folder):
    """The log's lines without what depends on the clock."""
    lines = [json.loads(line) for line in (folder / run.LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RunCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        shapes.write(cls.folder / "pictures", 12, sizes=[(48, 48), (48, 72)])
        cls.data = cls.folder / "data"
        prepare.prepare(cls.folder / "pictures", cls.data, [(16, 16), (16, 24)])

    def out(self):
        return pathlib.Path(tempfile.mkdtemp(dir=self.folder)) / "run"

    def recipe(self, **changes):
        return {**kit.TINY, "batch": 16, "images": 16 * STEPS, "windows": 0.3, **changes}

    def train(self, out, *calls, **changes):
        """A run in as many calls as are given numbers of steps, each from the checkpoint of the one before."""
        for i, steps in enumerate(calls or [None]):
            one, over = train.train(config.complete(self.recipe(**changes)), self.data, out, i > 0, steps)
        return one, over

    def config_file(self, **changes):
        path = self.out().with_suffix(".json")
        path.write_text(json.dumps(self.recipe(**changes)))
        return path

    def assert_same_run(self, a, b):
        """Weights, average, optimizers and log, bit by bit."""
        states = [run.load_checkpoint(folder, "cpu") for folder in (a, b)]
        for part in ("net", "ema"):
            self.assertTrue(kit.same_weights(states[0][part], states[1][part]), part)
        for one, other in zip(states[0]["optimizers"], states[1]["optimizers"]):
            self.assertTrue(one)
            for key, values in one.items():
                self.assertTrue(kit.same_weights(values, other[key]), key)
        self.assertEqual(log_of(a), log_of(b))


class TestResume(RunCase):
    recipes = {"muon": {}, "adamw": {"optimizer": "adamw"}, "in turn": {"training": "in turn"},
               "sizes": {"sizes": [[16, 16], [8, 8], [16, 24]]},
               "pieces": {"micro_batch": 8}, "from the file": {"resident": False}}

    def test_a_resumed_run_equals_an_uninterrupted_one(self):
        for name, changes in self.recipes.items():
            with self.subTest(name):
                whole, cut = self.out(), self.out()
                one, over = self.train(whole, **changes)
                self.assertTrue(over)
                self.assertEqual(one.done, STEPS)
                again, over = self.train(cut, 1, 5, None, **changes)
                self.assertTrue(over)
                self.assert_same_run(whole, cut)
                self.assertTrue(kit.same_weights(one.net.state_dict(), again.net.state_dict()))

    def test_another_seed_is_another_run(self):
        """The comparison above can fail."""
        one, other = self.train(self.out())[0], self.train(self.out(), seed=1)[0]
        self.assertFalse(kit.same_weights(one.net.state_dict(), other.net.state_dict()))

    def test_a_lost_checkpoint(self):
        """A run killed after its checkpoint has reported steps that it makes again; the log has them once."""
        whole, cut = self.out(), self.out()
        self.train(whole)
        self.train(cut, 3)
        with open(cut / run.LOG, "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": 4, "loss": -1}) + "\n")
        train.train(config.complete(self.recipe()), self.data, cut, resume=True)
        self.assert_same_run(whole, cut)

    def test_sigterm(self):
        """It ends with a checkpoint and says that it is not over; going on gives the same run."""
        whole, cut, file = self.out(), self.out(), self.config_file(images=16 * 40, report_steps=5)
        arguments = ["train", file, "--data", self.data, "--out", cut]
        with subprocess.Popen([sys.executable, "-m", "train", *map(str, arguments)], cwd=kit.ROOT, text=True,
                              stdout=subprocess.PIPE) as process:
            wait_until(lambda: (cut / run.LOG).exists() and len(log_of(cut)) >= 2, "a report")
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
            self.assertEqual(process.wait(PATIENCE_S), train.NOT_OVER)
        self.assertLess(json.loads(run.load_checkpoint(cut, "cpu")["plain"])["done"], 40)
        self.assertIn("--resume goes on", kit.command(*arguments, status=1))
        kit.command(*arguments, "--resume")
        kit.command("train", file, "--data", self.data, "--out", whole)
        self.assert_same_run(whole, cut)

    def test_another_recipe_is_refused(self):
        out = self.out()
        self.train(out, 1)
        with self.assertRaisesRegex(ValueError, "another lr, seed"):
            train.train(config.complete(self.recipe(lr=0.5, seed=9)), self.data, out, True)
        longer = config.complete(self.recipe(images=16 * 2))  # another budget is not another run
        self.assertEqual(train.train(longer, self.data, out, True)[0].done, 2)

    def test_a_budget_of_time(self):
        one, over = self.train(self.out(), images=None, seconds=0.5)
        self.assertTrue(over)
        self.assertGreater(one.done, 0)
        self.assertGreaterEqual(one.seconds, 0.5)


class TestProcesses(RunCase):
    def test_two_processes_make_the_run_of_one(self):
        """Each takes every second piece; the weights are the same bit by bit. Started as torchrun would: Debian's
        cannot start anything on its Python."""
        alone, shared, file = self.out(), self.out(), self.config_file(micro_batch=8)
        kit.command("train", file, "--data", self.data, "--out", alone)
        arguments = [sys.executable, "-m", "train", "train", file, "--data", self.data, "--out", shared]
        environment = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
                       "GLOO_SOCKET_IFNAME": "lo"}
        both = [subprocess.Popen(list(map(str, arguments)), cwd=kit.ROOT, text=True, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env={**environment, "RANK": rank, "LOCAL_RANK": rank})
                for rank in "01"]
        for process in both:
            self.addCleanup(process.stdout.close)
            self.addCleanup(process.kill)
        outputs = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
        self.assertEqual([process.returncode for process in both], [0, 0], outputs)
        self.assertIn("2 x cpu", outputs[0])
        self.assertEqual(outputs[1], "", "only the first one talks")
        self.assert_same_run(alone, shared)

    def test_pieces_have_to_be_shared_evenly(self):
        with unittest.mock.patch.dict(os.environ), self.assertRaisesRegex(ValueError, "cannot be shared by 2"):
            team = run.Team()
            team.count = 2
            dataset = train.Dataset(self.data, team.device)
            recipe = config.complete(self.recipe())
            run.Run(recipe, dataset, config.network_of(recipe, dataset.description), team)


class TestSteps(RunCase):
    """What is decided for a step, and what a step changes."""
    shape = {"image_size": 16, "bricks": [{"size": s} for s in (4, 16, 8)]}

    def plans(self, stage=None, count=400, **changes):
        recipe = config.complete(self.recipe(**changes))
        return [run.plan(recipe, self.shape, step, stage) for step in range(count)]

    def test_shares_of_masks_and_shifts(self):
        plans = self.plans()
        full = sum(all(p.mask) for p in plans) / len(plans)
        self.assertAlmostEqual(full, 0.65, delta=0.08)
        self.assertEqual({diffusion.mask_text(p.mask) for p in plans},
                         {"100", "010", "110", "001", "101", "011", "111"})
        self.assertTrue(all(p.shifts[1] == (0, 0) for p in plans), "the global brick stays")
        shifted = sum(p.shifts[2] != (0, 0) for p in plans) / len(plans)
        self.assertAlmostEqual(shifted, 0.8 * 63 / 64, delta=0.08)
        self.assertEqual({dy for p in plans for dy, _ in [p.shifts[0]]}, {0, 1, 2, 3})

    def test_sizes_are_drawn(self):
        plans = self.plans(sizes=[[16, 16], [16, 32], [8, 8]])
        self.assertEqual({p.size for p in plans}, {(16, 16), (32, 16), (8, 8)})

    def test_in_its_turn_a_brick_is_the_last(self):
        for stage, masks in enumerate([{"100"}, {"010", "110"}, {"001", "101", "011", "111"}]):
            self.assertEqual({diffusion.mask_text(p.mask) for p in self.plans(stage, 200)}, masks)

    def test_bricks_in_turn_learn_alone(self):
        out = self.out()
        changes = {"training": "in turn", "partial": 0.0}
        before = self.train(out, 4, **changes)[0].net.state_dict()
        after = train.train(config.complete(self.recipe(**changes)), self.data, out, True)[0].net.state_dict()
        moved = {name for name in after if not torch.equal(before[name], after[name])}
        self.assertTrue(moved)
        self.assertTrue(all(name.startswith("model.1.") for name in moved), moved)

    def test_a_brick_that_never_runs_stays_as_it_is(self):
        """Only masks that leave it out: neither optimizer nor weight decay touches it."""
        recipe = config.complete(self.recipe())
        team, dataset = run.Team(), train.Dataset(self.data, torch.device("cpu"))
        one = run.Run(recipe, dataset, config.network_of(recipe, dataset.description), team)
        one.step()
        before = {n: t.clone() for n, t in one.net.state_dict().items()}
        with unittest.mock.patch.object(run, "plan", lambda *_: run.Plan((16, 16), [False, True], [(0, 0)] * 2)):
            for _ in range(3):
                one.step()
        moved = {n for n, tensor in one.net.state_dict().items() if not torch.equal(tensor, before[n])}
        self.assertFalse({name for name in moved if name.startswith("model.0.")})
        self.assertTrue({name for name in moved if name.startswith("model.1.blocks.")})

    def test_learning_rates(self):
        recipe = config.complete(self.recipe(warmup=10, decay=0.5))
        self.assertAlmostEqual(run.rate(recipe, 0.0, 0), 0.1)
        self.assertEqual(run.rate(recipe, 0.4, 100), 1)
        self.assertAlmostEqual(run.rate(recipe, 0.75, 100), 0.5)
        self.assertEqual(run.rate(recipe, 1.0, 100), run.LOWEST_RATE)

    def test_muon_steps_are_orthogonal(self):
        """Singular values of about 1, of a fused qkv for each of its three maps."""
        torch.manual_seed(1)
        for shape, parts in (((64, 64), 1), ((256, 64), 1), ((64, 256), 1), ((192, 64), 3)):
            step = optimizer.direction(torch.randn(2, *shape))
            for piece in step.chunk(parts, 1):
                values = torch.linalg.svdvals(piece) / (0.2 * max(piece.shape[1:]) ** 0.5)
                self.assertGreater(float(values.min()), 0.3)
                self.assertLess(float(values.max()), 1.4)


if __name__ == "__main__":
    unittest.main()
