"""brickwork generate: which files it writes, and what it says meanwhile."""
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import unittest

from PIL import Image

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from support import COMMAND, PATIENCE_S, TINY, environment, run_program  # noqa: E402


class TestGenerate(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def generate(self, *options, out):
        """Run it, which has to work; the files it says it wrote."""
        result = run_program(COMMAND, "generate", "--model", TINY, "--steps", 2, *options,
                             "--out", self.folder / out)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.said = result.stderr
        files = [pathlib.Path(line) for line in result.stdout.splitlines()]
        self.assertEqual(sorted(files), sorted(self.folder.iterdir()), "it names what it writes")
        return files

    def decode(self, path):
        with Image.open(path) as picture:
            picture.load()
            return picture.format, picture.size

    def test_one(self):
        files = self.generate("--class", "class 3", out="a.jpg")
        self.assertEqual([f.name for f in files], ["a.jpg"])
        self.assertEqual(self.decode(files[0]), ("JPEG", (32, 32)))

    def test_several(self):
        files = self.generate("--n", 3, "--size", "32x48", out="b.png")
        self.assertEqual([f.name for f in files], ["b-0.png", "b-1.png", "b-2.png"])
        self.assertEqual({self.decode(f) for f in files}, {("PNG", (32, 48))})
        self.assertEqual(len({f.read_bytes() for f in files}), 3)

    def test_names(self):
        """The extension is that of the file's name, not of its folder's."""
        (self.folder / "v1.2").mkdir()
        run_program(COMMAND, "generate", "--model", TINY, "--steps", 1, "--n", 2, "--out",
                    self.folder / "v1.2" / "c")
        self.assertEqual(sorted(f.name for f in (self.folder / "v1.2").iterdir()), ["c-0", "c-1"])

    def test_formats(self):
        """--format counts before the ending of the name."""
        for out, options, expected in [("d.PNG", [], "PNG"), ("d.jpeg", [], "JPEG"),
                                       ("d.webp", [], "WEBP"), ("d.jpg", ["--format=webp"], "WEBP"),
                                       ("d", [], "JPEG"), ("d.png", ["--format=jpeg"], "JPEG"),
                                       ("d.jpg", ["--format=png"], "PNG")]:
            files = self.generate(*options, out=out)
            self.assertEqual(self.decode(files[0])[0], expected)
            files[0].unlink()

    def test_default_name(self):
        result = subprocess.run([COMMAND, "generate", "--model", TINY, "--steps", "1"],
                                cwd=self.folder, env=environment(), capture_output=True, text=True,
                                timeout=PATIENCE_S, check=False)
        self.assertEqual((result.returncode, result.stdout), (0, "picture.jpg\n"), result.stderr)

    def test_says_how_to_make_it_again(self):
        """The report on standard error holds a request whose fields are options."""
        options = ["--class=2", "--skip={\"t_break\":0.5}", "--solver=heun"]
        first = self.generate(*options, out="e.png")[0].read_bytes()
        request = json.loads(self.said[self.said.index("{"):])
        self.assertEqual((request["class"], request["steps"]), ("class 2", 2))
        del request["model"]
        again = [f"--{name}={value if isinstance(value, str) else json.dumps(value)}"
                 for name, value in request.items()]
        self.assertEqual(self.generate(*again, out="e.png")[0].read_bytes(), first)

    def test_random_seed(self):
        first = self.generate(out="f.png")[0].read_bytes()
        self.assertNotEqual(self.generate(out="f.png")[0].read_bytes(), first)

    def test_threads_change_nothing(self):
        files = [self.generate("--seed=4", f"--threads={n}", out="g.png")[0].read_bytes()
                 for n in (1, 2, 3)]
        self.assertEqual(files[1:], files[:-1])

    def test_what_a_server_refuses(self):
        """Before anything is computed; and what only a server can do."""
        for options, reason in [(["--size", "16512x128", "--format", "webp"], "size: WebP has sides of 16383 pixels"),
                                (["--size", "65536x64"], "size: JPEG has sides of 65500 pixels"),
                                (["--skip", "auto"], "skip: auto is for a server")]:
            result = run_program(COMMAND, "generate", "--model", TINY, "--steps", 256, *options, "--out",
                                 self.folder / "a")
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertIn(f"brickwork: {reason}", result.stderr)
            self.assertEqual(list(self.folder.iterdir()), [])

    def test_place_that_cannot_be_written(self):
        for out in [self.folder / "none" / "a.jpg", self.folder]:
            result = run_program(COMMAND, "generate", "--model", TINY, "--steps", 1, "--out", out)
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn("cannot be written", result.stderr)

    def test_progress_only_on_a_terminal(self):
        self.generate(out="h.jpg")
        self.assertNotIn("\r", self.said)
        self.assertEqual(self.said.count("\n"), 1)
        text = self.on_a_terminal("--steps", "3", "--out", str(self.folder / "h.jpg"))
        self.assertEqual(re.findall(r"step (\d)/3", text), ["0", "1", "2", "3"])
        self.assertIn("[" + 40 * "#" + "] step 3/3", text)

    def on_a_terminal(self, *options):
        """What generate writes to standard error if that is a terminal."""
        ours, theirs = pty.openpty()
        with subprocess.Popen([COMMAND, "generate", "--model", TINY, *options], stderr=theirs,
                              stdout=subprocess.DEVNULL, env=environment()) as process:
            os.close(theirs)
            text = b""
            try:
                while piece := os.read(ours, 4096):
                    text += piece
            except OSError:  # how a terminal says that its other end is closed
                pass
            self.assertEqual(process.wait(PATIENCE_S), 0)
        os.close(ours)
        return text.decode()


if __name__ == "__main__":
    unittest.main()
