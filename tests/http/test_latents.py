"""Models of latents: their decoders, sizes in pixels, and pictures beside those of other models."""
import base64
import hashlib
import io
import pathlib
import shutil
import signal
import tempfile
import unittest

import latents
from events import named, read_events
from PIL import Image
from support import (COMMAND, ENDLESS, JSON, QUICK, SERVER, TINY, Client, Server, ask, in_parallel, run_program,
                     wait_until)

NAME = latents.LEGO["name"]
PNG = {**QUICK, "format": "png"}


def picture_of(data):
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


class Folder:
    """A folder with a decoder and a model that names it; files are put in place whole."""

    def __init__(self, case):
        temporary = tempfile.TemporaryDirectory()
        case.addCleanup(temporary.cleanup)
        self.path = pathlib.Path(temporary.name)
        self.model = self.path / latents.MODEL
        self.put(1)

    def write(self, name, data):
        (self.path / "new").write_bytes(data)
        (self.path / "new").rename(self.path / name)

    def put(self, seed, model=True, decoder=True):
        """The decoder of that seed, and the model made for it."""
        data = latents.decoder(seed)
        if decoder:
            self.write(latents.DECODER, data)
        if model:
            self.write(latents.MODEL, latents.model(decoder=data))

    def add_pixels(self):
        shutil.copy(TINY, self.path / "z.safetensors")


class LatentCase(unittest.TestCase):

    def setUp(self):
        self.folder = Folder(self)

    def start(self, *flags, model=None, env=None):
        server = Server(*flags, model=model or self.folder.model, env=env)
        self.addCleanup(server.stop)
        return server

    def picture(self, server, body, headers=None):
        response = ask(server, "POST", "/v1/generate", body, headers)
        self.assertEqual(response.status, 200, response.body[:300])
        return response.body


