"""Half a minute of everything at once; bench/soak does it for half an hour and looks at memory, too."""
import os
import subprocess
import sys
import unittest

from support import ROOT, environment


class TestSoak(unittest.TestCase):
    def test_behaviour(self):
        result = subprocess.run([sys.executable, ROOT / "bench/soak/soak.py", "--minutes", "0.4", "--behaviour"],
                                env=environment({k: v for k, v in os.environ.items() if k == "BRICKWORK_BUILD"}),
                                capture_output=True, text=True, timeout=600, check=False)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)


if __name__ == "__main__":
    unittest.main()
