"""/sdapi/v1: pictures as clients of AUTOMATIC1111's web API ask for them."""
import base64
import io
import json
import re
import unittest

from PIL import Image

from support import ENDLESS, JSON, POMOLOGY, Client, ServerCase, ask

PATH, PROGRESS = "/sdapi/v1/txt2img", "/sdapi/v1/progress"
IDLE = {"progress": 0, "eta_relative": 0, "current_image": None, "textinfo": None,
        "state": {"skipped": False, "interrupted": False, "job": "", "job_count": 1,
                  "job_timestamp": "0", "job_no": 0, "sampling_step": 0, "sampling_steps": 0}}
# What a well-known client sends when it wants nothing special.
DEFAULTS = {"prompt": "class 1", "negative_prompt": "", "styles": [], "seed": -1, "subseed": -1,
            "subseed_strength": 0, "sampler_name": "DPM++ 2M", "scheduler": "Automatic",
            "batch_size": 1, "n_iter": 1, "steps": 2, "cfg_scale": 1.5, "width": 32, "height": 32,
            "restore_faces": False, "tiling": False, "enable_hr": False, "save_images": False,
            "do_not_save_samples": True, "do_not_save_grid": True, "send_images": True,
            "override_settings": {}, "override_settings_restore_afterwards": True,
            "alwayson_scripts": {}, "script_args": [], "script_name": None}


class SdCase(ServerCase):

    def ask(self, body, headers=None):
        return ask(self.server, "POST", PATH, body, headers)

    def ok(self, **body):
        """The answer as (pictures as bytes, parameters, info)."""
        answer = self.ask({"prompt": "class 1", "steps": 2, **body})
        self.assertEqual((answer.status, answer.type), (200, "application/json"), answer.body[:300])
        said = answer.json()
        pictures = [base64.b64decode(text, validate=True) for text in said["images"]]
        return pictures, said["parameters"], json.loads(said["info"])


