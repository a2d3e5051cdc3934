"""The units in deploy/systemd: systemd reads them without a word, and finds the service locked up well."""
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from support import PATIENCE_S, ROOT, SERVER

UNITS = ROOT / "deploy/systemd"
MOST_EXPOSURE = 15  # tenths, of 0..10; most services have more than 90


class TestUnits(unittest.TestCase):

    def setUp(self):
        """They name the program where it is installed; here it is elsewhere."""
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.units = []
        for path in UNITS.glob("*.s*"):
            self.units.append(self.folder / path.name)
            self.units[-1].write_text(path.read_text().replace("/usr/local/bin/brickworkd", str(SERVER)))
        self.assertEqual(len(self.units), 3)

    def analyze(self, *arguments):
        return subprocess.run(["systemd-analyze", *map(str, arguments)], capture_output=True, text=True,
                              timeout=PATIENCE_S, check=False)

    def test_they_are_understood(self):
        result = self.analyze("verify", "--man=no", *self.units)
        self.assertEqual((result.returncode, result.stdout + result.stderr), (0, ""))

    def test_the_service_is_locked_up(self):
        result = self.analyze("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE}",
                              self.folder / "brickwork.service")
        self.assertEqual(result.returncode, 0, result.stdout[-300:] + result.stderr)


if __name__ == "__main__":
    unittest.main()
