"""A picture depends on its request alone, and every answer says how to get it again."""
import io
import json
import pathlib
import tempfile
import unittest
from xml.etree import ElementTree

from PIL import Image

from support import (COMMAND, JSON, POMOLOGY, ROOT, Client, Server, ServerCase, ask, in_parallel,
                     run_program)

BODY = {"steps": 3, "seed": 5, "class": "class 2"}


def accept(value):
    return {**JSON, "Accept": value}


class TestSeeds(ServerCase):
    """What makes pictures equal and what makes them differ."""

    def test_same_request_same_bytes(self):
        self.assertEqual(self.picture(BODY), self.picture(BODY))

    def test_everything_that_matters_matters(self):
        changes = [{}, {"seed": 6}, {"index": 1}, {"class": 3}, {"class": None}, {"steps": 4},
                   {"solver": "euler"}, {"solver": "heun"}, {"guidance": 3}, {"size": "48x32"},
                   {"skip": {"t_break": 0.5}}, {"quality": 50}, {"progressive": True}]
        bodies = [self.picture({**BODY, **change, "format": "jpeg"}) for change in changes]
        self.assertEqual(len(set(bodies)), len(changes))

    def test_defaults_are_what_the_document_says(self):
        said = {"n": 1, "size": "32x32", "steps": 20, "solver": "dpmpp2m", "guidance": 1.5,
                "index": 0, "skip": "none", "format": "jpeg", "quality": 90, "progressive": False, "class": None}
        self.assertEqual(self.picture({"seed": 3}), self.picture({"seed": 3, **said}))

    def test_class_by_name_and_index(self):
        by_name = self.picture(BODY)
        self.assertEqual(by_name, self.picture({**BODY, "class": 2}))
        self.assertEqual(by_name, self.picture({**BODY, "class": "CLASS 2"}))

    def test_n_is_so_many_requests(self):
        images = self.generate({**BODY, "n": 4, "index": 10}).images()
        singles = [self.picture({**BODY, "index": 10 + i}) for i in range(4)]
        self.assertEqual(images, singles)
        self.assertEqual(len(set(images)), 4)

    def test_random_seed_is_reported(self):
        first, second = self.generate({"steps": 2}), self.generate({"steps": 2})
        seeds = [int(answer.headers["Brickwork-Seed"]) for answer in (first, second)]
        self.assertNotEqual(*seeds)
        self.assertEqual(first.body, self.picture({"steps": 2, "seed": seeds[0]}))

    def test_random_seed_is_reported_in_json(self):
        answer = self.generate({"steps": 2, "n": 2})
        seed = answer.json()["request"]["seed"]
        again = self.generate({"steps": 2, "n": 2, "seed": seed})
        self.assertEqual(answer.images(), again.images())

    def test_same_bytes_in_a_crowd(self):
        """Mixed work runs beside the request, in the same batches."""
        others = [{"steps": 7, "size": "64x32"}, {"steps": 5, "skip": "fast"}, {"n": 3, "steps": 4},
                  {"solver": "heun", "steps": 4, "class": 1}, {"guidance": 1, "steps": 9}]
        reference = self.picture(BODY)
        answers = in_parallel(24, lambda i: self.generate(BODY if i % 2 else others[i // 2 % 5]))
        self.assertEqual({a.status for a in answers}, {200})
        self.assertEqual({a.body for a in answers[1::2]}, {reference})


class TestReplay(ServerCase):
    """The effective request that comes back gives the same bytes again."""
    model = POMOLOGY

    REQUESTS = [
        {"steps": 2},
        {"steps": 6, "skip": "light"}, {"steps": 6, "skip": "balanced"},
        {"steps": 6, "skip": "fast"},
        {"steps": 2, "skip": {"t_break": 0.5}}, {"steps": 3, "skip": {"t_break": 1 / 3}},
        {"steps": 5, "skip": {"schedule": [{"until": 0.4, "skip": [0, 2]}]}},
        {"steps": 7, "skip": {"schedule": [{"until": 1 / 7, "skip": [1]},
                                           {"until": 0.9, "skip": [0]}]}},
        {"steps": 2, "solver": "heun"}, {"steps": 3, "solver": "euler"},
        {"steps": 2, "guidance": 7.3, "format": "png"}, {"steps": 2, "quality": 31, "class": None},
        {"steps": 2, "format": "webp", "quality": 60}, {"steps": 2, "progressive": True},
        {"steps": 2, "format": "webp", "progressive": True},
    ]

    def test_by_header(self):
        for body in self.REQUESTS:
            with self.subTest(str(body)):
                answer = self.generate({"class": "pears", "guidance": 1, **body})
                self.assertEqual(answer.status, 200, answer.body)
                again = self.generate(answer.headers["Brickwork-Request"].encode(), JSON)
                self.assertEqual(again.body, answer.body)
                self.assertEqual(again.headers["Brickwork-Request"],
                                 answer.headers["Brickwork-Request"])

    def test_by_json(self):
        body = {"class": "plums", "steps": 2, "n": 2, "skip": "fast", "format": "png"}
        answer = self.generate(body, accept("application/json"))
        again = self.generate(answer.json()["request"], accept("application/json"))
        self.assertEqual(again.images(), answer.images())
        self.assertEqual(again.json()["request"], answer.json()["request"])

    def test_presets_save_work(self):
        """Less and less work, and a picture that differs: the preset was not just noted."""
        costs = []
        for preset in ["none", "light", "balanced", "fast"]:
            answer = self.generate({"class": None, "steps": 8, "seed": 1, "skip": preset},
                                   accept("application/json"))
            costs.append(answer.json()["cost"]["gigaflops"])
        self.assertEqual(costs, sorted(costs, reverse=True))
        self.assertLess(costs[3], 0.6 * costs[0])

    def test_sizes(self):
        for size in [(128, 128), (128, 192), (192, 128), (256, 256), (128, 384)]:
            with self.subTest(size):
                body = {"class": 11, "guidance": 1, "seed": 1, "steps": 2, "size": "%dx%d" % size}
                picture = Image.open(io.BytesIO(self.picture(body)))
                picture.load()
                self.assertEqual((picture.size, picture.mode), (size, "RGB"))

    def test_command_line_makes_the_same_files(self):
        body = {"class": "apples", "steps": 2, "seed": 8, "n": 2, "skip": "balanced",
                "format": "png"}
        images = self.generate(body).images()
        options = [f"--{name}={value}" for name, value in body.items()]
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder, "a.png")
            result = run_program(COMMAND, "generate", *options, "--out", out, "--model", POMOLOGY)
            self.assertEqual(result.returncode, 0, result.stderr)
            files = [pathlib.Path(folder, f"a-{i}.png").read_bytes() for i in range(2)]
        self.assertEqual(files, images)

    def test_command_line_makes_the_same_files_in_every_format(self):
        silent = Server("--comments", "off", model=self.model)
        self.addCleanup(silent.stop)
        body = {"class": 1, "steps": 1, "seed": 8, "progressive": True, "quality": 70}
        options = [f"--{name}={json.dumps(value)}" for name, value in body.items()]
        for name in ("jpeg", "png", "webp"):
            for server, extra in [(self.server, []), (silent, ["--comments", "off"])]:
                with self.subTest(f"{name} {extra}"), tempfile.TemporaryDirectory() as folder:
                    out = pathlib.Path(folder, "a")
                    result = run_program(COMMAND, "generate", *options, "--format", name, *extra,
                                         "--out", out, "--model", POMOLOGY)
                    self.assertEqual(result.returncode, 0, result.stderr)
                    answer = ask(server, "POST", "/v1/generate", {**body, "format": name})
                    self.assertEqual(out.read_bytes(), answer.body)


class TestFormats(ServerCase):
    """What comes back as what."""

    def test_accept(self):
        jpeg, png, webp = "image/jpeg", "image/png", "image/webp"
        as_json, events = "application/json", "text/event-stream"
        cases = [
            (None, {}, jpeg), ("", {}, jpeg), ("*/*", {}, jpeg), ("image/*", {}, jpeg),
            ("image/png", {}, png), ("IMAGE/PNG", {}, png), ("image/jpeg", {}, jpeg),
            ("image/png;q=0.5, image/jpeg;q=0.4", {}, png), ("image/png;q=0.5, */*", {}, jpeg),
            ("image/png, image/*;q=0.9", {}, png), ("image/jpeg;q=0, */*", {}, png),
            ("text/event-stream", {}, events), ("image/png;q=0.9, text/*", {}, events),
            ("text/event-stream", {"n": 2}, events), ("image/*;q=0, */*", {}, as_json), ("application/*", {}, as_json),
            ("application/json", {}, as_json), ("application/json, image/png;q=0.9", {}, as_json),
            ("text/html, image/avif, image/*;q=0.8, */*;q=0.5", {}, jpeg),
            ("text/html, image/avif, image/webp, image/*;q=0.8, */*;q=0.5", {}, webp),
            ("image/webp", {}, webp), ("image/webp, image/png", {}, png),
            ("image/webp, image/jpeg", {}, jpeg), ("image/webp;q=0, image/png;q=0.1", {}, png),
            ("image/jpeg;q=0, image/png;q=0, */*", {}, webp),
            ("application/json, image/webp", {}, webp),
            (None, {"format": "webp"}, webp), ("image/*", {"format": "webp"}, webp),
            ("image/png, image/jpeg", {"format": "webp"}, None),
            ("image/webp", {"format": "png"}, None), ("image/webp", {"n": 2}, None),
            ("text/html", {}, None), ("image/avif", {}, None), ("*/*;q=0", {}, None),
            ("image/png;q=0", {}, None), ("garbage", {}, None), (",,,", {}, None),
            (None, {"format": "png"}, png), ("*/*", {"format": "png"}, png),
            ("image/jpeg", {"format": "png"}, None),
            ("application/json", {"format": "png"}, as_json),
            (None, {"n": 2}, as_json), ("image/png", {"n": 2}, None),
            ("image/png, application/json;q=0.1", {"n": 2}, as_json),
        ]
        for value, extra, expected in cases:
            with self.subTest(accept=value, **extra):
                headers = JSON if value is None else accept(value)
                answer = self.generate({**BODY, **extra}, headers)
                if expected is None:
                    self.refused(answer, 406)
                else:
                    self.assertEqual((answer.status, answer.type), (200, expected))

    def test_several_accept_fields_are_one_list(self):
        """RFC 9110, section 5.3: fields of one name are their values joined by commas."""
        with Client(self.server) as client:
            body = json.dumps(BODY).encode()
            client.sent = "POST", "/v1/generate", body
            client.connection.putrequest("POST", "/v1/generate")
            for name, value in [("Content-Type", "application/json"), ("Accept", "text/html"),
                                ("Accept", "image/png"), ("Content-Length", str(len(body)))]:
                client.connection.putheader(name, value)
            client.connection.endheaders(body)
            self.assertEqual(client.receive().type, "image/png")

    def test_formats_hold_the_same_picture(self):
        """PNG is exact; JPEG at quality 100 is close to it, WebP in brightness: colour it halves."""
        png = Image.open(io.BytesIO(self.picture({**BODY, "format": "png"})))
        self.assertEqual((png.format, png.mode), ("PNG", "RGB"))
        for name, extra, mode in [("jpeg", {}, "RGB"), ("jpeg", {"progressive": True}, "RGB"),
                                  ("webp", {}, "L")]:
            with self.subTest(name, **extra):
                body = {**BODY, "format": name, "quality": 100, **extra}
                other = Image.open(io.BytesIO(self.picture(body)))
                self.assertEqual((other.format, other.mode, other.size),
                                 (name.upper(), "RGB", png.size))
                pairs = zip(png.convert(mode).tobytes(), other.convert(mode).tobytes())
                far = [abs(a - b) for a, b in pairs]
                self.assertLess(sum(far) / len(far), 3)

    def test_longest_sides(self):
        """What no file of the format can hold is refused before it is computed."""
        server = Server("--max-area", 1 << 22)
        self.addCleanup(server.stop)
        for form, size in ("webp", "32x16384"), ("jpeg", "65504x32"):
            for path in ("/v1/quote", "/v1/generate"):
                answer = ask(server, "POST", path, {"format": form, "size": size, "steps": 1})
                problem = self.refused(answer, 422, "/size")
                self.assertRegex(problem["detail"], f"(?i)^{form} has sides of [0-9]+ pixels at most")
        self.assertEqual(ask(server, "POST", "/v1/generate",
                             {"format": "webp", "size": "32x16352", "steps": 1, "seed": 1}).status, 200)

    def test_quality_is_size(self):
        for name in ("jpeg", "webp"):
            sizes = [len(self.picture({**BODY, "format": name, "quality": q}))
                     for q in (5, 50, 100)]
            self.assertEqual(sizes, sorted(set(sizes)))

    def test_progressive(self):
        """Only a JPEG changes, and only in the order of what it says and in its comment."""
        plain, progressive = (self.picture({**BODY, "format": "jpeg", "progressive": p})
                              for p in (False, True))
        plain, progressive = (Image.open(io.BytesIO(file)) for file in (plain, progressive))
        self.assertEqual((plain.info.get("progressive"), progressive.info.get("progressive")),
                         (None, 1))
        self.assertEqual(plain.tobytes(), progressive.tobytes())
        for name in ("png", "webp"):
            body = {**BODY, "format": name}
            self.assertEqual(self.picture(body), self.picture({**body, "progressive": True}))

    def test_progressive_is_said_only_if_so(self):
        for value in (False, True):
            answer = self.generate({**BODY, "progressive": value})
            said = json.loads(answer.headers["Brickwork-Request"])
            self.assertEqual(said.get("progressive"), True if value else None)

    def test_what_changes_nothing_is_not_said(self):
        """PNG has no quality, and only JPEG has progressive."""
        asked = {**BODY, "quality": 40, "progressive": True}
        for name, quality in [("png", 90), ("webp", 40)]:
            answer = self.generate({**asked, "format": name})
            said = json.loads(answer.headers["Brickwork-Request"])
            self.assertEqual((said["quality"], said.get("progressive")), (quality, None))
            self.assertEqual(answer.body, self.picture(said))

    def test_json_says_what_it_holds(self):
        answer = self.generate({**BODY, "format": "png", "index": 3}, accept("application/json"))
        image = answer.json()["images"][0]
        self.assertEqual((image["index"], image["media_type"]), (3, "image/png"))
        self.assertEqual(answer.images()[0], self.picture({**BODY, "format": "png", "index": 3}))
        self.assertEqual(answer.json()["id"], answer.headers["X-Request-Id"])

    def test_headers_of_a_picture(self):
        answer = self.generate(BODY)
        self.assertRegex(answer.headers["Server-Timing"],
                         r"^queue;dur=\S+, compute;dur=\S+, encode;dur=\S+, total;dur=\S+, predicted;dur=\S+$")
        model = ask(self.server, "GET", "/v1/models").json()["data"][0]
        self.assertEqual(answer.headers["Brickwork-Model-Digest"], model["digest"])

    def test_evaluations_are_counted(self):
        """dpmpp2m calls once a step, heun twice but for the last; guidance doubles both."""
        for extra, calls in [({}, 6), ({"guidance": 1}, 3), ({"class": None}, 3),
                             ({"solver": "heun", "guidance": 1}, 5), ({"n": 2}, 12)]:
            with self.subTest(extra):
                answer = self.generate({**BODY, **extra}, accept("application/json"))
                self.assertEqual(answer.json()["cost"]["evaluations"], calls)

    def test_long_schedule_leaves_out_the_header(self):
        """256 ranges do not fit into the replay header; the JSON has them."""
        ranges = [{"until": (i + 1) / 256, "skip": [i % 2]} for i in range(256)]
        body = {"steps": 256, "seed": 1, "guidance": 1, "skip": {"schedule": ranges}}
        picture = self.generate(body)
        self.assertEqual(picture.status, 200)
        self.assertNotIn("Brickwork-Request", picture.headers)
        replay = self.generate(body, accept("application/json")).json()["request"]
        self.assertEqual(self.picture(replay), picture.body)


def comment_of(data):
    """What the file says of itself, or None; there is no other place where it says anything."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    assert not picture.getexif()
    if picture.format == "JPEG":
        comment = picture.info.get("comment")
        return comment and comment.decode("ascii")
    if picture.format == "PNG":
        assert set(picture.text) <= {"parameters"}, picture.text
        return picture.text.get("parameters")
    packet = picture.info.get("xmp")
    return packet and "".join(ElementTree.fromstring(packet).itertext())


class TestComments(ServerCase):
    """What a file says of itself: how to get it again, and nothing about who asked, when or how."""

    def test_comment(self):
        model = ask(self.server, "GET", "/v1/models").json()["data"][0]
        version = ask(self.server, "GET", "/v1/capabilities").json()["version"]
        for name in ("jpeg", "png", "webp"):
            with self.subTest(name):
                body = {**BODY, "format": name, "n": 2, "index": 4, "skip": {"t_break": 0.5}}
                answer = self.generate(body)
                images, effective = answer.images(), answer.json()["request"]
                for i, image in enumerate(images):
                    comment = json.loads(comment_of(image))
                    self.assertEqual(comment, {"brickwork": version, "model_digest": model["digest"],
                                               "request": {**effective, "n": 1, "index": 4 + i}})
                    self.assertEqual(self.picture(comment["request"]), image)

    def test_only_what_matters(self):
        """Neither the words of the request nor its company leave a trace."""
        for name in ("jpeg", "png", "webp"):
            body = {**BODY, "format": name}
            with self.subTest(name):
                plain = self.picture(body)
                others = [{"class": 2, "model": "tiny-pg-32", "size": "32x32"}, {"skip": "auto"},
                          {"deadline_ms": 3600000, "priority": "high"}, {"partial_images": 3},
                          {"skip": {"schedule": [{"until": 0.5, "skip": []}]}}]
                for other in others:
                    self.assertEqual(self.picture({**body, **other}), plain, other)
                self.assertEqual(self.generate({**body, "n": 2}).images()[0], plain)

    def test_off(self):
        server = Server("--comments", "off")
        self.addCleanup(server.stop)
        for name in ("jpeg", "png", "webp"):
            body = {**BODY, "format": name}
            with self.subTest(name):
                bare = ask(server, "POST", "/v1/generate", body).body
                self.assertIsNone(comment_of(bare))
                said = self.picture(body)
                self.assertNotEqual(said, bare)
                self.assertEqual(*(Image.open(io.BytesIO(file)).tobytes() for file in (said, bare)))


class TestModels(unittest.TestCase):
    """GET /v1/models describes the file that is loaded."""

    def test_unconditional_model(self):
        server = Server(model=ROOT / "tests/models/tiny-pr-32.safetensors")
        self.addCleanup(server.stop)
        model = ask(server, "GET", "/v1/models").json()["data"][0]
        self.assertEqual((model["id"], model["classes"]), ("tiny-pr-32", []))
        self.assertEqual([b["size"] for b in model["bricks"]], [32, 16, 8])
        self.assertEqual(ask(server, "POST", "/v1/generate", {"steps": 2}).status, 200)
        refusal = ask(server, "POST", "/v1/generate", {"class": 0})
        self.assertEqual((refusal.status, refusal.json()["errors"][0]["pointer"]), (422, "/class"))


if __name__ == "__main__":
    unittest.main()
