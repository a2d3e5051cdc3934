"""What the suites of jobs share: how a job is made, followed, fetched and waited for."""
import json
import signal
import tempfile
import unittest

from support import ENDLESS, JSON, Client, Server, ask, wait_until

ONE_BY_ONE = ("--workers", 1, "--batch", 1, "--queue", 64)
LAST_ID = 1000000
DONE = 'pictures_total{outcome="done"}'
CANCELLED = 'pictures_total{outcome="cancelled"}'
WORK = {"steps": 24, "n": 2, "seed": 1, "class": 1, "partial_images": 2}
LOW = {**WORK, "priority": "low"}
BLOCKER = {**ENDLESS, "n": 2, "priority": "high"}
LONG = {**ENDLESS, "n": 1}
ASYNC = {**JSON, "Prefer": "respond-async"}


def keyed(key, **fields):
    return {**JSON, "Idempotency-Key": key, **fields}


def parse(text):
    """The events of a stream: [(id, name, data)]."""
    found = []
    for block in text.split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


class Stream:
    """A stream of events that is read while it comes."""

    def __init__(self, server, *question):
        self.client = Client(server)
        self.client.send(*question)
        self.reply = self.client.connection.getresponse()

    def next(self):
        """The next event."""
        text = ""
        while not (found := parse(text)):
            line = self.reply.readline().decode()
            if not line:
                raise AssertionError("the stream is over")
            text += line
        return found[0]

    def rest(self):
        """All events that are still to come."""
        with self.client:
            return parse(self.reply.read().decode())


class JobCase(unittest.TestCase):
    """What tests of jobs do, on self.server unless a server is given."""
    server = None

    def start(self, *flags, **settings):
        server = Server(*flags, **settings)
        self.addCleanup(lambda: server.process.returncode == -signal.SIGKILL or server.stop())
        return server

    def folder(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        return temporary.name

    def name(self, suffix=""):
        """A job's id that no other test has."""
        return self.id().split(".")[-1] + suffix

    def put(self, job, body, server=None, headers=None):
        return ask(server or self.server, "PUT", f"/v1/jobs/{job}", body, headers)

    def get(self, job, part="", headers=None, server=None, method="GET"):
        return ask(server or self.server, method, f"/v1/jobs/{job}{part}", None, headers)

    def delete(self, job, server=None):
        response = ask(server or self.server, "DELETE", f"/v1/jobs/{job}")
        self.assertEqual((response.status, response.body), (204, b""))

    def admit(self, job, body, server=None):
        """Make a job; as it was then."""
        response = self.put(job, body, server)
        self.assertEqual(response.status, 201, response.body)
        return response.json()

    def state(self, job, server=None):
        response = self.get(job, server=server)
        self.assertEqual(response.status, 200, response.body)
        return response.json()

    def over(self, job, server=None, status="completed"):
        """The job when it is over."""
        wait_until(lambda: "finished" in self.state(job, server), f"the end of {job}")
        state = self.state(job, server)
        self.assertEqual(state["status"], status, state)
        return state

    def until_running(self, job, server=None):
        wait_until(lambda: self.state(job, server)["progress"]["step"], f"a step of {job}")

    def pictures(self, job, server=None):
        """The bytes of all pictures of a job that is completed."""
        found = []
        for image in self.state(job, server)["images"]:
            response = ask(server or self.server, "GET", image["url"])
            self.assertEqual((response.status, response.type), (200, image["media_type"]))
            self.assertEqual(len(response.body), image["bytes"])
            found.append(response.body)
        return found

    def made_anew(self, request, server=None):
        """The pictures of a request that is no job."""
        response = ask(server or self.server, "POST", "/v1/generate", request,
                       {**JSON, "Accept": "application/json"})
        self.assertEqual(response.status, 200, response.body[:300])
        return response.images()

    def refused(self, response, status, slug, retry=False):
        """Assert that this is that problem; its detail."""
        self.assertEqual((response.status, response.type), (status, "application/problem+json"),
                         response.body[:300])
        problem = response.json()
        self.assertEqual((problem["type"], problem["status"]),
                         (f"urn:brickwork:problem:{slug}", status))
        self.assertEqual(response.headers["Retry-After"], "1" if retry else None)
        return problem["detail"]

    def block(self, server=None):
        """A client whose pictures have precedence over all others, until it is closed."""
        server = server or self.server
        server.wait_for_pictures(0)  # what an earlier test has left would stay as long as this does
        client = Client(server)
        self.addCleanup(client.close)
        client.send("POST", "/v1/generate", BLOCKER, JSON)
        server.wait_for_pictures(BLOCKER["n"])
        return client
