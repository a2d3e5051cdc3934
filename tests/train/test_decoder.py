"""The engine's decoder against the same network in PyTorch, through `brickwork decode`."""
import pathlib
import re
import tempfile
import unittest

import kit
import autoencoder
import torch
from PIL import Image
from support import COMMAND, run_program
from train import files

LIMIT = 1e-4  # relative RMS of float kernels
STEPS = {"rms": 0.5, "most": 4}  # of 8 bits, of bfloat16; the figures are in the failure
FLOATS = ["avx512", "avx2", "portable"]
PATIENCE_S = 600


def write_decoder(path, net, old=False, dtype=torch.float16):
    """Its file; `old` with the names and shapes of the attention that older files have."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, tensor in net.state_dict().items():
        match = re.fullmatch(r"(decoder\.mid_block\.attentions\.0\.)(to_\w+(?:\.0)?)\.(weight|bias)", name)
        if match and old:
            name = f"{match[1]}{names[match[2]]}.{match[3]}"
            tensor = tensor[:, :, None, None] if match[3] == "weight" else tensor
        tensors[name] = tensor.to(dtype)
    files.write_safetensors(path, tensors, {"norm_num_groups": str(net.decoder.conv_norm_out.num_groups),
                                            "scaling_factor": str(net.scaling)})


class TestDecoder(unittest.TestCase):

    def decode(self, folder, *options, cpu=None):
        """(picture as it is in the file, relative RMS, RMS in steps, most steps)"""
        out = folder / "out.png"
        result = run_program(COMMAND, "decode", "--decoder", folder / "decoder.safetensors",
                             "--latent", folder / "latent.safetensors", "--check", folder / "image.safetensors",
                             "--out", out, *options, env={"BRICKWORK_CPU": cpu} if cpu else None, timeout=PATIENCE_S)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        numbers = re.search(r"relative RMS (\S+); in steps of 8 bits RMS (\S+), at most (\S+)\n", result.stdout)
        self.assertIsNotNone(numbers, result.stdout)
        return Image.open(out).copy(), *map(float, numbers.groups())

    def prepare(self, folder, net, width, height, old=False):
        """Files for a latent picture of that size; what PyTorch makes of it, as bytes."""
        for p in net.parameters():
            p.data = p.half().float()  # what the file holds
        latent = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(2)) * net.scaling * 4
        image = net(latent)
        write_decoder(folder / "decoder.safetensors", net, old)
        files.write_safetensors(folder / "latent.safetensors", {"latent": latent[0]}, {})
        files.write_safetensors(folder / "image.safetensors", {"image": image[0].contiguous()}, {})
        return autoencoder.rgb(image)

    def compare(self, net, width, height, cpus, old=False):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            want = self.prepare(folder, net, width, height, old)
            for cpu in cpus:
                with self.subTest(cpu=cpu):
                    picture, relative, _, _ = self.decode(folder, "--precision", "f32", cpu=cpu)
                    got = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(want.shape)
                    self.assertEqual(picture.size, (8 * width, 8 * height))
                    self.assertLessEqual(relative, LIMIT)
                    self.assertLessEqual((got.int() - want.int()).abs().max().item(), 1)
            with self.subTest("as chosen"):
                _, _, rms, most = self.decode(folder)
                self.assertLess(rms, STEPS["rms"])
                self.assertLess(most, STEPS["most"])

    def test_tiny(self):
        net = autoencoder.randomise(autoencoder.Autoencoder((16, 32, 48, 64), 2, 8), 1)
        self.compare(net, 11, 7, FLOATS)

    def test_old_names_and_another_scale(self):
        net = autoencoder.randomise(autoencoder.Autoencoder((32, 32, 64, 64), 1, 16, 0.13025), 2)
        self.compare(net, 5, 9, [None], old=True)

    def test_true_shape(self):
        net = autoencoder.randomise(autoencoder.Autoencoder(), 3)
        self.assertEqual(sum(p.numel() for p in net.parameters()), 49_490_199)
        self.compare(net, 32, 32, [None])


if __name__ == "__main__":
    torch.set_num_threads(2)
    unittest.main()
