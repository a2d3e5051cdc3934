"""import_lego on pickles of the published checkpoints' structure, made here, and on harmful ones.

EDM's checkpoints pickle objects of classes with torch_utils.persistence: each is a call of
_reconstruct_persistent_obj with the class's source code, name and state. The classes below do the same.
"""
import collections
import hashlib
import io
import os
import pathlib
import pickle
import sys
import tempfile
import types
import unittest

import kit
import golden
import latents
import numpy as np
import torch
from PIL import Image
from support import COMMAND, run_program
from test_network import load
from torch import nn
from train import files, import_lego, network


def module(name, **contents):
    """A module of that name that can be imported while it is pickled."""
    sys.modules.setdefault(name.split(".")[0], types.ModuleType(name.split(".")[0]))
    made = types.ModuleType(name)
    vars(made).update(contents)
    sys.modules[name] = made
    for value in contents.values():
        value.__module__ = name
    return made


def _reconstruct_persistent_obj(meta):
    raise AssertionError("the pickle's source code was asked for")


class Persistent:
    """What torch_utils.persistence.persistent_class adds to a class."""

    def __reduce__(self):
        meta = {"type": "class", "version": 6, "module_src": "raise AssertionError('the source code was run')",
                "class_name": type(self).__name__, "state": dict(vars(self))}
        return _reconstruct_persistent_obj, (meta,), None


class EDMPrecond(Persistent, nn.Module):
    def __init__(self, model, resolution):
        super().__init__()
        self.img_resolution, self.sigma_data, self.model = resolution, 0.5, model


class LEGO(Persistent, nn.Module):
    """The network inside: bricks in `model`, embedders beside it, with position tables among the parameters."""

    def __init__(self, net):
        super().__init__()
        self.model, self.t_embedder, self.y_embedder = net.model, net.t_embedder, net.y_embedder
        for brick in self.model:
            table = brick.positions[None].clone()
            brick.pos_embed = nn.Parameter(table, requires_grad=False)
            del brick.positions


class EasyDict(dict):
    """dnnlib's."""


class Brick(nn.Module):
    """As the checkpoints name the plain modules: by class, without source."""


module("torch_utils.persistence", _reconstruct_persistent_obj=_reconstruct_persistent_obj)
module("training.networks", EDMPrecond=EDMPrecond, LEGO=LEGO, Brick=Brick)
module("dnnlib.util", EasyDict=EasyDict)

BRICKS = {"PG": [(4, 2, 1), (8, 4, 1), (16, 4, 2)], "PR": [(16, 4, 2), (8, 4, 1), (4, 2, 1)],
          "U": [(16, 4, 1), (8, 4, 1), (4, 2, 1), (8, 4, 1), (16, 4, 1)]}


def lego(stack, classes=3, channels=3):
    """A network with random weights everywhere."""
    torch.manual_seed(1)
    net = network.Lego({
        "image_size": 16, "channels": channels, "num_classes": classes, "hidden_size": 64, "num_heads": 2,
        "mlp_ratio": 4, "sigma_data": 0.5,
        "bricks": [{"size": size, "patch": patch, "depth": depth} for size, patch, depth in stack]})
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3 / max(parameter[0].numel(), 1) ** 0.5)
    return net


def as_published(net, forget=()):
    """The same network as objects of the published classes."""
    for one in net.modules():
        for plain in (network.Brick, network.Block, network.Attention, network.Mlp, network.FinalLayer,
                      network.PatchEmbedder, network.TimeEmbedder, network.ClassEmbedder):
            if type(one) is plain:  # pylint: disable=unidiomatic-typecheck
                if plain is network.Attention:
                    one.num_heads = one.heads
                for name in forget:
                    vars(one).pop(name, None)
                one.__class__ = Brick
    return EDMPrecond(LEGO(net), 16)


class ImportCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.pickle, self.model = self.folder / "lego.pkl", self.folder / "lego.safetensors"

    def write(self, value):
        self.pickle.write_bytes(pickle.dumps(value))

    def refused(self, message):
        with self.assertRaises(ValueError) as caught:
            import_lego.convert(self.pickle, "refused")
        self.assertIn(message, str(caught.exception))


