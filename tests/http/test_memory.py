"""Every allocation fails in turn, the program's own and its libraries', at the start and in requests.

A start ends in a clean refusal. A request ends in its answer, in a problem, or with its connection
closed; the one after it is answered as ever, and no block of memory is left over.
"""
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

import latents
from jobs import parse
from redis_server import Redis
from scarce import ALL, ENDLESSLY, PROGRAM, Scarce
from support import JSON, PATIENCE_S, QUICK, SANITIZED, SERVER, TINY, Server, ask, environment, wait_until
from test_webhooks import Receiver

MOST = 3000  # allocations that a request may take before the test gives up
SETTLE_S = 10
PNG = {**QUICK, "format": "png"}
BLOCK = re.compile(r"out of memory: \d{6,} bytes wanted")  # of a decoder: others are smaller with this model
SECRET = "whsec_" + "c2VjcmV0IG9mIGEgdGVzdCB0aGF0IGlzIGxvbmc="


# Lack of memory has an answer of its own on every path, which openapi.yaml need not repeat everywhere.
os.environ.pop("BRICKWORK_RECORD", None)


def setUpModule():
    if SANITIZED:
        raise unittest.SkipTest("sanitizers bring their own allocators")


class TestStart(unittest.TestCase):
    """Of what the model's header takes only every 29th fails. Not part of it is what happens before
    main(): OpenBLAS and libgfortran end a program that has no memory for them, and say so. Nor are
    libuv's own allocations, some of which end in abort()."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        (cls.folder / "secret").write_text(SECRET)
        server = Server("--jobs", cls.folder / "jobs")
        for job in ("a", "b"):
            assert ask(server, "PUT", f"/v1/jobs/{job}", QUICK).status == 201
            wait_until(lambda job=job: "finished" in ask(server, "GET", f"/v1/jobs/{job}").json(), "its end")
        server.stop()

    def start(self, scarce):
        """Start a server, stop it as soon as it listens; (exit status, its log)."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.folder / "jobs", self.folder / "copy")
        command = [SERVER, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--threads", 2, "--model",
                   TINY, "--jobs", self.folder / "copy", "--webhook-allow", "127.0.0.1:9",
                   "--webhook-secret-file", self.folder / "secret"]
        with subprocess.Popen([str(word) for word in command], env=environment(scarce.environment), text=True,
                              stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
            guard = threading.Timer(PATIENCE_S, process.kill)
            guard.start()
            lines = []
            for line in process.stderr:
                lines.append(line.rstrip("\n"))
                if "event=listening" in line:
                    process.send_signal(signal.SIGTERM)
            status = process.wait()
            guard.cancel()
        return status, lines

    def check(self, module, count=1):
        scarce = Scarce()
        self.addCleanup(scarce.close)
        scarce.relax()
        status, lines = self.start(scarce)
        self.assertEqual(status, 0, lines)
        blocks = scarce.blocks()
        refusals, number, stride = 0, 1, 29
        while True:
            scarce.forget_blocks()
            scarce.arm(number, count, ALL if module is None else scarce.number_of(module))
            status, lines = self.start(scarce)
            with self.subTest(number=number, lines=lines):
                self.assertIn(status, (0, 1, 2))
                if status:
                    self.assertRegex(lines[-1], "event=cannot-start|^brickworkd: ")
                    refusals += 1
                for name, left in scarce.blocks().items():
                    self.assertLessEqual(left, blocks.get(name, 0), f"left over by {name}")
            if not scarce.refused():
                break
            if stride > 1 and number > stride and "JSON" not in lines[-1]:
                number, stride = number - stride, 1  # this was the end of the model's header
            number += stride if "JSON" in lines[-1] else 1
            self.assertLess(number, MOST)
        self.assertGreater(refusals, 0)

    def test_program(self):
        self.check("program")

    def test_program_and_from_there_on(self):
        self.check("program", count=ENDLESSLY)

    def test_http_library(self):
        self.check("libmicrohttpd")

    def test_c_library(self):
        self.check("libc.")



def accept(kind):
    return {**JSON, "Accept": kind}


def images(response):
    return response.images()


def body(response):
    return response.body


def of_json(*names):
    """These members of the answer."""
    return lambda response: [response.json()[name] for name in names]


def last_event(response):
    """The pictures that the last event has."""
    return json.loads(response.body.decode().split("data: ")[-1])["images"]


BODY = {**QUICK, "partial_images": 1}
# name: a request, and what of its answer is always the same
CASES = {
    "jpeg": (("POST", "/v1/generate", {**QUICK, "skip": {"t_break": 0.5}}, JSON), body),
    "png": (("POST", "/v1/generate", {**QUICK, "format": "png"}, JSON), body),
    "webp": (("POST", "/v1/generate", {**QUICK, "format": "webp"}, JSON), body),
    "json": (("POST", "/v1/generate", {**QUICK, "n": 2}, accept("application/json")), images),
    "deadline": (("POST", "/v1/generate", {**QUICK, "skip": "auto", "deadline_ms": 60000}, JSON), body),
    "address": (("GET", "/v1/generate?steps=2&seed=1&class=1&skip=%7B%22t_break%22%3A0.5%7D"), body),
    "events": (("POST", "/v1/generate", BODY, accept("text/event-stream")), last_event),
    "openai": (("POST", "/v1/images/generations", {"prompt": "square", "size": "32x32"}, JSON), None),
    "sdapi": (("POST", "/sdapi/v1/txt2img", {"steps": 2, "seed": 1}, JSON), of_json("images")),
    "quote": (("POST", "/v1/quote", QUICK, JSON), of_json("request", "admitted")),
    "refusal": (("POST", "/v1/generate", {"steps": 1000}, JSON), of_json("type", "errors")),
    "models": (("GET", "/v1/models"), body),
    "capabilities": (("GET", "/v1/capabilities"), of_json("limits", "formats", "features", "version")),
    "livez": (("GET", "/livez"), body),
    "page": (("GET", "/"), body),
    "metrics": (("GET", "/metrics"), None),
    "unknown job": (("GET", "/v1/jobs/none"), of_json("type")),
}


# name: what is asked of a job, one after the other
LIVES = {
    "followed": (("PUT", "", QUICK), ("GET", "/events", None), ("GET", "", None), ("GET", "/images/0", None),
                 ("DELETE", "", None)),
    "deleted at once": (("PUT", "", QUICK), ("DELETE", "", None)),
}


class Watched(unittest.TestCase):
    """One server, whose memory is watched all the time."""
    only, stride = ALL, 1  # whose allocations fail, and which: every one, every second, ...

    @classmethod
    def setUpClass(cls):
        cls.scarce = Scarce()
        cls.addClassCleanup(cls.scarce.close)
        cls.server = Server("--threads", 2, *cls.flags(), env=cls.scarce.environment)
        cls.addClassCleanup(cls.server.stop)

    @classmethod
    def flags(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        return "--jobs", cls.folder

    def settled(self, blocks):
        """Wait until no more than these blocks are in use; what is left over otherwise."""
        deadline = time.monotonic() + SETTLE_S
        while (left := {name: count - blocks.get(name, 0) for name, count in self.scarce.blocks().items()
                        if count > blocks.get(name, 0)}) and time.monotonic() < deadline:
            time.sleep(0.002)
        return left

    def quiet_blocks(self):
        """What is in use when nothing goes on."""
        def same():
            before = self.scarce.blocks()
            time.sleep(0.1)
            return before == self.scarce.blocks()
        wait_until(same, "nothing to go on")
        return self.scarce.blocks()

    def attempt(self, act):
        """The outcome of act(), or None if the connection broke."""
        try:
            return act()
        except (http.client.HTTPException, OSError):
            return None

    def tidy(self):
        """What has to be done after act() for nothing to be left over."""

    def in_turn(self, act, check, count):
        """Let every allocation of act() fail in turn; check(outcome) accepts what it returns."""
        wanted = ask(self.server, "POST", "/v1/generate", QUICK).body
        for _ in range(3):
            act()
            self.tidy()
        blocks = self.quiet_blocks()
        for number in range(1, MOST, self.stride):
            self.scarce.arm(number, count, self.only)
            outcome = self.attempt(act)
            refused, culprit = self.scarce.refused(), self.scarce.culprit()
            self.scarce.relax()
            self.assertIsNone(self.server.process.poll(), (number, culprit, self.server.lines[-3:]))
            with self.subTest(number=number, culprit=culprit):
                self.tidy()
                self.assertEqual(ask(self.server, "POST", "/v1/generate", QUICK).body, wanted)
                self.assertEqual(self.settled(blocks), {}, "left over")
                if refused:
                    check(outcome)
                else:
                    self.assertIsNotNone(outcome)
            if not refused:
                return
        self.fail("it takes too many allocations")


class TestRequests(Watched):
    """Each alone."""

    def requests(self, count):
        for name, (question, essence) in CASES.items():
            normal = ask(self.server, *question)
            essence = essence or (lambda response: response.status)

            def check(answer, normal=normal, essence=essence):
                if answer is None:
                    return
                if answer.status >= 500:
                    self.assertEqual((answer.type, answer.json()["type"]),
                                     ("application/problem+json", "urn:brickwork:problem:internal"))
                elif answer.type == "text/event-stream" and b"event: error" in answer.body:
                    self.assertEqual(parse(answer.body.decode())[-1][2]["status"], 500)
                elif essence(answer) != essence(normal) or answer.status != normal.status:
                    self.fail((answer.status, answer.body[:500], normal.body[:500]))
            with self.subTest(name):
                self.in_turn(lambda question=question: ask(self.server, *question), check, count)

    def test_requests(self):
        self.requests(1)

    def test_requests_and_from_there_on(self):
        """Until the request is over there is no memory any more."""
        self.requests(ENDLESSLY)


class Lives(Watched):
    """From the PUT of a job to its DELETE, each asked whether or not the one before was answered."""
    refusals = {(404, "unknown-job"), (409, "not-ready"), (409, "conflict"), (410, "gone"), (500, "internal")}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.numbers = itertools.count()
        cls.picture = ask(cls.server, "POST", "/v1/generate", QUICK).body

    def live(self, *questions):
        """Ask these of a new job; the answers, None for one that did not come."""
        self.job = f"/v1/jobs/{next(self.numbers)}"
        return [self.attempt(lambda: ask(self.server, method, self.job + part, body))
                for method, part, body in questions]

    def tidy(self):
        """With memory again, what is left of the job comes to its end."""
        def over():
            answer = ask(self.server, "GET", self.job)
            return answer.status in (404, 410) or "finished" in answer.json()
        wait_until(over, "the end of the job")
        answer = ask(self.server, "GET", self.job)
        if answer.status == 200:
            self.accept_end(answer.json())
            self.assertEqual(ask(self.server, "DELETE", self.job).status, 204)
        else:
            self.assertIn(answer.status, (404, 410), answer.body)

    def accept_end(self, state):
        """It has its picture, or says that the service failed."""
        if state["status"] == "completed":
            self.assertEqual(ask(self.server, "GET", state["images"][0]["url"]).body, self.picture)
        else:
            self.assertEqual((state["status"], state["problem"]["status"]), ("failed", 500))

    def accept_answers(self, answers):
        for answer in answers:
            if answer is None or answer.status in (200, 201, 204):
                continue
            self.assertEqual(answer.type, "application/problem+json")
            self.assertIn((answer.status, answer.json()["type"].split(":")[-1]), self.refusals)

    def lives(self, count):
        for name, questions in LIVES.items():
            with self.subTest(name):
                self.in_turn(lambda questions=questions: self.live(*questions), self.accept_answers, count)


class TestJobs(Lives):
    """In a directory, in which nothing is left."""

    def tearDown(self):
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("record-")], [])

    def test_lives(self):
        self.lives(1)

    def test_lives_and_from_there_on(self):
        self.lives(ENDLESSLY)


