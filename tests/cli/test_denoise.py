"""brickwork denoise with files it cannot use: it says which and why, and writes nothing."""
import json
import os
import pathlib
import struct
import sys
import tempfile
import threading
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from scarce import PROGRAM, Scarce  # noqa: E402
from support import COMMAND, ROOT, SANITIZED, TINY, run_program  # noqa: E402

GOOD = ROOT / "tests/golden/tiny-pg-32/denoise-full.safetensors"
SAMPLE = ROOT / "tests/golden/tiny-pg-32/sample-dpmpp-6.safetensors"


def split(path):
    """(header as an object, the bytes after it) of a safetensors file."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), data[8 + length:]


def join(header, body):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class TestBrokenCases(unittest.TestCase):

    def refused(self, data, status, reason):
        with tempfile.TemporaryDirectory() as folder:
            case, out = pathlib.Path(folder, "case"), pathlib.Path(folder, "out")
            case.write_bytes(data)
            result = run_program(COMMAND, "denoise", "--model", TINY, "--case", case, "--out", out)
            self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
            self.assertRegex(result.stderr, r"^brickwork: [^\n]+\n$")
            self.assertIn(reason, result.stderr)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [case])

    def test_files(self):
        header, body = split(GOOD)
        whole = GOOD.read_bytes()
        self.refused(b"", 1, "shorter than")
        self.refused(whole[:-1], 1, "past the end")
        self.refused(whole + b"x", 1, "belong to none")
        self.refused(b"\xff" * 100, 1, "absurdly large")
        self.refused(whole[:8] + b"[" * (len(whole) - 8), 1, "not JSON")
        self.refused(join({**header, "__metadata__": {}}, body), 1, "no metadata \"case\"")
        self.refused(join({**header, "__metadata__": []}, body), 1, "__metadata__")
        self.refused(join({**header, "x": {**header["x"], "dtype": "F64"}}, body), 1, "dtype")
        self.refused(join({**header, "x": {**header["x"], "shape": [3, 32, 33]}}, body), 1, "match")
        self.refused(join({**header, "x": {**header["x"], "shape": [3, 1024]}}, body), 1, "\"x\"")
        header["y"] = header.pop("x")
        self.refused(join(header, body), 1, "no float tensor \"x\"")

    def test_parameters(self):
        header, body = split(GOOD)
        good = json.loads(header["__metadata__"]["case"])
        for change, reason in [
                ({"kind": "dream"}, "kind"), ({"size": [32]}, "size"), ({"size": [0, 32]}, "size"),
                ({"size": [33, 32]}, "cannot tile"), ({"size": [8192, 32]}, "size"),
                ({"label": 10}, "label"), ({"label": -2}, "label"), ({"sigma": 0}, "sigma"),
                ({"sigma": "1"}, "sigma"), ({"mask": [True, True]}, "mask"),
                ({"mask": [False] * 3}, "mask"), ({"mask": [1, 1, 1]}, "mask"),
                ({"shifts": [[0, 0]]}, "shifts"), ({"shifts": [[0, 0], [0], [0, 0]]}, "shifts"),
                ({"colour": 1}, "colour"), ({"steps": 0}, "steps"), ({"guidance": -1}, "guidance"),
                ({"solver": "ddim"}, "solver")]:
            with self.subTest(str(change)):
                header["__metadata__"]["case"] = json.dumps({**good, **change})
                self.refused(join(header, body), 2, reason)

    def test_parameters_that_are_missing(self):
        for path, names in [(GOOD, ["size", "sigma", "mask"]), (SAMPLE, ["steps", "size"])]:
            header, body = split(path)
            good = json.loads(header["__metadata__"]["case"])
            for name in names:
                header["__metadata__"]["case"] = json.dumps(
                    {k: v for k, v in good.items() if k != name})
                self.refused(join(header, body), 2, name)

    def test_sample_with_wrong_masks(self):
        header, body = split(SAMPLE)
        good = json.loads(header["__metadata__"]["case"])
        header["__metadata__"]["case"] = json.dumps({**good, "masks": [[True, True, True]] * 5})
        self.refused(join(header, body), 2, "5 masks for 6 steps")

    def test_not_json(self):
        header, body = split(GOOD)
        header["__metadata__"]["case"] = "{"
        self.refused(join(header, body), 1, "not valid JSON")

    def test_no_kind_at_all(self):
        """A case has to say what it is; taking it for a denoise case would be a guess."""
        header, body = split(GOOD)
        case = json.loads(header["__metadata__"]["case"])
        del case["kind"]
        header["__metadata__"]["case"] = json.dumps(case)
        self.refused(join(header, body), 2, "kind")

    def test_place_that_cannot_be_written(self):
        result = run_program(COMMAND, "denoise", "--model", TINY, "--case", GOOD, "--out",
                             "/nonexistent/out")
        self.assertEqual(result.returncode, 1)
        self.assertIn("/nonexistent/out: cannot be written", result.stderr)

    def denoise(self, out, **settings):
        return run_program(COMMAND, "denoise", "--model", TINY, "--case", GOOD, "--out", out, **settings)

    def test_beside_other_files(self):
        """None is touched but the one that was named, and what is no regular file stays what it is."""
        with tempfile.TemporaryDirectory() as folder:
            out, beside, link, pipe = (pathlib.Path(folder, name) for name in ("out", "out.tmp", "link", "pipe"))
            beside.write_text("kept")
            link.symlink_to(pathlib.Path(folder, "target"))
            os.mkfifo(pipe)
            self.assertEqual(self.denoise(out).returncode, 0)
            self.assertEqual(self.denoise(link).returncode, 0)
            received = []
            reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
            reader.start()
            self.assertEqual(self.denoise(pipe).returncode, 0)
            reader.join()
            self.assertEqual(received, [out.read_bytes()])
            self.assertEqual(pathlib.Path(folder, "target").read_bytes(), out.read_bytes())
            self.assertTrue(link.is_symlink() and pipe.is_fifo())
            self.assertEqual((beside.read_text(), len(os.listdir(folder))), ("kept", 5))

    @unittest.skipIf(SANITIZED, "sanitizers bring their own allocators")
    def test_without_memory(self):
        """What is written is whole: the allocations of its writing, and some before, fail in turn."""
        scarce = Scarce()
        self.addCleanup(scarce.close)
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "out")
            self.assertEqual(self.denoise(out, env=scarce.environment).returncode, 0)
            good, failed = out.read_bytes(), 0
            count = scarce.modules()[PROGRAM][1]
            for number in range(count - 150, count + 1):
                out.unlink(missing_ok=True)
                scarce.arm(number, only=PROGRAM)
                status = self.denoise(out, env=scarce.environment).returncode
                failed += status != 0
                self.assertEqual(out.exists() and out.read_bytes(), good if status == 0 else False, number)
            self.assertGreater(failed, 0)

    def test_strange_numbers_in_the_input(self):
        """NaN and infinity travel through the network without harm to the program."""
        header, body = split(GOOD)
        start, end = header["x"]["data_offsets"]
        bad = struct.pack("<3f", float("nan"), float("inf"), -3e38)
        data = join(header, body[:start] + bad + body[start + len(bad):])
        self.assertEqual(end - start, 4 * 3 * 32 * 32)
        with tempfile.TemporaryDirectory() as folder:
            case, out = pathlib.Path(folder, "case"), pathlib.Path(folder, "out")
            case.write_bytes(data)
            result = run_program(COMMAND, "denoise", "--model", TINY, "--case", case, "--out", out)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(set(split(out)[0]), set(header))


if __name__ == "__main__":
    unittest.main()
