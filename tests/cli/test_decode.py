"""brickwork decode with a decoder of random weights, and with files it cannot use."""
import json
import pathlib
import random
import re
import struct
import sys
import tempfile
import unittest

from PIL import Image

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from support import COMMAND, ROOT, TINY, run_program  # noqa: E402

SEED = ROOT / "tests/fuzz/seeds/decoder/changing"  # the header of a decoder


def tensors(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def decoder():
    """Weights of -1/8 to 1/8 in bfloat16."""
    header = json.loads(SEED.read_bytes())
    count = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__") // 2
    source = random.Random(4)
    floats = struct.pack(f"<{count}f", *(source.uniform(-0.125, 0.125) for _ in range(count)))
    return tensors(header, b"".join(floats[i + 2:i + 4] for i in range(0, len(floats), 4)))


def one(name, shape, dtype="F32", value=0.5):
    count = 1
    for side in shape:
        count *= side
    body = struct.pack(f"<{count}f", *[value] * count) if dtype == "F32" else bytes(count)
    return tensors({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, len(body)]}}, body)


class TestDecode(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "out.png"
        for name, data in [("decoder", decoder()), ("latent", one("latent", [4, 3, 5])),
                           ("image", one("image", [3, 24, 40]))]:
            (self.folder / name).write_bytes(data)

    def run_decode(self, *options):
        return run_program(COMMAND, "decode", "--decoder", self.folder / "decoder", "--latent",
                           self.folder / "latent", "--out", self.out, *options)

    def refused(self, status, reason, *options):
        result = self.run_decode(*options)
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        self.assertRegex(result.stderr, r"^brickwork: [^\n]+\n$")
        self.assertIn(reason, result.stderr)
        self.assertFalse(self.out.exists())

    def test_a_picture(self):
        """Of the right size, the same whatever the threads, and what is said of it."""
        result = self.run_decode("--threads", "1", "--check", self.folder / "image")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        digest = run_program("sha256sum", self.folder / "decoder").stdout.split()[0]
        self.assertIn(digest, result.stdout)
        self.assertRegex(result.stdout, r"picture     40x24 in [\d.]+ ms, [\d.]+ GFLOP, [\d.]+ MiB")
        self.assertRegex(result.stdout, r"relative RMS [\d.e-]+; in steps of 8 bits RMS [\d.]+, at most [\d.]+\n")
        with Image.open(self.out) as picture:
            self.assertEqual((picture.size, picture.mode), ((40, 24), "RGB"))
        first = self.out.read_bytes()
        result = self.run_decode("--threads", "3")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertNotIn("difference", result.stdout)
        self.assertEqual(self.out.read_bytes(), first)

    def test_decoders(self):
        path = self.folder / "decoder"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        self.refused(1, "past the end")
        path.write_bytes(TINY.read_bytes())
        self.refused(1, f"{path}: tensor \"decoder.conv_in.weight\" is missing")
        path.unlink()
        self.refused(1, f"{path}: No such file")

    def test_latents(self):
        path = self.folder / "latent"
        for data in [one("x", [4, 3, 5]), one("latent", [3, 3, 5]), one("latent", [4, 0, 5]),
                     one("latent", [4, 15]), one("latent", [4, 3, 5], "U8"), one("latent", [4, 1, 1025])]:
            path.write_bytes(data)
            self.refused(1, f"{path}: no float tensor \"latent\" of [4,height,width]")

    def test_options(self):
        self.refused(2, "--precision", "--precision", "f64")
        self.refused(2, "--threads", "--threads", "0")
        self.refused(2, "--colour", "--colour", "red")
        for missing in ["decoder", "latent", "out"]:
            arguments = [f"--{name}=x" for name in ["decoder", "latent", "out"] if name != missing]
            result = run_program(COMMAND, "decode", *arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn("decode needs --decoder, --latent and --out", result.stderr)
        result = run_program(COMMAND, "decode", "--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertTrue(re.match("usage: brickwork decode --decoder FILE", result.stdout))

    def test_recordings(self):
        """The picture is made, but not compared."""
        (self.folder / "image").write_bytes(one("image", [24, 40, 3]))
        result = self.run_decode("--check", self.folder / "image")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no float tensor \"image\" of [3,24,40]", result.stderr)
        (self.folder / "image").write_bytes(one("image", [3, 24, 40], value=float("nan")))
        self.assertIn("at most nan\n", self.run_decode("--check", self.folder / "image").stdout)

    def test_where_nothing_can_be_written(self):
        result = run_program(COMMAND, "decode", "--decoder", self.folder / "decoder", "--latent",
                             self.folder / "latent", "--out", self.folder / "none" / "out.png")
        self.assertEqual(result.returncode, 1)
        self.assertIn("out.png: cannot be written", result.stderr)


if __name__ == "__main__":
    unittest.main()
