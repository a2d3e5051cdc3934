"""POST /v1/images/generations as the official client of OpenAI's API uses it."""
import base64
import io
import unittest

from PIL import Image

from support import JSON, POMOLOGY, ServerCase, ask

PATH = "/v1/images/generations"


class OpenaiCase(ServerCase):

    def create(self, **body):
        """images.generate(**body) of the official client."""
        headers = {**JSON, "Accept": "application/json", "Authorization": "Bearer unused"}
        return ask(self.server, "POST", PATH, body, headers)

    def refused_field(self, status, field, **body):
        problem = self.refused(self.create(**body), status, "/" + field)
        self.assertEqual(problem["error"]["param"], field)
        self.assertEqual(problem["error"]["type"], "invalid_request_error")
        self.assertEqual(problem["error"]["message"], problem["detail"])
        return problem


class TestImages(OpenaiCase):

    def test_request_of_the_official_client(self):
        answer = self.create(model="tiny-pg-32", prompt="a picture of class 3", n=2, size="32x48",
                             response_format="b64_json", user="somebody")
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual((answer.json()["size"], answer.json()["output_format"]), ("32x48", "png"))
        for image in answer.json()["data"]:
            picture = Image.open(io.BytesIO(base64.b64decode(image["b64_json"], validate=True)))
            picture.load()
            self.assertEqual((picture.format, picture.size), ("PNG", (32, 48)))

    def test_only_the_prompt(self):
        first, second = self.create(prompt="class 1"), self.create(prompt="class 1")
        self.assertEqual((first.status, second.status), (200, 200))
        self.assertEqual(len(first.json()["data"]), 1)
        self.assertNotEqual(first.json()["data"], second.json()["data"], "the seed is random")

    def test_options(self):
        for body in [{"quality": "low"}, {"quality": "medium"}, {"quality": "hd"}, {"size": "auto"},
                     {"background": "auto"}, {"background": "opaque"}, {"stream": False},
                     {"output_compression": 0, "output_format": "jpeg"},
                     {"output_compression": 0, "output_format": "webp"}]:
            with self.subTest(str(body)):
                answer = self.create(prompt="class 1", **body)
                self.assertEqual(answer.status, 200, answer.body)

    def test_output_formats(self):
        for name in ("png", "jpeg", "webp"):
            with self.subTest(name):
                answer = self.create(prompt="class 1", output_format=name, output_compression=40)
                self.assertEqual(answer.json()["output_format"], name)
                data = base64.b64decode(answer.json()["data"][0]["b64_json"])
                self.assertEqual(Image.open(io.BytesIO(data)).format, name.upper())

    def test_refused_fields(self):
        prompt = {"prompt": "class 1"}
        cases = [("prompt", {}), ("prompt", {"prompt": ""}), ("prompt", {"prompt": 1}),
                 ("prompt", {"prompt": "a durian"}), ("prompt", {"prompt": "x" * 4096})]
        cases += [(name, {**prompt, name: value}) for name, value in [
            ("n", 0), ("n", 9), ("n", "1"), ("size", "31x31"), ("size", "large"), ("size", 32),
            ("size", "128"), ("size", "{"), ("size", "{}"), ("size", "1e5"), ("size", ""),
            ("quality", "best"), ("response_format", "url"), ("background", "transparent"),
            ("stream", 1), ("partial_images", 1), ("partial_images", 4), ("style", "vivid"), ("user", ""), ("user", "x" * 512),
            ("output_format", "gif"), ("output_format", None), ("output_compression", 101), ("model", "")]]
        for field, body in cases:
            with self.subTest(str(body)[:60]):
                self.refused_field(422, field, **body)

    def test_unknown_model(self):
        self.refused_field(404, "model", prompt="class 1", model="dall-e-3")

    def test_refusals_without_a_field(self):
        for body, headers, status in [(b"{", JSON, 400), (b"{}", {"X-Other": "1"}, 415),
                                      (b'{"prompt":"class 1"}', {**JSON, "Accept": "a/b"}, 406)]:
            problem = self.refused(ask(self.server, "POST", PATH, body, headers), status)
            self.assertIsNone(problem["error"]["param"])


class TestPrompts(OpenaiCase):
    """A prompt has to name a class of the model, in whatever words surround it."""
    model = POMOLOGY

    def test_prompts_that_name_a_class(self):
        """A size that cannot be made shows that the prompt was understood, at no cost."""
        for prompt in ["a watercolour of two lemons", "A LEMON!", "cherry on a plate", "plums",
                       "one mango, ripe", "other fruits and nuts"]:
            with self.subTest(prompt):
                self.refused_field(422, "size", prompt=prompt, size="1x1")

    def test_prompts_that_name_none(self):
        for prompt in ["a durian", "pineapples", "über", "\U0001f34b", "   ", "apply some colour",
                       "a plume of smoke"]:
            with self.subTest(prompt):
                self.refused_field(422, "prompt", prompt=prompt, size="1x1")

    def test_quality_saves_work(self):
        """The same prompt at low quality makes a smaller effort, and a picture all the same."""
        answer = self.create(prompt="a lemon", quality="low")
        self.assertEqual(answer.status, 200, answer.body)
        before = self.server.metrics()
        self.assertGreater(sum(v for k, v in before.items() if 'action="skipped"' in k), 0)


if __name__ == "__main__":
    unittest.main()
