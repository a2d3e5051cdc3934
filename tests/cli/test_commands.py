"""How the command line is called, and how it answers to being called wrongly."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from support import COMMAND, PATIENCE_S, POMOLOGY, TINY, environment, run_program  # noqa: E402

NAMES = ["generate", "info", "denoise"]


class TestCommands(unittest.TestCase):

    def assert_usage(self, result, message):
        """Called wrongly: status 2, one line on standard error, nothing on standard output."""
        self.assertEqual((result.returncode, result.stdout), (2, ""), result.stderr)
        self.assertIn(message, result.stderr)
        self.assertRegex(result.stderr, r"^brickwork: [^\n]+\n$")

    def test_help(self):
        for flag in ["--help", "help"]:
            result = run_program(COMMAND, flag)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            for name in NAMES:
                self.assertIn(f"\n  {name} ", result.stdout)

    def test_help_of_each_command(self):
        for name in NAMES:
            for flags in [["--help"], ["--model", "unread", "--help", "--and", "so on"]]:
                result = run_program(COMMAND, name, *flags)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                self.assertTrue(result.stdout.startswith(f"usage: brickwork {name} "))
                self.assertIn("--model FILE", result.stdout)

    def test_version(self):
        self.assertRegex(run_program(COMMAND, "--version").stdout, r"^brickwork \d+\.\d+\.\d+\n$")

    def test_unknown_commands(self):
        self.assert_usage(run_program(COMMAND), "a command is missing")
        self.assert_usage(run_program(COMMAND, "serve"), "no command \"serve\"")
        self.assert_usage(run_program(COMMAND, ""), "no command \"\"")

    def test_what_is_printed_has_to_arrive(self):
        for words in (["info", "--model", TINY], ["--version"], ["generate", "--help"]):
            with open("/dev/full", "w") as full:
                result = subprocess.run([str(word) for word in (COMMAND, *words)], stdout=full, stderr=subprocess.PIPE,
                                        env=environment(), text=True, timeout=PATIENCE_S, check=False)
            self.assertEqual((result.returncode, result.stderr),
                             (1, "brickwork: standard output: No space left on device\n"))

    def test_choices(self):
        for command, option, words in [("bench", "json", "no or yes"), ("load", "json", "no or yes"),
                                       ("generate", "comments", "off or on")]:
            self.assert_usage(run_program(COMMAND, command, f"--{option}=maybe"),
                              f'--{option}: "maybe" is not {words}')

    def test_unknown_options(self):
        for name in NAMES:
            self.assert_usage(run_program(COMMAND, name, "--colour", "red"), "--colour")
            self.assert_usage(run_program(COMMAND, name, "red"), "\"red\" is not an option")
            self.assert_usage(run_program(COMMAND, name, "--model"), "--model needs a value")
        self.assert_usage(run_program(COMMAND, "denoise", "--case", "x"), "--case and --out")

    def test_values_that_are_refused(self):
        """The service's own words, with the option's name in front."""
        cases = [("steps", "0"), ("steps", "257"), ("steps", "1.5"), ("steps", "x"), ("steps", ""),
                 ("steps", "+5"), ("steps", "007"), ("n", "9"), ("n", "-1"), ("n", "1.5"),
                 ("seed", "-1"), ("seed", "9007199254740992"), ("seed", "99999999999999999999"),
                 ("seed", "0x10"), ("index", "4294967288"), ("guidance", "21"),
                 ("guidance", "nan"), ("guidance", "inf"), ("guidance", "."), ("size", "33x32"),
                 ("size", "128"), ("size", "axb"), ("solver", "ddim"), ("format", "gif"),
                 ("quality", "0"), ("comments", "yes"), ("comments", ""),
                 ("class", "durians"), ("class", "10"), ("class", "-1"), ("class", "1.5"), ("skip", "some"), ("skip", "{"), ("skip", "{\"t_break\":2}"),
                 ("skip", "{\"schedule\":[{\"until\":1,\"skip\":[7]}]}"), ("threads", "0"),
                 ("threads", "257"), ("threads", "two"), ("class", "\udcff")]
        for option, value in cases:
            with self.subTest(**{option: value}), tempfile.TemporaryDirectory() as folder:
                out = pathlib.Path(folder, "a.jpg")
                result = run_program(COMMAND, "generate", "--model", TINY, "--out", out,
                                     f"--{option}={value}")
                self.assert_usage(result, option)
                self.assertFalse(out.exists())

    def test_precision(self):
        result = run_program(COMMAND, "denoise", "--case", "x", "--out", "y", "--precision", "f64")
        self.assert_usage(result, "--precision")

    def test_files_that_are_missing(self):
        """That is failure, status 1, not wrong usage."""
        for name in NAMES:
            options = ["--case", "/nonexistent", "--out", "/nonexistent/out"]
            result = run_program(COMMAND, name, "--model", "/nonexistent",
                                 *(options if name == "denoise" else []))
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn("/nonexistent: No such file", result.stderr)


class TestInfo(unittest.TestCase):

    def test_default_model(self):
        result = run_program(COMMAND, "info")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        digest = run_program("sha256sum", POMOLOGY).stdout.split()[0]
        for text in ["pomology-128\n", digest, "13 other fruits and nuts", "0 apples", "global",
                     "skip loss   measured", "128x128"]:
            self.assertIn(text, result.stdout)

    def test_model_without_classes(self):
        result = run_program(COMMAND, "info", "--model", TINY.with_name("tiny-pr-32.safetensors"))
        self.assertIn("none (unconditional)", result.stdout)
        self.assertIn("skip loss   not measured", result.stdout)


class TestBench(unittest.TestCase):

    def figure(self, *options):
        result = run_program(COMMAND, "bench", "--model", TINY, "--batch", 2, "--threads", 1, "--seconds", 0.01,
                             *options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return json.loads(result.stdout)

    def test_one_figure(self):
        self.assertGreater(self.figure(), 0)

    def test_one_figure_for_machines(self):
        told = self.figure("--json", "yes")
        self.assertEqual(set(told), {"kernels", "parameters", "load_ms", "evaluation", "peak_rss_mib"})
        evaluation = told["evaluation"]
        self.assertEqual((told["parameters"], evaluation["threads"], evaluation["batch"], evaluation["bricks"]),
                         (320664, 1, 2, "111"))
        self.assertAlmostEqual(evaluation["ms_per_picture"], evaluation["ms"] / 2, 3)

    def test_memory_is_its_own(self):
        """Not that of the process that has started it."""
        ours = bytearray(500 << 20)
        ours[::4096] = bytes(len(ours[::4096]) * [1])
        self.assertLess(0, self.figure("--json", "yes")["peak_rss_mib"])
        self.assertLess(self.figure("--json", "yes")["peak_rss_mib"], 400)


if __name__ == "__main__":
    unittest.main()
