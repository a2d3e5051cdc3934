"""GET /v1/generate: pictures with an address, which a cache may keep."""
import hashlib
import io
import json
import tempfile
import unittest
import urllib.parse

from PIL import Image

from support import POMOLOGY, TINY, Client, Server, ServerCase, ask

QUERY = {"seed": 7, "steps": 3, "class": "class 2"}
FOREVER = "max-age=31536000, immutable"
KEY = "a key for tests"
SCHEDULE = {"schedule": [{"until": 0.5, "skip": [0]}]}


def address(**query):
    """The path of the picture of these fields; what is not text goes as JSON."""
    texts = {name: value if isinstance(value, str) else json.dumps(value)
             for name, value in query.items()}
    return "/v1/generate?" + urllib.parse.urlencode(texts)


class CacheableCase(ServerCase):

    def get(self, headers=None, method="GET", server=None, **query):
        return ask(server or self.server, method, address(**query), headers=headers or {})

    def ok(self, *rest, **query):
        """The same for a picture that there has to be."""
        answer = self.get(*rest, **query)
        self.assertEqual(answer.status, 200, answer.body[:300])
        self.assertRegex(answer.headers["ETag"], '^"[0-9a-f]{64}"$')
        return answer

    def start(self, *flags, **settings):
        server = Server(*flags, **settings)
        self.addCleanup(server.stop)
        return server

    def evaluations(self):
        """Steps of the network and pictures that were admitted, so far."""
        metrics = self.server.metrics()
        return [value for name, value in metrics.items()
                if name.startswith(("step_seconds_count", "pictures_total", "admissions_total"))]


class TestPicture(CacheableCase):

    def test_is_that_of_the_post(self):
        for extra in [{}, {"format": "png"}, {"format": "webp", "quality": 40}, {"index": 3},
                      {"size": "32x48", "solver": "heun"}, {"skip": SCHEDULE}, {"class": None},
                      {"skip": {"t_break": 0.5}}, {"skip": "fast"}, {"progressive": True},
                      {"model": "tiny-pg-32", "guidance": 3.5, "n": 1, "priority": "low"}]:
            with self.subTest(extra):
                answer = self.ok(**{**QUERY, **extra})
                self.assertEqual(answer.body, self.picture({**QUERY, **extra}))
                self.assertEqual(answer.headers["Cache-Control"], "public, " + FOREVER)
                self.assertEqual(answer.headers["Vary"], "Accept")
                again = json.loads(answer.headers["Brickwork-Request"])
                self.assertEqual(self.ok(**again).headers["ETag"], answer.headers["ETag"])

    def test_accept(self):
        for accept, expected in [("image/png", "PNG"), ("image/webp", "WEBP"), ("*/*", "JPEG"),
                                 ("image/avif,image/webp,image/*;q=0.8,*/*;q=0.5", "WEBP")]:
            answer = self.ok({"Accept": accept}, **QUERY)
            self.assertEqual(Image.open(io.BytesIO(answer.body)).format, expected)
        for accept in ("text/html", "application/json", "text/event-stream", "image/avif"):
            self.refused(self.get({"Accept": accept}, **QUERY), 406)
        self.refused(self.get({"Accept": "image/png"}, **QUERY, format="jpeg"), 406)

    def test_head(self):
        get, head = self.ok(**QUERY), self.get(method="HEAD", **QUERY)
        self.assertEqual((head.status, head.body), (200, b""))
        for name in ("ETag", "Content-Type", "Content-Length", "Cache-Control", "Brickwork-Seed"):
            self.assertEqual(head.headers[name], get.headers[name])
        known = {"If-None-Match": get.headers["ETag"]}
        self.assertEqual(self.get(known, method="HEAD", **QUERY).status, 304)

    def test_queries_that_are_refused(self):
        cases = [({}, "/seed"), ({"seed": ""}, "/seed"), ({"seed": -1}, "/seed"),
                 ({"seed": "null"}, "/seed"), ({"seed": 1, "n": 2}, "/n"),
                 ({"seed": 1, "n": 0}, "/n"), ({"seed": 1, "steps": 0}, "/steps"),
                 ({"seed": 1, "steps": "1.5"}, "/steps"), ({"seed": 1, "colour": "red"}, "/colour"),
                 ({"seed": 1, "partial_images": 1}, "/partial_images"),
                 ({"seed": 1, "webhook": "https://a.example"}, "/webhook"),
                 ({"seed": 1, "class": "durians"}, "/class"), ({"seed": 1, "class": ""}, "/class"),
                 ({"seed": 1, "size": "31x31"}, "/size"), ({"seed": 1, "format": "gif"}, "/format"),
                 ({"seed": 1, "skip": {"t_break": 2}}, "/skip/t_break"),
                 ({"seed": 1, "skip": '{"t_break":'}, "/skip"),
                 ({"seed": 1, "skip": "some"}, "/skip"), ({"seed": 1, "a/b": 1}, "/a~1b"),
                 ({"seed": 1, "progressive": "yes"}, "/progressive")]
        for query, pointer in cases:
            with self.subTest(query):
                self.refused(self.get(**query), 422, pointer)
        self.refused(ask(self.server, "GET", address(seed=1) + "&seed=1"), 422, "/seed")
        self.refused(ask(self.server, "GET", address(seed=1) + "&class=null&class=1"), 422, "/class")
        self.refused(ask(self.server, "GET", address(seed=1) + "&class=%zz"), 400)
        self.refused(self.get(seed=1, model="another"), 404, "/model")
        self.refused(self.get(seed=1, deadline_ms=1, size="512x512"), 503, "/deadline_ms")

    def test_nothing_refused_is_cached(self):
        for query in [{"seed": 1, "steps": 0}, {"seed": 1, "model": "another"},
                      {"seed": 1, "deadline_ms": 1, "size": "512x512"}]:
            answer = self.get({"If-None-Match": "*"} if "steps" in query else None, **query)
            self.assertGreaterEqual(answer.status, 400)
            self.assertEqual((answer.headers["Cache-Control"], answer.headers["ETag"]), ("no-store", None))