class TestPictures(SdCase):

    def test_fields_are_ours_by_other_names(self):
        """Each means a request of ours, whose bytes come back."""
        plain = {"steps": 2, "class": 1, "seed": 4, "format": "png"}
        for fields, ours in [({}, {}), ({"steps": 3}, {"steps": 3}),
                             ({"cfg_scale": 4}, {"guidance": 4}), ({"cfg_scale": 1}, {"guidance": 1}),
                             ({"width": 48, "height": 32}, {"size": "48x32"}),
                             ({"sampler_name": "Euler"}, {"solver": "euler"}),
                             ({"sampler_name": "heun"}, {"solver": "heun"}),
                             ({"sampler_index": "Heun"}, {"solver": "heun"}),
                             ({"sampler_index": "Heun", "sampler_name": "Euler"}, {"solver": "euler"}),
                             ({"sampler_name": "Euler", "sampler_index": "Heun"}, {"solver": "euler"}),
                             ({"sampler_name": "DPM++ 2M Karras"}, {}),
                             ({"scheduler": "Karras"}, {}), ({"prompt": ""}, {"class": None}),
                             ({"prompt": "a picture of class 3!"}, {"class": 3}),
                             ({"override_settings": {"sd_model_checkpoint": "tiny-pg-32"}}, {})]:
            with self.subTest(fields):
                pictures, _, info = self.ok(seed=4, **fields)
                self.assertEqual(pictures, [self.picture({**plain, **ours})])
                self.assertEqual(self.picture(info["brickwork_request"]), pictures[0])

    def test_everything_a_client_sends(self):
        answer = self.ask(DEFAULTS)
        self.assertEqual(answer.status, 200, answer.body[:300])
        self.assertEqual(len(answer.json()["images"]), 1)

    def test_batches(self):
        for fields in [{"batch_size": 4}, {"n_iter": 4}, {"batch_size": 2, "n_iter": 2}]:
            with self.subTest(fields):
                pictures, parameters, info = self.ok(seed=9, **fields)
                ours = self.generate({"steps": 2, "class": 1, "seed": 9, "n": 4, "format": "png"})
                self.assertEqual(pictures, ours.images())
                self.assertEqual(len(set(pictures)), 4)
                self.assertEqual((parameters["batch_size"], parameters["n_iter"]),
                                 (fields.get("batch_size", 1), fields.get("n_iter", 1)))
                self.assertEqual(info["all_seeds"], [9] * 4)
                self.assertEqual(len(info["infotexts"]), 4)

    def test_random_seed(self):
        seeds = [self.ok(seed=-1)[2]["seed"], self.ok()[2]["seed"]]
        self.assertNotEqual(*seeds)
        pictures, parameters, info = self.ok(seed=-1)
        self.assertEqual(parameters["seed"], info["seed"])
        self.assertEqual(self.ok(seed=info["seed"])[0], pictures)

    def test_what_is_said(self):
        pictures, parameters, info = self.ok(seed=5, cfg_scale=2, width=48, height=32,
                                             sampler_name="euler")
        self.assertEqual(parameters, {
            "prompt": "class 1", "seed": 5, "sampler_name": "Euler", "scheduler": "Karras",
            "batch_size": 1, "n_iter": 1, "steps": 2, "cfg_scale": 2, "width": 48, "height": 32,
            "override_settings": {"sd_model_checkpoint": "tiny-pg-32"}})
        digest = ask(self.server, "GET", "/v1/models/tiny-pg-32").json()["digest"]
        self.assertEqual(info["infotexts"], [
            "class 1\nSteps: 2, Sampler: Euler, Schedule type: Karras, CFG scale: 2, Seed: 5, "
            f"Size: 48x32, Model hash: {digest[:10]}, Model: tiny-pg-32, Index: 0"])
        for name in ("seed", "steps", "cfg_scale", "sampler_name", "width", "height", "prompt"):
            self.assertEqual(info[name], parameters[name])
        picture = Image.open(io.BytesIO(pictures[0]))
        self.assertEqual((picture.format, picture.size), ("PNG", (48, 32)))


class TestRefusals(SdCase):

    def test_what_cannot_be_done(self):
        """Fields of that API that would change the picture are refused, not passed over."""
        cases = [("negative_prompt", "ugly"), ("styles", ["a"]), ("subseed", 1),
                 ("subseed_strength", 0.5), ("sampler_name", "Euler a"), ("sampler_name", "DDIM"),
                 ("sampler_index", "PLMS"), ("scheduler", "Exponential"), ("batch_size", 0),
                 ("batch_size", 9), ("n_iter", 9), ("steps", 0), ("steps", 257),
                 ("cfg_scale", 21), ("cfg_scale", -1), ("width", 0), ("height", "32"),
                 ("seed", -2), ("seed", 2**53), ("seed", "1"), ("restore_faces", True),
                 ("tiling", True), ("enable_hr", True), ("save_images", True),
                 ("send_images", False), ("alwayson_scripts", {"a": {}}), ("script_args", [1]),
                 ("script_name", "x"), ("prompt", "a durian"), ("prompt", 1),
                 ("denoising_strength", 0.5), ("init_images", []), ("override_settings", [])]
        for name, value in cases:
            with self.subTest(f"{name}={value}"):
                self.refused(self.ask({**DEFAULTS, name: value}), 422, "/" + name)

    def test_others(self):
        self.refused(self.ask({**DEFAULTS, "batch_size": 3, "n_iter": 3}), 422, "/n_iter")
        self.refused(self.ask({**DEFAULTS, "width": 31}), 422, "/width")
        self.refused(self.ask({**DEFAULTS, "override_settings": {"CLIP_stop_at_last_layers": 2}}),
                     422, "/override_settings/CLIP_stop_at_last_layers")
        unknown = {**DEFAULTS, "override_settings": {"sd_model_checkpoint": "another"}}
        self.refused(self.ask(unknown), 404, "/override_settings/sd_model_checkpoint")
        self.refused(self.ask(b"{"), 400)
        self.refused(self.ask(b"{}", {"Content-Type": "text/plain"}), 415)
        self.refused(self.ask(DEFAULTS, {**JSON, "Accept": "image/png"}), 406)
        self.refused(ask(self.server, "GET", PATH), 405)
        self.refused(ask(self.server, "POST", PROGRESS, {}), 405)


