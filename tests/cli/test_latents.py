"""The command line with models of latents: pictures of pixels, figures of the decoder, and clear words without one."""
import json
import pathlib
import struct
import sys
import tempfile
import unittest

import numpy as np
from PIL import Image

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
import latents  # noqa: E402
from support import COMMAND, run_program  # noqa: E402


class TestLatents(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.model, self.decoder = self.folder / latents.MODEL, self.folder / latents.DECODER
        self.decoder.write_bytes(latents.decoder())
        self.model.write_bytes(latents.model(decoder=latents.decoder()))

    def run_command(self, name, *options, status=0):
        result = run_program(COMMAND, name, "--model", self.model, *options)
        self.assertEqual(result.returncode, status, result.stderr)
        return result.stderr if status else result.stdout

    def test_generate(self):
        said = self.run_command("generate", "--n", 2, "--size", "96x64", "--steps", 2, "--seed", 1, "--out",
                                self.folder / "a.png")
        data = []
        for path in said.splitlines():
            with Image.open(path) as picture:
                self.assertEqual((picture.size, picture.mode), ((96, 64), "RGB"))
                self.assertIn("96x64", str(picture.info))
                data.append(picture.tobytes())
        self.assertEqual(len(set(data)), 2)
        again = self.run_command("generate", "--index", 1, "--size", "96x64", "--steps", 2, "--seed", 1, "--threads", 1,
                                 "--out", self.folder / "b.png").strip()
        with Image.open(again) as picture:
            self.assertEqual(picture.tobytes(), data[1])

    def test_generate_without_decoder(self):
        self.decoder.unlink()
        said = self.run_command("generate", "--out", self.folder / "a.png", status=1)
        self.assertEqual(said, f"brickwork: {self.decoder}: No such file or directory\n")
        self.model.write_bytes(latents.model())
        said = self.run_command("generate", "--out", self.folder / "a.png", status=2)
        self.assertEqual(said, f"brickwork: {self.model}: pictures of 4 channels need a decoder, and metadata "
                               '"decoder" names none\n')
        self.assertFalse((self.folder / "a.png").exists())

    def test_info(self):
        said = self.run_command("info")
        for text in ("pictures    64x64, 3 channels; sides of at least 64, multiples of 32", "latents     8x8, 4 channels",
                     f"decoder     {latents.DECODER}, sha-256 ", "37383 parameters"):
            self.assertIn(text, said)
        self.decoder.unlink()
        self.assertIn(f"not there: {self.decoder}: No such file", self.run_command("info"))
        self.model.write_bytes(latents.model())
        said = self.run_command("info")
        self.assertIn("pictures    8x8, 4 channels; sides of at least 8, multiples of 4", said)
        self.assertNotIn("decoder", said)

    def test_bench(self):
        quick = ("--seconds", 0.01, "--threads", 1)
        figures = json.loads(self.run_command("bench", *quick, "--json", "yes"))
        self.assertGreater(figures["decoder"]["gigaflops"], 0)
        self.assertGreater(figures["decoder"]["ms"], 0)
        self.model.write_bytes(latents.model())
        self.assertNotIn("decoding it", self.run_command("bench", *quick))

    def test_denoise(self):
        """Works on latents, and needs no decoder."""
        self.decoder.unlink()
        case, out = self.folder / "case.safetensors", self.folder / "out.safetensors"
        x = np.random.default_rng(1).standard_normal((4, 8, 12)).astype(np.float32)
        what = {"kind": "denoise", "size": [8, 12], "sigma": 1.0, "label": 1, "mask": 3 * [True],
                "shifts": 3 * [[0, 0]]}
        case.write_bytes(latents.file_bytes({"x": x}, {"case": json.dumps(what)}))
        self.run_command("denoise", "--case", case, "--out", out)
        data = out.read_bytes()
        header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
        self.assertEqual(header["d"]["shape"], [4, 8, 12])


if __name__ == "__main__":
    unittest.main()