class TestTold(Lives):
    """In memory, and a webhook hears of its end."""
    stride = 5

    @classmethod
    def flags(cls):
        cls.receiver = Receiver()
        cls.addClassCleanup(cls.receiver.close)
        secret = pathlib.Path(cls.enterClassContext(tempfile.TemporaryDirectory())) / "secret"
        secret.write_text(SECRET)
        return "--webhook-allow", f"127.0.0.1:{cls.receiver.port}", "--webhook-secret-file", secret

    def live_and_hear(self):
        """The answers; what is said later, and tried again, is part of it as long as it comes soon."""
        answers = self.live(("PUT", "", {**QUICK, "webhook": self.receiver.url}), ("GET", "/events", None))
        with contextlib.suppress(queue.Empty):
            self.receiver.calls.get(timeout=0.3)
        return answers

    def test_life(self):
        self.in_turn(self.live_and_hear, self.accept_answers, 1)


class TestFleet(Lives):
    """In a Redis. Not hiredis's own allocations: it reads and writes what it could not allocate."""
    only, stride = PROGRAM, 23
    refusals = Lives.refusals | {(503, "store-unreachable")}

    @classmethod
    def flags(cls):
        redis = Redis().start()
        cls.addClassCleanup(redis.stop)
        return "--jobs", redis.url()

    def test_lives(self):
        self.server.wait_for_log("event=redis-up")
        self.lives(1)


