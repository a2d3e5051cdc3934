"""SECURITY.md says what is so: its table of limits is what the program does without settings."""
import re
import subprocess
import unittest

from support import ROOT, SERVER, environment

TEXT = (ROOT / "SECURITY.md").read_text()
MEANT_FOR_CLIENTS = {"listen", "connections", "request-timeout-ms", "max-body-bytes", "max-area", "queue", "queue-ms",
                     "keys-file", "trusted-proxies", "cors-origins", "webhook-allow", "jobs-keep-s", "jobs-bytes"}


def constant(file, name):
    """The value of an enum's constant that is a plain number."""
    return int(re.search(rf"\b{name} = (\d+)", (ROOT / file).read_text())[1])


class TestSecurity(unittest.TestCase):
    def settings(self):
        run = subprocess.run([SERVER, "--check-config"], env=environment(), capture_output=True, text=True, check=True)
        return dict(line.split(" = ") if " = " in line else (line.removesuffix(" ="), "")
                    for line in run.stdout.splitlines())

    def test_limits(self):
        rows = dict(re.findall(r"^\| `([a-z-]+)` \| `?([^`|]*?)`? \|", TEXT, re.M))
        settings = self.settings()
        self.assertEqual(set(rows), MEANT_FOR_CLIENTS)
        for name, value in rows.items():
            with self.subTest(name):
                self.assertEqual("" if value == "empty" else value, settings[name])

    def test_fixed_limits(self):
        for file, name, phrase in [("server/http.h", "BW_PATH_LIMIT", "a path has {} bytes at most"),
                                   ("server/http.h", "BW_HEADERS_LIMIT", "the header fields {} together"),
                                   ("server/http.c", "SPARE_CONNECTIONS", "up to {} more while others make room")]:
            self.assertIn(phrase.format(constant(file, name)), TEXT)
        self.assertEqual(constant("server/http.c", "CONNECTION_MEMORY_BYTES"), 32 << 10)
        self.assertIn("each has 32 KiB at most", TEXT)

    def test_files_are_there(self):
        for name in re.findall(r"`((?:tests|bench|server)/[\w./]+)`", TEXT):
            self.assertTrue((ROOT / name).exists(), name)


if __name__ == "__main__":
    unittest.main()
