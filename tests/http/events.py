"""Streams of events (Server-Sent Events), read while they come."""
import collections
import http.client
import json

import contract
from support import JSON, Client

Event = collections.namedtuple("Event", "id name data")  # the id None: without

LAST_ID = 1000000  # of the last event of every stream of ours


class Stream:
    """A request that is answered with a stream, and what of that is read so far."""

    def __init__(self, server, path, body, headers=None):
        self.client = Client(server)
        self.path, self.recorded, self.pings, self.body = path, False, 0, b""
        self.client.send("POST", path, body,
                         {**JSON, "Accept": "text/event-stream", **(headers or {})})
        self.reply = self.client.connection.getresponse()
        self.status, self.headers = self.reply.status, self.reply.headers
        self.type = self.headers.get("Content-Type", "")
        assert (self.status, self.type) == (200, "text/event-stream"), self.reply.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def _block(self):
        """The lines up to the next empty one; [] at the end. IncompleteRead if it breaks off, which
        the library passes over."""
        lines = []
        while line := self.reply.readline():
            self.body += line
            if line == b"\n":
                return lines
            lines.append(line.decode().rstrip("\n"))
        if lines or self.reply.chunk_left is not None:  # else the last chunk was there
            raise http.client.IncompleteRead(self.body)
        return []

    def next(self):
        """The next event; None at the end."""
        while block := self._block():
            if block[0].startswith(":"):
                self.pings += 1
                continue
            fields = dict(line.split(": ", 1) for line in block)
            number = int(fields["id"]) if "id" in fields else None
            return Event(number, fields["event"], json.loads(fields["data"]))
        self._record(self.reply.chunk_left is not None)  # None: the last chunk has come
        return None

    def rest(self):
        """The events from here to the end."""
        return list(iter(self.next, None))

    def leave(self):
        """Close the connection, whatever is still to come."""
        self._record(True)
        self.client.close()

    def _record(self, aborted):
        if not self.recorded:
            method, path, sent = self.client.sent
            contract.record(method, path, self, sent, aborted)
        self.recorded = True


def read_events(server, path, body, headers=None):
    """Every event of a stream that is read to its end."""
    with Stream(server, path, body, headers) as stream:
        return stream.rest()


def names(events):
    return [event.name for event in events]


def named(events, name):
    """The data of the events of that name."""
    return [event.data for event in events if event.name == name]