class TestLatents(unittest.TestCase):
    """A picture that has to be decoded."""

    def ask_without(self, number):
        """Ask for a picture and refuse one allocation; (answer or None, was one refused)."""
        self.scarce.arm(number, only=PROGRAM)
        try:
            return ask(self.server, "POST", "/v1/generate", PNG), self.scarce.refused()
        except OSError:
            return None, True  # the connection was closed
        finally:
            self.scarce.relax()

    def each_allocation_in_turn(self, first):
        """What was said to be lacking."""
        reasons = set()
        for number in range(1, MOST):
            response, refused = self.ask_without(number)
            if response and response.status == 200:
                self.assertEqual(response.body, first, number)
            elif response:
                problem = response.json()
                reasons.add(problem["detail"])
                self.assertEqual((response.status, problem), (500, {
                    "type": "urn:brickwork:problem:internal", "title": "The service failed",
                    "status": 500, "detail": problem["detail"], "instance": response.headers["X-Request-Id"]}))
            if not refused:
                return reasons
        raise AssertionError(f"{MOST} allocations are not all that a picture takes")

    def test_what_decoding_lacks(self):
        """A picture comes as it is or not at all. Threads take turns as they like, so once may not be enough to meet
        the decoder's own allocation."""
        self.scarce, reasons, data = Scarce(), set(), latents.decoder()
        self.addCleanup(self.scarce.close)
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (folder / latents.DECODER).write_bytes(data)
        (folder / latents.MODEL).write_bytes(latents.model(decoder=data))
        self.server = Server(model=folder / latents.MODEL, env=self.scarce.environment)
        self.addCleanup(self.server.stop)
        first = ask(self.server, "POST", "/v1/generate", PNG).body
        wanted = {"out of memory for a picture of 64x64", "out of memory for decoding"}
        for _ in range(10):
            said = self.each_allocation_in_turn(first)
            reasons |= {"out of memory for decoding" if BLOCK.fullmatch(one) else one for one in said}
            if wanted <= reasons:
                break
        self.assertLessEqual(wanted, reasons)
        self.assertEqual(ask(self.server, "POST", "/v1/generate", PNG).body, first)


if __name__ == "__main__":
    unittest.main()