class TestImport(ImportCase):
    def published(self, stack, forget=(), **how):
        """A checkpoint file; the network that it holds."""
        net = lego(stack, **how)
        weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        self.write({"ema": as_published(net, forget), "augment_pipe": None, "loss_fn": None,
                    "dataset_kwargs": EasyDict(path="imagenet", resolution=16)})
        same = lego(stack, **how)
        same.load_state_dict(weights)
        return same.requires_grad_(False)

    def check(self, net, *arguments):
        """Import by the command; the file computes in the engine what the network does."""
        output = kit.command("import_lego", self.pickle, self.model, "--f32", *arguments)
        self.assertIn("bricks, hidden size 64, 2 heads", output)
        shape = load(self.model).network
        for key in ("bricks", "image_size", "channels", "num_classes", "hidden_size", "num_heads", "mlp_ratio",
                    "sigma_data"):
            self.assertEqual(shape[key], net.network[key], key)
        random = np.random.default_rng(1)
        for _ in range(2):
            case = golden.random_case(random, shape)
            x = torch.from_numpy(golden.random_input(random, shape, case))
            want, got = kit.evaluate(net, case, x), kit.engine(self.model, case, x, self.folder)
            self.assertLessEqual(golden.distance(got["d"], want["d"]), 1e-5, case)

    def test_arrangements(self):
        for name, stack in BRICKS.items():
            with self.subTest(name):
                self.check(self.published(stack))

    def test_latents_without_classes(self):
        self.check(self.published(BRICKS["PG"], classes=0, channels=4))

    def test_a_decoder_is_named(self):
        """The file that comes out makes RGB of eight times the sides, with the decoder beside it and no other."""
        decoder, out = self.folder / latents.DECODER, self.folder / "out.png"
        decoder.write_bytes(latents.decoder())
        self.check(self.published(BRICKS["U"], channels=4), "--decoder", decoder)
        _, metadata = files.read_safetensors(self.model)
        self.assertEqual((metadata["decoder"], metadata["decoder_sha256"]),
                         (latents.DECODER, hashlib.sha256(decoder.read_bytes()).hexdigest()))
        made = run_program(COMMAND, "generate", "--model", self.model, "--steps", 1, "--out", out)
        self.assertEqual(made.returncode, 0, made.stderr)
        with Image.open(out) as picture:
            self.assertEqual((picture.size, picture.mode), ((128, 128), "RGB"))
        elsewhere = self.folder / "elsewhere"
        elsewhere.mkdir()
        decoder.rename(elsewhere / decoder.name)
        said = kit.command("import_lego", self.pickle, self.model, "--decoder", elsewhere / decoder.name)
        self.assertIn(f"{elsewhere / decoder.name} has to lie beside {self.model}", said)

    def test_decoders_that_are_refused(self):
        decoder = self.folder / "decoder.safetensors"
        self.published(BRICKS["PG"], channels=4)
        for data, message in ((latents.model(), "decoder.conv_in.weight is missing"), (b"", "no safetensors file"),
                              (b"\xff" * 9, "no safetensors file"), (b"\2" + bytes(7) + b"[]", "no safetensors file")):
            decoder.write_bytes(data)
            self.assertIn(message, kit.command("import_lego", self.pickle, self.model, "--decoder", decoder, status=1))
        decoder.write_bytes(latents.decoder())
        self.published(BRICKS["PG"])
        self.assertIn("3 channels has no use for a decoder",
                      kit.command("import_lego", self.pickle, self.model, "--decoder", decoder, status=1))
        self.assertFalse(self.model.exists())

    def test_class_names_and_heads_are_told(self):
        net = self.published(BRICKS["PG"], ["num_heads", "heads"])
        names = self.folder / "names.txt"
        names.write_text("Äpfel\npears\nplums\n", encoding="utf-8")
        self.assertIn("--heads does", kit.command("import_lego", self.pickle, self.model, status=1))
        self.check(net, "--heads", 2, "--classes", names, "--license", "CC-BY-4.0")
        self.assertEqual(load(self.model).network["classes"], ["Äpfel", "pears", "plums"])
        names.write_text("one\n")
        self.assertIn("1 class names for 3 classes",
                      kit.command("import_lego", self.pickle, self.model, "--heads", 2, "--classes", names, status=1))

    def test_half_precision_is_the_default(self):
        self.published(BRICKS["PG"])
        kit.command("import_lego", self.pickle, self.model)
        half = self.model.stat().st_size
        kit.command("import_lego", self.pickle, self.model, "--f32")
        self.assertGreater(self.model.stat().st_size, 1.9 * half)

    def test_other_positions_are_refused(self):
        net = lego(BRICKS["PG"])
        ema = as_published(net)
        ema.model.model[1].pos_embed.data.add_(0.01)
        self.write({"ema": ema})
        self.refused("positions other than sines and cosines")

    def test_a_missing_tensor_is_named(self):
        ema = as_published(lego(BRICKS["PG"]))
        del ema.model.model[1].blocks[0].mlp.fc2.bias
        self.write({"ema": ema})
        self.refused("model.1.blocks.0.mlp.fc2.bias")


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def inner(storage_object):
    """The bytes of a storage whose inner pickle is this object."""
    file = io.BytesIO()
    for value in (1, 1001, {}, storage_object, []):
        pickle.dump(value, file, 2)
    return file.getvalue()


