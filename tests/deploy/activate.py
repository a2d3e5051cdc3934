"""Start a program with listening sockets as systemd does: activate.py NAME=FD... -- PROGRAM ARGUMENT...

The descriptors become 3 and so on, LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say so.
"""
import os
import sys

FIRST = 3
SPARE = 100  # out of the way of those that are given and of those they become


def main(arguments):
    split = arguments.index("--")
    sockets = [word.split("=") for word in arguments[:split]]
    for i, (_, fd) in enumerate(sockets):
        os.dup2(int(fd), SPARE + i)
    for i in range(len(sockets)):
        os.dup2(SPARE + i, FIRST + i)
        os.close(SPARE + i)
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)),
                      LISTEN_FDNAMES=":".join(name for name, _ in sockets))
    os.execv(arguments[split + 1], arguments[split + 1:])


if __name__ == "__main__":
    main(sys.argv[1:])
