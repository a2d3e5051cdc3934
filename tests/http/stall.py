"""The other side of stall.c: a thread that writes a JPEG stands still, or ends, when a test says so."""
import pathlib
import tempfile
import time

from support import BUILD, ask, wait_until


class Stall:
    """For a program started with `environment`, until close()."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.file = pathlib.Path(self.folder.name) / "stall"
        self.environment = {"STALL": str(self.file), "LD_PRELOAD": str(BUILD / "stall.so")}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.folder.cleanup()  # whoever stands still goes on

    def arm(self, what="wait"):
        """Whoever writes a JPEG from now on waits, or ends."""
        self.file.write_text(what)

    def wait_for(self):
        """Wait until somebody stands still."""
        wait_until(lambda: self.file.read_text() == "stands", "a picture that is written")

    def release(self):
        self.file.unlink()

    def miss(self, server, deadline_ms):
        """Release the picture that was asked for with that deadline when it is over."""
        self.wait_for()
        time.sleep(deadline_ms / 1e3)
        for _ in range(2):  # the second answer comes after the timers that were due at the first
            ask(server, "GET", "/livez")
        self.release()