class TestHarm(ImportCase):
    """Nothing that a pickle asks for happens, wherever in it the request is."""

    def setUp(self):
        super().setUp()
        self.trace = self.folder / "harm"
        self.harm = Call(os.system, f"touch {self.trace}")

    def test_the_harm_is_real(self):
        """What is refused below does happen with a plain unpickler."""
        pickle.loads(pickle.dumps(self.harm))
        self.assertTrue(self.trace.exists())

    def test_everywhere(self):
        places = {"the whole": self.harm, "ema": {"ema": self.harm}, "beside it": {"loss": self.harm, "ema": None},
                  "a state": {"ema": Call(_reconstruct_persistent_obj, {"class_name": "x", "state": {"a": self.harm}})},
                  "a key": {"ema": collections.OrderedDict([((self.harm,), 1)])}}
        for name, value in places.items():
            with self.subTest(name):
                self.write(value)
                self.refused("system, which is no part of a checkpoint")
                self.assertFalse(self.trace.exists())

    def test_inside_a_storage(self):
        """A storage holds pickles of its own, which torch.load would run."""
        self.write({"ema": Call(torch.storage._load_from_bytes, inner(self.harm))})
        self.refused("a storage names")
        self.assertFalse(self.trace.exists())

    def test_other_names(self):
        for function, arguments in ((eval, ("1",)), (exec, ("1",)), (getattr, (1, "real")), (open, ("x",)),
                                    (torch.load, ("x",)), (torch.save, (1, "x")), (np.load, ("x",)),
                                    (__import__, ("os",)), (pickle.loads, (b"N.",)), (torch.hub.load, ("x", "y"))):
            with self.subTest(function.__name__):
                self.write({"ema": Call(function, *arguments)})
                self.refused("which is no part of a checkpoint")

    def test_classes_of_the_network_are_inert(self):
        """A class of a trusted module can be called by a pickle, and nothing comes of it."""
        self.write({"ema": Call(nn.Linear, 10**9, 10**9)})  # would be 4 exabytes
        self.refused("no LEGO network")

    def test_persistent_source_is_not_run(self):
        self.write({"ema": EDMPrecond(nn.Identity(), 16)})
        self.refused("no LEGO network")

    def test_tensors_outside_their_storage(self):
        storage = torch.arange(6.0).storage()
        for offset, size, stride in ((0, (7,), (1,)), (2, (5,), (1,)), (-1, (2,), (1,)), (0, (3, 3), (2, 1)),
                                     (0, (2,), (-1,)), (0, (10**12,), (0,)), (6, (1,), (1,)), (0, (2, 2), (1,))):
            with self.subTest(f"{offset} {size} {stride}"):
                self.write({"ema": Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False,
                                        collections.OrderedDict())})
                self.refused("a tensor lies outside its storage")

    def test_broken_files(self):
        self.published = pickle.dumps({"ema": as_published(lego(BRICKS["PG"]))})
        for name, data in {"nothing": b"", "no pickle": b"GIF89a", "half": self.published[:len(self.published) // 2],
                           "a text": pickle.dumps("ema"), "a list": pickle.dumps([1]),
                           "nothing in it": pickle.dumps({})}.items():
            with self.subTest(name):
                self.pickle.write_bytes(data)
                self.refused(str(self.pickle))

    def test_every_truncation_and_many_mutations(self):
        """Whatever stands in the file, the import ends with a model or with a ValueError."""
        whole = pickle.dumps({"ema": as_published(lego([(16, 8, 1)], classes=0))})
        random = np.random.default_rng(1)
        for i in range(300):
            data = bytearray(whole[:int(random.integers(len(whole)))] if i % 3 == 0 else whole)
            for at in random.integers(0, max(len(data), 1), int(random.integers(1, 6))):
                if data:
                    data[at % min(len(data), 4000)] = random.integers(256)
            self.pickle.write_bytes(data)
            try:
                import_lego.convert(self.pickle, "mutated")
            except ValueError:
                pass


if __name__ == "__main__":
    unittest.main()
