"""Streams of events: what happens to a request while it happens, and its pictures at the end."""
import base64
import http.client
import io
import json
import signal
import time
import unittest

from PIL import Image

from events import LAST_ID, Stream, named, names, read_events
from stall import Stall
from support import (BUILD, ENDLESS, JSON, POMOLOGY, QUICK, Client, Raw, Server, ServerCase, ask,
                     in_parallel, raw_request, wait_until)

PATH = "/v1/generate"
OPENAI = "/v1/images/generations"
CANCELLED = 'pictures_total{outcome="cancelled"}'
FAILED = 'pictures_total{outcome="failed"}'
FAULT = {"LD_PRELOAD": str(BUILD / "fault.so")}
PARTIAL, COMPLETED = "image_generation.partial_image", "image_generation.completed"


def decode(text):
    picture = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    picture.load()
    return picture


def due(steps, previews):
    """The steps after which previews are shown: spread evenly, none after the last step."""
    previews = min(previews, steps - 1)
    return [next(s for s in range(1, steps) if s * (previews + 1) // steps > i)
            for i in range(previews)]


class StreamCase(ServerCase):

    def events(self, body, headers=None, path=PATH):
        return read_events(self.server, path, body, headers)

    def open(self, body, name=None, server=None, path=PATH):
        """A stream that is left at the end of the test at the latest."""
        headers = {"X-Request-Id": name} if name else None
        stream = Stream(server or self.server, path, body, headers)
        self.addCleanup(stream.leave)
        return stream

    def start(self, *flags, env=None):
        server = Server(*flags, env=env)
        self.addCleanup(server.stop)
        return server


class TestEvents(StreamCase):
    """What a stream holds, in which order."""

    def test_order_and_ids(self):
        with Stream(self.server, PATH, {**QUICK, "steps": 5}, {"X-Request-Id": "mine"}) as stream:
            events = stream.rest()
        self.assertEqual(stream.headers["Cache-Control"], "no-store")
        self.assertEqual(stream.headers["X-Accel-Buffering"], "no")
        self.assertEqual(stream.headers["X-Request-Id"], "mine")
        self.assertEqual(names(events), ["queued", *["progress"] * 5, "completed"])
        self.assertEqual([event.id for event in events], [1, 2, 3, 4, 5, 6, LAST_ID])
        queued = events[0].data
        self.assertGreaterEqual(queued.pop("predicted_ms"), 0)
        self.assertEqual(queued, {"pictures": 1, "steps": 5})
        for step, progress in enumerate(named(events, "progress"), 1):
            self.assertGreaterEqual(progress.pop("eta_ms"), 0)
            self.assertEqual(progress, {"picture": 0, "step": step, "steps": 5, "skip": []})
        self.assertEqual(events[-1].data["id"], "mine")

    def test_every_step_of_every_picture(self):
        """Whichever pictures run beside each other, each one's steps come in order, all of them."""
        events = self.events({**QUICK, "steps": 7, "n": 5, "partial_images": 2})
        self.assertEqual([event.id for event in events], [*range(1, len(events)), LAST_ID])
        self.assertEqual((events[0].name, events[-1].name), ("queued", "completed"))
        self.assertEqual(events[0].data["pictures"], 5)
        for i in range(5):
            own = [e for e in events[1:-1] if e.data["picture"] == i]
            steps = [(e.name, e.data["step"]) for e in own]
            self.assertEqual([step for name, step in steps if name == "progress"], [*range(1, 8)])
            for place, (name, step) in enumerate(steps):
                if name == "partial":
                    self.assertEqual(steps[place - 1], ("progress", step))

    def test_steps_are_not_evaluations(self):
        events = self.events({**QUICK, "steps": 4, "solver": "heun"})
        self.assertEqual([p["step"] for p in named(events, "progress")], [1, 2, 3, 4])

    def test_bricks_that_rest(self):
        ranges = [{"until": 0.25, "skip": [0]}, {"until": 0.5, "skip": [1, 2]}]
        events = self.events({**QUICK, "steps": 4, "skip": {"schedule": ranges}})
        self.assertEqual([p["skip"] for p in named(events, "progress")], [[0], [1, 2], [], []])

    def test_end_is_the_answer_in_json(self):
        """completed holds what the request in JSON is answered with, to the bit."""
        for extra in [{}, {"n": 4, "index": 3}, {"format": "png"}, {"format": "webp", "n": 2},
                      {"skip": "fast", "steps": 6}, {"partial_images": 8, "steps": 9}]:
            with self.subTest(extra):
                body = {**QUICK, **extra}
                completed = self.events(body)[-1].data
                answer = self.generate(body, {**JSON, "Accept": "application/json"}).json()
                for one in (completed, answer):
                    del one["id"], one["timings"]
                self.assertEqual(completed, answer)

    def test_random_seed(self):
        request = self.events({"steps": 2})[-1].data["request"]
        again = self.generate(request, {**JSON, "Accept": "application/json"}).json()
        self.assertEqual(again["request"], request)

    def test_connection_lives_on(self):
        with Client(self.server) as client:
            for _ in range(2):
                answer = client.ask("POST", PATH, QUICK, {**JSON, "Accept": "text/event-stream"})
                self.assertEqual(answer.type, "text/event-stream")
                self.assertTrue(answer.body.endswith(b"\n\n"))
                self.assertEqual(client.ask("GET", "/livez").status, 200)

    def test_http_1_0(self):
        """Without chunks: the end of the connection is that of the stream."""
        body = json.dumps(QUICK).encode()
        request = raw_request(b"POST", b"/v1/generate", b"Accept: text/event-stream",
                              b"Content-Type: application/json",
                              b"Content-Length: %d" % len(body), body=body)
        with Raw(self.server) as raw:
            raw.send(request.replace(b"HTTP/1.1", b"HTTP/1.0", 1))
            head, text = raw.read_to_end().split(b"\r\n\r\n", 1)
        self.assertNotIn(b"chunked", head)
        self.assertEqual(text.count(b"\n\n"), 4)
        self.assertTrue(text.startswith(b"id: 1\nevent: queued\ndata: {"), text[:80])

    def test_in_a_crowd(self):
        """Streams beside each other are each complete, and hold the same picture."""
        def one(i):
            return self.events({**QUICK, "steps": 8, "seed": i % 3, "partial_images": 2})
        crowd = in_parallel(12, one)
        for i, events in enumerate(crowd):
            self.assertEqual([e.id for e in events], [*range(1, 12), LAST_ID])
            self.assertEqual(events[-1].data["images"], crowd[i % 3][-1].data["images"])


class TestPartials(StreamCase):
    """Previews, and that they cost the picture nothing."""

    def partials(self, **body):
        events = self.events({**QUICK, **body})
        return named(events, "partial"), events[-1].data["images"]

    def test_as_many_as_asked_for(self):
        plain = self.partials(steps=20)[1]
        for count in range(9):
            with self.subTest(count):
                partials, images = self.partials(steps=20, partial_images=count)
                self.assertEqual([(p["partial"], p["step"]) for p in partials],
                                 list(enumerate(due(20, count))))
                self.assertEqual(images, plain)
                self.assertEqual({(p["picture"], p["steps"]) for p in partials} - {(0, 20)}, set())
                self.assertEqual(len({p["b64"] for p in partials}), count)

    def test_at_most_one_for_each_step(self):
        for steps in (1, 2, 3, 9):
            with self.subTest(steps):
                partials = self.partials(steps=steps, partial_images=8)[0]
                self.assertEqual([(p["partial"], p["step"]) for p in partials],
                                 [(i, i + 1) for i in range(steps - 1)])

    def test_of_several_pictures(self):
        partials, images = self.partials(steps=6, n=3, partial_images=2)
        self.assertEqual(sorted((p["picture"], p["partial"]) for p in partials),
                         [(i, k) for i in range(3) for k in range(2)])
        self.assertEqual(len({p["b64"] for p in partials}), 6)
        self.assertEqual(len(images), 3)

    def test_size(self):
        """JPEGs; every so manieth row and column of a picture larger than 256 pixels."""
        for size, expected in [("32x32", (32, 32)), ("256x64", (256, 64)), ("512x512", (256, 256)),
                               ("272x32", (136, 16)), ("32x784", (8, 196))]:
            with self.subTest(size):
                partials, _ = self.partials(size=size, partial_images=1)
                picture = decode(partials[0]["b64"])
                self.assertEqual((picture.format, picture.mode, picture.size),
                                 ("JPEG", "RGB", expected))
                self.assertNotIn("comment", picture.info)

    def test_they_become_the_picture(self):
        """On a model that was trained the last preview is closer to the picture than the first."""
        server = Server(model=POMOLOGY)
        self.addCleanup(server.stop)
        events = read_events(server, PATH, {"class": "apples", "steps": 6, "seed": 1,
                                            "guidance": 1, "partial_images": 5})
        final = decode(events[-1].data["images"][0]["b64"]).tobytes()
        far = [sum(abs(a - b) for a, b in zip(decode(p["b64"]).tobytes(), final))
               for p in named(events, "partial")]
        self.assertEqual(len(far), 5)
        self.assertLess(far[-1], far[0])


class TestRefusals(StreamCase):
    """What is refused before admission is an ordinary problem, not a stream."""

    def ask(self, body, server=None, accept="text/event-stream", path=PATH):
        return ask(server or self.server, "POST", path, body, {**JSON, "Accept": accept})

    def test_requests(self):
        self.refused(self.ask(b"{"), 400)
        self.refused(self.ask({"steps": 0}), 422, "/steps")
        self.refused(self.ask({"partial_images": 9}), 422, "/partial_images")
        self.refused(self.ask({"partial_images": True}), 422, "/partial_images")
        self.refused(self.ask({"class": "durians"}), 422, "/class")
        self.refused(self.ask({"model": "another"}), 404, "/model")
        self.refused(self.ask({**QUICK, "webhook": "http://a.example"}), 422, "/webhook")
        self.refused(self.ask(QUICK, accept="text/plain"), 406)
        self.refused(self.ask({**QUICK, "n": 2}, accept="text/plain, image/png"), 406)

    def test_deadline(self):
        problem = self.refused(self.ask({**ENDLESS, "deadline_ms": 1}), 503, "/deadline_ms")
        self.assertEqual(problem["type"], "urn:brickwork:problem:deadline-infeasible")
        self.assertIn("deadline_ms", problem["offer"])

    def test_full_queue(self):
        server = self.start("--queue", 8, "--batch", 1)
        self.open({**ENDLESS, "n": 1}, server=server)
        server.wait_for_running()
        self.open(ENDLESS, server=server)
        answer = self.ask(QUICK, server)
        self.refused(answer, 429)
        self.assertRegex(answer.headers["Retry-After"], "^[0-9]+$")

    def test_preferences(self):
        """A stream comes only if nothing else is liked better."""
        for accept, expected in [("text/event-stream, application/json", "application/json"),
                                 ("text/event-stream, application/json;q=0.9", "text/event-stream"),
                                 ("text/event-stream, image/png;q=0.9", "text/event-stream"),
                                 ("text/event-stream;q=0, application/json", "application/json"),
                                 ("text/event-stream, */*;q=0.1", "text/event-stream")]:
            with self.subTest(accept):
                self.assertEqual(self.ask(QUICK, accept=accept).type, expected)


class TestLeaving(StreamCase):
    """One worker that takes one picture at a time, so that it is known who waits."""
    flags = ("--workers", 1, "--batch", 1, "--queue", 64, "--policy", "fifo")

    def leave(self, stream, name, pictures):
        """It leaves; that many pictures are cancelled, and it is logged as gone."""
        before = self.server.metrics()[CANCELLED]
        stream.leave()
        wait_until(lambda: self.server.metrics()[CANCELLED] == before + pictures, "the end of it")
        self.assertIn("status=499", self.server.wait_for_log(f"id={name} "))

    def test_while_running(self):
        stream = self.open(ENDLESS, "running")
        self.assertEqual(stream.next().name, "queued")
        self.assertEqual(stream.next().name, "progress")
        self.leave(stream, "running", ENDLESS["n"])
        self.server.wait_for_pictures(0)

    def test_while_waiting(self):
        ahead = self.open({**ENDLESS, "n": 1}, "ahead")
        self.assertEqual([ahead.next().name, ahead.next().name], ["queued", "progress"])
        waiting = self.open({**ENDLESS, "n": 3}, "waiting")
        self.assertEqual(waiting.next().name, "queued")
        self.leave(waiting, "waiting", 3)
        self.assertEqual(ahead.next().name, "progress", "the other one goes on")
        self.leave(ahead, "ahead", 1)
        self.server.wait_for_pictures(0)

    def test_of_openai(self):
        body = {"prompt": "class 1", "stream": True, "n": 8, "size": "512x512"}
        stream = self.open(body, "openai", path=OPENAI)
        self.server.wait_for_pictures(8)
        self.leave(stream, "openai", 8)
        self.server.wait_for_pictures(0)

    def test_many(self):
        """They come and go at every point of their streams; nothing is left of them."""
        for i in range(30):
            stream = self.open({**ENDLESS, "n": 1 + i % 8, "partial_images": 8, "seed": i})
            for _ in range(i % 4):
                stream.next()
            stream.leave()
        self.server.wait_for_pictures(0)
        self.assertEqual(self.server.metrics()["queue_pictures"], 0)
        self.picture(QUICK)


class TestSlowReader(StreamCase):
    """Streams of more bytes than the sockets between hold."""
    BODY = {"steps": 1, "guidance": 1, "seed": 1, "n": 8, "size": "512x512", "format": "png",
            "skip": {"schedule": [{"until": 1, "skip": [1, 2]}]}}

    def test_blocks_nobody(self):
        """A client that does not read keeps neither its pictures nor anyone else waiting."""
        body, before = self.BODY, self.server.admitted()
        with Client(self.server) as client:
            client.send("POST", PATH, body, {**JSON, "Accept": "text/event-stream"})
            self.server.wait_for_admitted(before + 1)
            self.picture(QUICK)
            self.server.wait_for_pictures(0)
            self.picture(QUICK)
            text = client.receive().body.decode()
        completed = json.loads(text.rstrip().rsplit("\ndata: ", 1)[1])
        self.assertEqual([base64.b64decode(image["b64"]) for image in completed["images"]],
                         self.generate(body).images())

    def test_leaves_in_the_end(self):
        """It has read nothing of what has been ready for it all along."""
        before = self.server.admitted()
        with Client(self.server) as client:
            client.send("POST", PATH, self.BODY, {**JSON, "Accept": "text/event-stream",
                                             "X-Request-Id": "slow"})
            self.server.wait_for_admitted(before + 1)
            self.server.wait_for_pictures(0)
        self.assertIn("status=499", self.server.wait_for_log("id=slow "))
        self.picture(QUICK)


class TestSilence(StreamCase):
    flags = ("--workers", 1, "--batch", 1, "--policy", "fifo", "--ping-ms", 1000)

    def test_is_filled(self):
        """A stream that waits its turn is kept alive with comments, which are no events."""
        ahead = self.open(ENDLESS)
        self.assertEqual([ahead.next().name, ahead.next().name], ["queued", "progress"])
        waiting = self.open(QUICK)
        self.assertEqual(waiting.next().name, "queued")
        lines = [waiting.reply.readline() for _ in range(4)]
        self.assertEqual(lines, [b":\n", b"\n", b":\n", b"\n"])
        ahead.leave()
        self.assertEqual(names(waiting.rest()), ["progress", "progress", "completed"])


class TestFailures(StreamCase):
    """What goes wrong after admission is the last event."""

    def test_internal(self):
        server = self.start(env=FAULT)
        for name in ("jpeg", "png"):
            events = read_events(server, PATH, {**QUICK, "format": name, "n": 2},
                                 {"X-Request-Id": "broken"})
            self.assertEqual(names(events), ["queued", *["progress"] * 4, "error"])
            self.assertEqual(events[-1].id, LAST_ID)
            problem = events[-1].data
            self.assertEqual((problem["type"], problem["status"], problem["instance"]),
                             ("urn:brickwork:problem:internal", 500, "broken"))
            self.assertNotIn("error", problem)
        self.assertEqual(server.metrics()[FAILED], 4)

    def test_internal_in_the_shape_of_openai(self):
        server = self.start(env=FAULT)
        events = read_events(server, OPENAI, {"prompt": "class 1", "stream": True})
        self.assertEqual([(e.id, e.name) for e in events], [(None, "error")])
        problem = events[0].data
        self.assertEqual(problem["status"], 500)
        self.assertEqual(problem["error"]["message"], problem["detail"])

    def test_previews_may_fail(self):
        """The picture does not need them: where JPEG fails, WebP comes without."""
        server = self.start(env=FAULT)
        body = {**QUICK, "steps": 3, "format": "webp", "partial_images": 2}
        events = read_events(server, PATH, body)
        self.assertEqual(names(events), ["queued", *["progress"] * 3, "completed"])
        self.assertEqual(events[-1].data["images"], self.events(body)[-1].data["images"])

    def miss_deadline(self, begin):
        """A server, and what was begun on it with a deadline that is over before the JPEG may be written."""
        stall, body = self.enterContext(Stall()), {**QUICK, "deadline_ms": 2000}
        stall.arm()
        server = self.start("--deadline-grace-ms", 0, env=stall.environment)
        begun = begin(server, body)
        stall.miss(server, body["deadline_ms"])
        return server, begun

    def counted(self, server):
        server.wait_for_pictures(0)
        self.assertEqual(server.metrics()[CANCELLED], 1)
        self.assertEqual(server.metrics()['deadlines_total{outcome="missed"}'], 1)

    def test_deadline_in_a_stream(self):
        server, stream = self.miss_deadline(lambda server, body: self.open(body, "late", server))
        events = stream.rest()
        self.assertEqual((events[0].name, events[-1].id, events[-1].name),
                         ("queued", LAST_ID, "error"))
        self.assertEqual(set(names(events[1:-1])) - {"progress"}, set())
        problem = events[-1].data
        self.assertEqual((problem["type"], problem["status"], problem["instance"]),
                         ("urn:brickwork:problem:deadline-missed", 504, "late"))
        self.counted(server)

    def test_deadline_of_a_picture(self):
        def send(server, body):
            client = Client(server)
            self.addCleanup(client.close)
            client.send("POST", PATH, body, JSON)
            return client
        server, client = self.miss_deadline(send)
        problem = self.refused(client.receive(), 504)
        self.assertEqual(problem["type"], "urn:brickwork:problem:deadline-missed")
        self.counted(server)


class TestDraining(StreamCase):

    def begin(self, body, **settings):
        server = Server(**settings)
        stream = self.open(body, server=server)
        self.assertEqual([stream.next().name, stream.next().name], ["queued", "progress"])
        server.signal()
        server.wait_for_log("draining")
        return server, stream

    def test_streams_are_finished(self):
        stall = self.enterContext(Stall())
        stall.arm()
        server, stream = self.begin(QUICK, env=stall.environment)
        stall.release()
        self.assertEqual(stream.rest()[-1].name, "completed")
        server.stop()

    def test_told_twice(self):
        """The stream breaks off: it must not seem to have ended well."""
        server, stream = self.begin(ENDLESS)
        server.signal()
        with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
            stream.rest()
        server.stop(status=1)


    def test_told_twice_at_once(self):
        """Again and again, since what is under way in that moment is never the same."""
        for _ in range(12):
            server = Server()
            stream = self.open(ENDLESS, server=server)
            self.assertEqual([stream.next().name, stream.next().name], ["queued", "progress"])
            server.process.send_signal(signal.SIGTERM)
            server.process.send_signal(signal.SIGINT)
            with self.assertRaises((http.client.IncompleteRead, ConnectionError)):
                stream.rest()
            server.stop(status=1)


class TestOpenai(StreamCase):
    """The stream that clients of OpenAI's images API read."""

    def events(self, headers=None, **body):
        return super().events({"prompt": "class 1", "stream": True, **body}, headers, OPENAI)

    def test_one(self):
        events = self.events()
        self.assertEqual([(e.id, e.name) for e in events], [(None, COMPLETED)])
        data = events[0].data
        self.assertEqual(decode(data.pop("b64_json")).size, (32, 32))
        self.assertAlmostEqual(data.pop("created_at"), time.time(), delta=600)
        self.assertEqual(data, {"type": COMPLETED, "size": "32x32", "quality": "high",
                                "background": "opaque", "output_format": "png",
                                "usage": dict.fromkeys(("total_tokens", "input_tokens",
                                                        "output_tokens"), 0)})

    def test_what_the_official_client_sends(self):
        """It says that it accepts JSON, whatever it waits for."""
        events = self.events({"Accept": "application/json", "Authorization": "Bearer unused"})
        self.assertEqual(names(events), [COMPLETED])

    def test_same_picture_as_ever(self):
        """The file's comment says which request of ours it is."""
        for event in self.events(n=3, size="32x48", quality="low"):
            data = base64.b64decode(event.data["b64_json"])
            request = json.loads(Image.open(io.BytesIO(data)).text["parameters"])["request"]
            self.assertEqual(self.picture(request), data)
            self.assertEqual((event.data["size"], event.data["quality"]), ("32x48", "low"))

    def test_partials(self):
        for count in range(4):
            with self.subTest(count):
                events = self.events(n=2, partial_images=count, output_format="webp")
                self.assertEqual(names(events), [*[PARTIAL] * 2 * count, COMPLETED, COMPLETED])
                partials = named(events, PARTIAL)
                self.assertEqual(sorted(p["partial_image_index"] for p in partials),
                                 sorted([*range(count)] * 2))
                for partial in partials:
                    self.assertEqual((partial["type"], partial["output_format"]), (PARTIAL, "jpeg"))
                    self.assertEqual(decode(partial["b64_json"]).format, "JPEG")
                for completed in named(events, COMPLETED):
                    self.assertEqual(decode(completed["b64_json"]).format, "WEBP")

    def test_refusals(self):
        def question(body, accept="text/event-stream"):
            return ask(self.server, "POST", OPENAI, body, {**JSON, "Accept": accept})
        asked = {"prompt": "class 1", "stream": True}
        cases = [(422, "/prompt", {"prompt": "a durian", "stream": True}),
                 (422, "/n", {**asked, "n": 9}), (404, "/model", {**asked, "model": "another"}),
                 (422, "/partial_images", {**asked, "partial_images": 4}),
                 (422, "/partial_images", {**asked, "stream": False, "partial_images": 1})]
        for status, pointer, body in cases:
            problem = self.refused(question(body), status, pointer)
            self.assertEqual(problem["error"]["param"], pointer[1:])
        self.refused(question(asked, "image/png"), 406)
        self.refused(question({"prompt": "class 1"}), 406)


if __name__ == "__main__":
    unittest.main()
