"""The widths of the published checkpoints, 16 heads of 64 and of 72 and 1000 classes, in stacks of few blocks: every set of
kernels of the engine against PyTorch. `make prove-large` does it at full depth."""
import pathlib
import tempfile
import unittest

import kit
import golden
import numpy as np
import published
from support import BUILD, run_program

LIMITS = {"f32": 1e-5, "bf16": 1e-2}
BF16 = ("amx", "avx512bf16")


def kernel_sets():
    """{name: precision} of those that this CPU can run."""
    names = run_program(BUILD / "unit/kernels", "sets").stdout.split()
    return {name: "bf16" if name in BF16 else "f32" for name in names}


class TestWidths(unittest.TestCase):
    def compare(self, lego):
        random = np.random.default_rng(golden.SEED)
        sets = kernel_sets()
        self.assertIn("portable", sets)
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder, "model.safetensors")
            published.write(model, lego, golden.SEED)
            case, x = published.case(lego, random)
            want = kit.evaluate(published.load(model), case, x)
            for name, precision in sets.items():
                got = kit.engine(model, case, x, pathlib.Path(folder), precision, name)
                for tensor, values in want.items():
                    self.assertLessEqual(golden.distance(got[tensor], values), LIMITS[precision],
                                         f"{name} {tensor}, BRICKWORK_TEST_SEED={golden.SEED}")

    def test_l(self):
        self.compare(published.shape("L", "PG", 64, depth=4))

    def test_xl_of_latents(self):
        """Three bricks of the five; the last of them has tiles of four tokens."""
        lego = published.shape("XL", "U", 32, channels=4, depth=4)
        self.compare({**lego, "bricks": lego["bricks"][:3]})


if __name__ == "__main__":
    unittest.main()