class TestPictures(LatentCase):

    def test_what_is_said_of_the_model(self):
        server = self.start()
        card = ask(server, "GET", f"/v1/models/{NAME}").json()
        self.assertEqual(card["sizes"], {"default": 64, "min_side": 64, "side_multiple": 32, "max_area": 262144})
        self.assertEqual([(b["size"], b["patch"]) for b in card["bricks"]], [(64, 16), (32, 16), (64, 16)])
        self.assertEqual(card["digest"], hashlib.sha256(self.folder.model.read_bytes()).hexdigest())
        self.assertEqual(card["decoder"]["digest"], hashlib.sha256(latents.decoder(1)).hexdigest())
        self.assertGreater(card["decoder"]["gigaflops"], 0)
        cost = ask(server, "POST", "/v1/generate", QUICK, {**JSON, "Accept": "application/json"}).json()["cost"]
        self.assertEqual(cost["evaluations"], 4)
        network = 4 * sum(brick["gigaflops"] for brick in card["bricks"])
        self.assertAlmostEqual(cost["gigaflops"], network + card["decoder"]["gigaflops"], 9)

    def test_sizes_are_pixels(self):
        server = self.start()
        self.assertEqual(picture_of(self.picture(server, PNG)).size, (64, 64))
        for size in ("96x64", "64x128", "256x256"):
            response = ask(server, "POST", "/v1/generate", {**PNG, "size": size})
            self.assertEqual("%dx%d" % picture_of(response.body).size, size)
            self.assertIn(f'"size":"{size}"', response.headers["Brickwork-Request"])
        body = {"prompt": "class 1", "size": "64x96", "quality": "low"}
        answer = ask(server, "POST", "/v1/images/generations", body).json()
        self.assertEqual(picture_of(base64.b64decode(answer["data"][0]["b64_json"])).size, (64, 96))
        body = {"prompt": "class 1", "width": 96, "height": 64, "steps": 2}
        answer = ask(server, "POST", "/sdapi/v1/txt2img", body).json()
        self.assertEqual(picture_of(base64.b64decode(answer["images"][0])).size, (96, 64))

    def test_sizes_that_are_refused(self):
        server = self.start("--max-area", 128 * 128)
        for size, nearest in [("100x64", "96x64"), ("8x8", "64x64"), ("72x64", "64x64"), ("256x128", "256x64")]:
            response = ask(server, "POST", "/v1/generate", {**PNG, "size": size})
            detail = (f"size {size} is not one {NAME} can make: sides are at least 64 and multiples of 32, with at "
                      f"most 16384 pixels in all; the nearest is {nearest}")
            self.assertEqual(response.status, 422)
            self.assertEqual(response.json(), {
                "type": "urn:brickwork:problem:invalid", "title": "A field has a value that is not allowed",
                "status": 422, "detail": detail, "instance": response.headers["X-Request-Id"],
                "errors": [{"pointer": "/size", "detail": detail}]})

    def test_the_same_bytes_in_every_way(self):
        """Whatever runs beside it and however it is asked for."""
        self.folder.add_pixels()
        bodies = [{**PNG, "steps": 3, "seed": seed, "model": name, "size": size}
                  for name in (NAME, "tiny-pg-32") for seed, size in enumerate(["64x64", "96x64", "128x96"])]
        server = self.start(model=self.folder.path)
        alone = [self.picture(server, body) for body in bodies]
        self.assertEqual(len(set(alone)), 6)
        for flags in (("--workers", 2, "--threads", 1), ("--workers", 1, "--threads", 3), ("--batch", 1)):
            other = self.start(*flags, model=self.folder.path)
            made = in_parallel(12, lambda i: self.picture(other, bodies[i % 6]))
            self.assertEqual(made, 2 * alone, flags)
        several = ask(server, "POST", "/v1/generate", {**bodies[0], "n": 3},
                      {**JSON, "Accept": "application/json"}).images()
        self.assertEqual(several[0], alone[0])
        self.assertEqual(several[2], self.picture(server, {**bodies[0], "index": 2}))
        self.assertEqual(ask(server, "PUT", "/v1/jobs/a", bodies[1]).status, 201)
        wait_until(lambda: ask(server, "GET", "/v1/jobs/a").json()["status"] == "completed", "a job")
        self.assertEqual(ask(server, "GET", "/v1/jobs/a/images/0").body, alone[1])
        out = self.folder.path / "out.png"
        result = run_program(COMMAND, "generate", "--model", self.folder.model, "--class", 1, "--steps", 3, "--seed",
                             2, "--size", "128x96", "--out", out)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(out.read_bytes(), alone[2])

    def test_previews_are_estimates(self):
        """Of one pixel for each latent, and without the decoder."""
        server = self.start()
        body = {**PNG, "steps": 5, "size": "96x64", "partial_images": 3}
        previews = named(read_events(server, "/v1/generate", body), "partial")
        self.assertEqual([picture_of(base64.b64decode(p["b64"])).size for p in previews], 3 * [(12, 8)])
        self.assertEqual(server.metrics()["decode_duration_seconds_count"], 1)

    def test_what_is_cancelled_is_not_decoded(self):
        server = self.start()
        with Client(server) as client:
            client.send("POST", "/v1/generate", {**ENDLESS, "size": "512x512"}, {**JSON, "Accept": "application/json"})
            server.wait_for_pictures(8)
        server.wait_for_pictures(0)
        metrics = server.metrics()
        self.assertEqual(metrics['pictures_total{outcome="cancelled"}'], 8)
        self.assertEqual(metrics["decode_duration_seconds_count"], 0)
        self.picture(server, QUICK)
        self.assertEqual(server.metrics()["decode_duration_seconds_count"], 1)

    def test_a_long_decode_is_no_dead_worker(self):
        """It takes longer than a worker may stand still, at one thing."""
        server = self.start("--max-area", 1 << 23, "--stall-ms", 1000, "--threads", 1)
        with Client(server) as client:
            client.send("POST", "/v1/generate", {**QUICK, "steps": 1, "size": "2048x1024"}, JSON)
            while server.metrics()["pictures_total{outcome=\"done\"}"] == 0:
                self.assertEqual(ask(server, "GET", "/livez").status, 200)
            self.assertEqual(client.receive().status, 200)
        self.assertFalse([line for line in server.lines if "event=worker-dead" in line])

    def test_in_virtual_time(self):
        trace = self.folder.path / "trace"
        trace.write_text("".join('{"at_ms": %d, "request": {"steps": 2, "size": "96x64", "deadline_ms": 60000}}\n' % at
                                 for at in range(5)))
        result = run_program(SERVER, "--model", self.folder.model, "--simulate", trace)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn('"admitted":5', result.stdout)
        self.assertIn('"met":5', result.stdout)


