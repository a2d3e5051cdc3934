"""The other side of scarce.c: memory and threads that run out in a program when a test says so."""
import mmap
import struct
import tempfile

from support import BUILD

HEAD, MODULE, MODULES = struct.Struct("5q"), struct.Struct("56s2q"), 96
ALL, PROGRAM = -1, 0
ENDLESSLY = 1 << 40


class Scarce:
    """What a program started with `environment` shares with the test."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile()
        self.file.truncate(HEAD.size + MODULES * MODULE.size)
        self.map = mmap.mmap(self.file.fileno(), 0)
        self.environment = {"SCARCE": self.file.name, "LD_PRELOAD": str(BUILD / "scarce.so")}
        self.relax()

    def close(self):
        self.map.close()
        self.file.close()

    def arm(self, number, count=1, only=ALL):
        """Refuse the so manieth allocation from now, and so many in a row; counted are those of
        one module only, or all."""
        struct.pack_into("5q", self.map, 0, 0, count, only, 0, 0)
        struct.pack_into("q", self.map, 0, number)

    def relax(self):
        """Refuse nothing any more."""
        struct.pack_into("3q", self.map, 0, 0, 1, ALL)

    def forget_blocks(self):
        """Count from zero again, for another process."""
        for i in range(MODULES):
            struct.pack_into("2q", self.map, HEAD.size + i * MODULE.size + 56, 0, 0)

    def refused(self):
        """So many were refused since it was armed."""
        return HEAD.unpack_from(self.map)[3]

    def culprit(self):
        """The module whose allocation was the last that was refused."""
        return self.modules()[HEAD.unpack_from(self.map)[4]][0]

    def modules(self):
        """[(name, allocations so far, blocks not freed)], the program first."""
        rows = [MODULE.unpack_from(self.map, HEAD.size + i * MODULE.size) for i in range(MODULES)]
        return [(name.rstrip(b"\0").decode(), seen, blocks) for name, seen, blocks in rows]

    def number_of(self, name):
        """The number of the module whose file name begins so."""
        return next(i for i, row in enumerate(self.modules()) if row[0].startswith(name))

    def blocks(self):
        """What is not freed: {module: blocks}."""
        return {name: blocks for name, _, blocks in self.modules() if blocks}
