"""A real redis-server on a free port of loopback, and a few words of its protocol."""
import os
import socket
import subprocess
import tempfile

from support import wait_until


class Redis:
    """Runs until stop(); with `durable` what was written survives kill(), and start() goes on with it."""

    def __init__(self, *flags, durable=False, password=None):
        self.folder = tempfile.TemporaryDirectory()
        self.flags, self.durable, self.password = flags, durable, password
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = None

    def url(self, login="", path=""):
        return f"redis://{login}127.0.0.1:{self.port}{path}"

    def start(self):
        flags = ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder.name, "--save", "",
                 "--logfile", os.path.join(self.folder.name, "log"),
                 *(("--appendonly", "yes", "--appendfsync", "always") if self.durable else ()),
                 *(("--requirepass", self.password) if self.password else ()), *self.flags]
        self.process = subprocess.Popen(["redis-server", *map(str, flags)], stdout=subprocess.DEVNULL)
        wait_until(self.is_there, "redis-server")
        return self

    def is_there(self):
        try:
            return self.ask("PING") == "PONG"
        except (OSError, RuntimeError):  # not yet, or not all that was written is read yet
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self):
        if self.process:
            self.kill()
        self.folder.cleanup()

    def ask(self, *words):
        """The answer to a command; a RuntimeError if it is an error."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            with connection.makefile("rb") as lines:
                if self.password:
                    connection.sendall(self._encode("AUTH", self.password))
                    self._decode(lines)
                connection.sendall(self._encode(*words))
                return self._decode(lines)

    @staticmethod
    def _encode(*words):
        texts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(t), t) for t in texts)

    def _decode(self, lines):
        line = lines.readline().rstrip(b"\r\n")
        kind, rest = line[:1], line[1:].decode()
        if kind == b"-":
            raise RuntimeError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else lines.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == "-1" else [self._decode(lines) for _ in range(int(rest))]
        if kind != b"+":
            raise ConnectionError("redis-server hung up")
        return rest