class TestDecoders(LatentCase):

    def refused(self, *reasons):
        """A start from the model's file has to fail and say so."""
        result = run_program(SERVER, "--listen", "127.0.0.1:0", "--model", self.folder.model)
        self.assertEqual(result.returncode, 1, result.stderr)
        line = result.stderr.splitlines()[-1]
        for reason in ("event=cannot-start", *reasons):
            self.assertIn(reason, line)
        generated = run_program(COMMAND, "generate", "--model", self.folder.model, "--steps", 1, "--out",
                                self.folder.path / "out.jpg")
        self.assertIn(generated.returncode, (1, 2))
        self.assertFalse((self.folder.path / "out.jpg").exists())
        for reason in reasons:
            self.assertIn(reason, generated.stderr.replace('"', r'\"'))

    def test_what_cannot_be_decoded(self):
        decoder, path = self.folder.path / latents.DECODER, str(self.folder.path / latents.DECODER)
        good = decoder.read_bytes()
        decoder.unlink()
        self.refused(path, "No such file")
        decoder.write_bytes(latents.decoder(2))
        self.refused(path, hashlib.sha256(good).hexdigest(), hashlib.sha256(latents.decoder(2)).hexdigest())
        decoder.write_bytes(good[:-4])
        self.refused(path, "past the end of the file")
        decoder.write_bytes(TINY.read_bytes())
        self.refused(path, "decoder.conv_in")
        decoder.write_bytes(good)
        self.folder.write(latents.MODEL, latents.model())
        self.refused(str(self.folder.model), "pictures of 4 channels need a decoder, and metadata")

    def test_metadata_that_is_refused(self):
        good = latents.decoder(1)
        for said, reason in [({"decoder": "../" + latents.DECODER}, "not the name of a file beside the model"),
                             ({"decoder": ""}, "not the name of a file beside the model"),
                             ({"decoder_sha256": "abc"}, "not 64 lower-case hex digits")]:
            self.folder.write(latents.MODEL, latents.model(decoder=good, said=said))
            self.refused(str(self.folder.model), reason)
        self.folder.write(latents.MODEL, latents.model(decoder=good, lego={"channels": 3}))
        self.refused(str(self.folder.model), "only what a network draws in 4 channels can be decoded")

    def test_it_is_no_model(self):
        """A decoder among the models is passed over in silence; others are served also where one lacks its own."""
        self.folder.add_pixels()
        self.folder.write("b.safetensors", latents.model(lego={"name": "without"}))
        server = self.start(model=self.folder.path)
        self.assertEqual([m["id"] for m in ask(server, "GET", "/v1/models").json()["data"]], [NAME, "tiny-pg-32"])
        self.assertIsNone(ask(server, "GET", "/v1/models/tiny-pg-32").json()["decoder"])
        skipped = [line for line in server.lines if "event=model-skipped" in line]
        self.assertEqual(len(skipped), 1, skipped)
        self.assertIn("b.safetensors", skipped[0])

    def rescan(self, server):
        def count():
            return sum("event=rescanned" in line for line in server.lines)
        before = count()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: count() > before, "a rescan")

    def test_one_is_changed(self):
        """By itself it is not the one that was promised; with its model it is taken up, and what runs ends as it
        began."""
        server = self.start(model=self.folder.path)
        digest = ask(server, "GET", f"/v1/models/{NAME}").json()["digest"]
        first = self.picture(server, PNG)
        self.folder.put(2, model=False)
        self.rescan(server)
        line = server.wait_for_log("event=model-skipped")
        self.assertIn(latents.DECODER, line)
        self.assertIn(hashlib.sha256(latents.decoder(1)).hexdigest(), line)
        self.assertEqual(self.picture(server, PNG), first)
        long = {**PNG, "steps": 200, "size": "128x128", "solver": "heun"}
        alone, before = self.picture(server, long), server.admitted()
        with Client(server) as client:
            client.send("POST", "/v1/generate", long)
            server.wait_for_admitted(before + 1)
            self.folder.put(2, decoder=False)
            self.rescan(server)
            response = client.receive()
        self.assertEqual((response.status, response.body == alone), (200, True))
        card = ask(server, "GET", f"/v1/models/{NAME}").json()
        self.assertNotEqual(card["digest"], digest)
        self.assertEqual(card["decoder"]["digest"], hashlib.sha256(latents.decoder(2)).hexdigest())
        second = self.picture(server, PNG)
        self.assertNotEqual(second, first)
        self.folder.put(1)
        self.rescan(server)
        self.assertEqual(self.picture(server, PNG), first)


if __name__ == "__main__":
    unittest.main()