class TestTags(CacheableCase):
    """Strong entity tags: one for each file that can be."""

    def test_same_bytes_same_tag(self):
        """However it is asked for, and by whoever it is made."""
        tag = self.ok(**QUERY).headers["ETag"]
        for other in [{"class": 2}, {"class": "CLASS 2"}, {"n": 1}, {"guidance": "1.50"},
                      {"size": "32x32", "quality": 90, "solver": "dpmpp2m", "index": 0},
                      {"model": "tiny-pg-32"}, {"skip": "none"}, {"skip": {"t_break": 0}},
                      {"priority": "high"}, {"deadline_ms": 3600000}, {"progressive": False}]:
            with self.subTest(other):
                self.assertEqual(self.ok(**{**QUERY, **other}).headers["ETag"], tag)
        for quality, progressive in [(20, True), (90, False)]:
            png = self.ok(**QUERY, format="png", quality=quality, progressive=progressive)
            self.assertEqual(png.headers["ETag"], self.ok(**QUERY, format="png").headers["ETag"])

    def test_stable_across_servers(self):
        first = self.ok(**QUERY)
        for flags in [("--workers", 2, "--threads", 1), ("--batch", 1), ("--workers", 1)]:
            with self.subTest(flags):
                other = self.ok(server=self.start(*flags), **QUERY)
                self.assertEqual((other.headers["ETag"], other.body),
                                 (first.headers["ETag"], first.body))

    def test_other_bytes_other_tag(self):
        changes = [{}, {"seed": 8}, {"steps": 4}, {"class": 3}, {"class": None}, {"index": 1},
                   {"size": "48x32"}, {"solver": "euler"}, {"solver": "heun"}, {"guidance": 3},
                   {"skip": {"t_break": 0.5}}, {"skip": SCHEDULE}, {"quality": 50},
                   {"progressive": True}, {"format": "png"}, {"format": "webp"}]
        answers = [self.ok(**{**QUERY, **change}) for change in changes]
        self.assertEqual(len({a.headers["ETag"] for a in answers}), len(changes))
        self.assertEqual(len({a.body for a in answers}), len(changes))

    def test_other_model_comment_or_precision(self):
        tags = {self.ok(**QUERY).headers["ETag"],
                self.ok(server=self.start("--comments", "off"), **QUERY).headers["ETag"]}
        self.assertEqual(len(tags), 2)
        copy = tempfile.NamedTemporaryFile(suffix=".safetensors")
        self.addCleanup(copy.close)
        data = bytearray(TINY.read_bytes())
        data[-3] ^= 1  # a weight: the name stays
        copy.write(data)
        copy.flush()
        tags.add(self.ok(server=self.start(model=copy.name), **QUERY).headers["ETag"])
        self.assertEqual(len(tags), 3)
        kernels = {}
        for precision in ("bf16", "f32"):
            server = self.start("--precision", precision)
            name = ask(server, "GET", "/v1/capabilities").json()["kernels"]
            kernels[name] = self.ok(server=server, **QUERY).headers["ETag"]
        self.assertEqual(len(set(kernels.values())), len(kernels), kernels)

    def test_known_pictures_are_not_computed(self):
        tag = self.ok(**QUERY).headers["ETag"]
        before = self.evaluations()
        self.assertTrue(before)
        for known in [tag, "W/" + tag, "*", f'"other", {tag}', f'W/"a",{tag} ,"b"']:
            with self.subTest(known):
                answer = self.get({"If-None-Match": known}, **QUERY)
                self.assertEqual((answer.status, answer.body), (304, b""))
                self.assertNotIn("Content-Length", answer.headers)  # it would be the picture's
                self.assertEqual(answer.headers["ETag"], tag)
                self.assertEqual(answer.headers["Cache-Control"], "public, " + FOREVER)
                self.assertEqual(answer.headers["Vary"], "Accept")
        self.assertEqual(self.evaluations(), before)

    def test_tags_that_do_not_match(self):
        tag = self.ok(**QUERY).headers["ETag"]
        body = self.ok(**QUERY).body
        before = self.evaluations()
        for known in ['"other"', tag.strip('"'), tag[:-2] + '"', f'{tag} {tag}', ""]:
            with self.subTest(known):
                self.assertEqual(self.ok({"If-None-Match": known}, **QUERY).body, body)
        self.assertNotEqual(self.evaluations(), before)
        self.assertEqual(self.ok({"If-None-Match": tag}, **{**QUERY, "seed": 8}).status, 200)

    def test_several_fields(self):
        tag = self.ok(**QUERY).headers["ETag"]
        with Client(self.server) as client:
            client.sent = "GET", address(**QUERY), None
            client.connection.putrequest("GET", address(**QUERY))
            client.connection.putheader("If-None-Match", '"other"')
            client.connection.putheader("If-None-Match", tag)
            client.connection.endheaders()
            self.assertEqual(client.receive().status, 304)