class TestProgress(SdCase):
    flags = ("--workers", 1, "--batch", 8)

    def progress(self, query=""):
        answer = ask(self.server, "GET", PROGRESS + query)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json()

    def begin(self, name, **body):
        client = Client(self.server)
        self.addCleanup(client.close)
        client.send("POST", PATH, {"prompt": "class 1", **body}, {**JSON, "X-Request-Id": name})
        return client

    def test_idle(self):
        self.assertEqual(self.progress(), IDLE)
        self.assertEqual(self.progress("?skip_current_image=true"), IDLE)
        for query in ("?skip_current_image=maybe", "?current_image=1", "?skip_current_image"):
            self.refused(ask(self.server, "GET", PROGRESS + query), 400)

    def test_while_running(self):
        """It rises, shows a preview when there is one, and is over when the client has left."""
        client = self.begin("mine", steps=256, width=128, height=128, batch_size=2)
        self.server.wait_for_pictures(2)
        seen = [self.progress()]
        while not seen[-1]["current_image"] and len(seen) < 100_000:
            seen.append(self.progress())
        parts = [one["progress"] for one in seen]
        self.assertEqual(parts, sorted(parts))
        self.assertTrue(0 < parts[-1] < 1, parts[-1])
        state = seen[-1]["state"]
        self.assertEqual((state["job"], state["job_count"], state["sampling_steps"]),
                         ("mine", 2, 256))
        self.assertEqual((state["skipped"], state["interrupted"]), (False, False))
        self.assertTrue(0 <= state["sampling_step"] <= 256 and state["job_no"] in (0, 1))
        self.assertTrue(re.fullmatch(r"20\d{12}", state["job_timestamp"]), state)
        preview = Image.open(io.BytesIO(base64.b64decode(seen[-1]["current_image"])))
        self.assertEqual((preview.format, preview.size), ("JPEG", (128, 128)))
        self.assertIsNone(self.progress("?skip_current_image=true")["current_image"])
        client.close()
        self.server.wait_for_pictures(0)
        self.assertEqual(self.progress(), IDLE)

    def test_the_oldest_of_ours(self):
        """Requests of other shapes do not count; of several the oldest does."""
        other = Client(self.server)
        self.addCleanup(other.close)
        other.send("POST", "/v1/generate", {**ENDLESS, "n": 1}, JSON)
        self.server.wait_for_pictures(1)
        self.assertEqual(self.progress(), IDLE)
        clients = {}
        for count, name in enumerate(("first", "second"), 2):
            clients[name] = self.begin(name, steps=256, width=256, height=256)
            self.server.wait_for_pictures(count)
        self.assertEqual(self.progress()["state"]["job"], "first")
        clients["first"].close()
        self.server.wait_for_pictures(2)
        self.assertEqual(self.progress()["state"]["job"], "second")
        clients["second"].close()
        other.close()
        self.server.wait_for_pictures(0)


class TestPrompts(SdCase):
    model = POMOLOGY

    def test_names(self):
        """A size that cannot be made shows that the prompt was understood, at no cost."""
        for prompt in ("two lemons", "APPLES, masterpiece, best quality", ""):
            self.refused(self.ask({"prompt": prompt, "width": 1, "height": 1}), 422, "/width")
        self.refused(self.ask({"prompt": "a durian", "width": 1, "height": 1}), 422, "/prompt")


if __name__ == "__main__":
    unittest.main()