class TestAuto(CacheableCase):
    """Where the schedule is the service's to choose the address does not name the bytes."""
    model = POMOLOGY
    flags = ("--workers", 1)
    QUERY = {"seed": 3, "steps": 8, "guidance": 1, "class": 2}

    def test_says_so(self):
        plain, auto = self.ok(**self.QUERY), self.ok(**self.QUERY, skip="auto")
        self.assertEqual(auto.headers["Cache-Control"], "no-cache")
        self.assertEqual((auto.body, auto.headers["ETag"]), (plain.body, plain.headers["ETag"]))
        known = self.get({"If-None-Match": plain.headers["ETag"]}, **self.QUERY, skip="auto")
        self.assertEqual((known.status, known.body), (304, b""))
        self.assertEqual(known.headers["Cache-Control"], "no-cache")

    def test_degraded_is_another(self):
        full = self.ok(**self.QUERY)
        refusal = self.get(**self.QUERY, deadline_ms=1)
        deadline = 0.85 * refusal.json()["offer"]["deadline_ms"]
        answer = self.get({"If-None-Match": full.headers["ETag"]}, **self.QUERY, skip="auto",
                          deadline_ms=deadline)
        self.assertEqual(answer.status, 200, answer.body[:300])
        self.assertEqual(answer.headers["Cache-Control"], "no-cache")
        self.assertNotEqual(answer.headers["ETag"], full.headers["ETag"])
        effective = json.loads(answer.headers["Brickwork-Request"])
        self.assertNotEqual((effective["skip"], effective["steps"]), ("none", 8))
        again = self.ok(**effective)
        self.assertEqual((again.body, again.headers["ETag"]),
                         (answer.body, answer.headers["ETag"]))


class TestKeys(CacheableCase):

    def test_private(self):
        file = tempfile.NamedTemporaryFile("w", suffix=".keys")
        self.addCleanup(file.close)
        file.write(f"tester {hashlib.sha256(KEY.encode()).hexdigest()}\n")
        file.flush()
        server, key = self.start("--keys-file", file.name), {"Authorization": f"Bearer {KEY}"}
        answer = self.ok(key, server=server, **QUERY)
        self.assertEqual(answer.headers["Cache-Control"], "private, " + FOREVER)
        known = {"If-None-Match": answer.headers["ETag"]}
        again = self.get({**key, **known}, server=server, **QUERY)
        self.assertEqual((again.status, again.headers["Cache-Control"]),
                         (304, "private, " + FOREVER))
        self.assertEqual(self.get(known, server=server, **QUERY).status, 401)


class TestJobs(CacheableCase):
    """The pictures of a job have tags too."""

    def test_known(self):
        path = "/v1/jobs/cached"
        ask(self.server, "POST", "/v1/generate", {**QUERY, "n": 2, "format": "png"},
            {"Content-Type": "application/json", "Idempotency-Key": "cached"})
        answer = ask(self.server, "GET", path + "/images/1")
        self.assertEqual(answer.status, 200)
        known = ask(self.server, "GET", path + "/images/1",
                    headers={"If-None-Match": answer.headers["ETag"]})
        self.assertEqual((known.status, known.body), (304, b""))
        for name in ("ETag", "Cache-Control"):
            self.assertEqual(known.headers[name], answer.headers[name])


if __name__ == "__main__":
    unittest.main()
