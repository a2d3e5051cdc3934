"""Several models in one process: a folder of files, chosen per request, looked at again on SIGHUP."""
import pathlib
import shutil
import signal
import tempfile
import unittest

from stall import Stall
from support import (ENDLESS, JSON, POMOLOGY, ROOT, SERVER, Client, Server, ServerCase, ask,
                     in_parallel, run_program, wait_until)

FILES = {name: ROOT / f"tests/models/{name}.safetensors"
         for name in ("tiny-pg-32", "tiny-pr-32", "tiny-u-32")}
QUICK = {"steps": 2, "seed": 1}


class Folder:
    """A folder of model files that a server looks at."""

    def __init__(self, case, *names):
        self.temporary = tempfile.TemporaryDirectory()
        case.addCleanup(self.temporary.cleanup)
        self.path = pathlib.Path(self.temporary.name)
        for name in names:
            self.put(f"{name}.safetensors", FILES[name].read_bytes())

    def put(self, name, data):
        """Put a file in its place whole, as an operator should."""
        (self.path / "new").write_bytes(data)
        (self.path / "new").rename(self.path / name)

    def remove(self, name):
        (self.path / name).unlink()


def listed(server):
    """The ids that the server lists, in order."""
    return [model["id"] for model in ask(server, "GET", "/v1/models").json()["data"]]


def count_rescans(server):
    return sum("event=rescanned" in line for line in server.lines)


def rescan(server):
    """Have the server look at its files again, and wait until it has."""
    before = count_rescans(server)
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: count_rescans(server) > before, "a rescan")


class FolderCase(unittest.TestCase):

    def start(self, model, *flags, **settings):
        server = Server(*flags, model=model, **settings)
        self.addCleanup(server.stop)
        return server

    def picture(self, server, body):
        response = ask(server, "POST", "/v1/generate", body)
        self.assertEqual(response.status, 200, response.body[:300])
        return response.body

    def assert_unknown(self, response, pointers):
        self.assertEqual(response.status, 404, response.body[:300])
        problem = response.json()
        self.assertEqual(problem["type"], "urn:brickwork:problem:unknown-model")
        self.assertEqual([error["pointer"] for error in problem.get("errors", [])], pointers)


class TestFolder(FolderCase):

    def test_listed_in_order(self):
        folder = Folder(self, "tiny-u-32", "tiny-pr-32", "tiny-pg-32")
        shutil.copy(FILES["tiny-u-32"], folder.path / "a-copy.safetensors")  # takes the name first
        folder.put("notes.txt", b"not a model, and not said to be one")
        server = self.start(folder.path)
        self.assertEqual(listed(server), ["tiny-u-32", "tiny-pg-32", "tiny-pr-32"])
        skipped = [line for line in server.lines if "event=model-skipped" in line]
        self.assertEqual(len(skipped), 1, skipped)
        self.assertIn(f"path={folder.path}/tiny-u-32.safetensors", skipped[0])
        self.assertIn("is taken by", skipped[0])
        for card in ask(server, "GET", "/v1/models").json()["data"]:
            self.assertEqual(ask(server, "GET", "/v1/models/" + card["id"]).json(), card)
        self.assert_unknown(ask(server, "GET", "/v1/models/tiny"), [])
        self.assertEqual(ask(server, "POST", "/v1/models/tiny-u-32", {}).status, 405)

    def test_broken_file_is_skipped(self):
        folder = Folder(self, "tiny-pg-32", "tiny-pr-32")
        folder.put("a-broken.safetensors", FILES["tiny-pg-32"].read_bytes()[:-4])
        server = self.start(folder.path)
        self.assertEqual(listed(server), ["tiny-pg-32", "tiny-pr-32"])
        line = server.wait_for_log("event=model-skipped")
        self.assertIn("a-broken.safetensors", line)
        self.assertIn("past the end of the file", line)
        metrics = server.metrics()
        labels = [f'model_info{{model="{card["id"]}",digest="{card["digest"]}"}}'
                  for card in ask(server, "GET", "/v1/models").json()["data"]]
        self.assertEqual([name for name in metrics if name.startswith("model_info")], labels)
        self.assertEqual([metrics[label] for label in labels], [1, 1])

    def test_nothing_to_serve(self):
        folder = Folder(self)
        folder.put("a.safetensors", b"This is not a model.")
        result = run_program(SERVER, "--listen", "127.0.0.1:0", "--model", folder.path)
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("event=model-skipped", result.stderr)
        self.assertIn("event=cannot-start", result.stderr.splitlines()[-1])
        self.assertIn("can be served", result.stderr.splitlines()[-1])

    def test_same_pictures_as_alone(self):
        """Whatever else runs: models take turns on the same workers, and no byte changes."""
        bodies = [{**QUICK, "steps": 6, "model": name, "seed": seed, "format": "png"}
                  for name in FILES for seed in range(3)]
        alone = {}
        for name, file in FILES.items():
            server = Server(model=file)
            alone.update({i: self.picture(server, body) for i, body in enumerate(bodies)
                          if body["model"] == name})
            server.stop()
        server = self.start(Folder(self, *FILES).path, "--workers", 2, "--threads", 2)
        together = in_parallel(18, lambda i: self.picture(server, bodies[i % 9]))
        for i, picture in enumerate(together):
            self.assertEqual(picture, alone[i % 9], bodies[i % 9])
        default = dict(bodies[0])
        default.pop("model")
        self.assertEqual(self.picture(server, default), alone[0])
        self.assertEqual(len(set(alone.values())), 9)

    def test_requests_name_their_model(self):
        server = self.start(Folder(self, *FILES).path)
        digests = {card["id"]: card["digest"]
                   for card in ask(server, "GET", "/v1/models").json()["data"]}
        self.assertEqual(len(set(digests.values())), 3)
        for name, digest in digests.items():
            body = {**QUICK, "model": name}
            response = ask(server, "POST", "/v1/generate", body)
            self.assertEqual(response.headers["Brickwork-Model-Digest"], digest)
            quote = ask(server, "POST", "/v1/quote", body).json()
            self.assertEqual(quote["request"]["model"], name)
            response = ask(server, "POST", "/v1/images/generations",
                           {"prompt": "class 1", "model": name, "quality": "low"})
            self.assertEqual(response.status, 200, response.body[:300])
        for path, body in [("generate", {**QUICK, "model": "tiny"}),
                           ("quote", {**QUICK, "model": "tiny"}),
                           ("images/generations", {"prompt": "class 1", "model": "tiny"})]:
            self.assert_unknown(ask(server, "POST", "/v1/" + path, body), ["/model"])


class TestRescan(FolderCase):

    def test_files_come_change_and_go(self):
        folder = Folder(self, "tiny-pr-32")
        server = self.start(folder.path)
        first = self.picture(server, QUICK)
        rescan(server)
        self.assertEqual(listed(server), ["tiny-pr-32"])
        self.assertFalse([line for line in server.lines if "event=model-retired" in line])

        folder.put("a.safetensors", FILES["tiny-u-32"].read_bytes())
        rescan(server)
        self.assertEqual(listed(server), ["tiny-u-32", "tiny-pr-32"])
        server.wait_for_log("event=model-loaded model=tiny-u-32 .*a.safetensors")
        self.assertNotEqual(self.picture(server, QUICK), first, "the default is another")
        self.assertEqual(self.picture(server, {**QUICK, "model": "tiny-pr-32"}), first)

        folder.put("a.safetensors", FILES["tiny-pg-32"].read_bytes())
        rescan(server)
        self.assertEqual(listed(server), ["tiny-pg-32", "tiny-pr-32"])
        server.wait_for_log("event=model-retired model=tiny-u-32")
        self.assert_unknown(ask(server, "POST", "/v1/generate", {**QUICK, "model": "tiny-u-32"}),
                            ["/model"])
        self.assert_unknown(ask(server, "GET", "/v1/models/tiny-u-32"), [])
        models = [name for name in server.metrics() if name.startswith("model_info")]
        self.assertEqual([name.split('"')[1] for name in models], ["tiny-pg-32", "tiny-pr-32"])

        folder.remove("a.safetensors")
        rescan(server)
        self.assertEqual(listed(server), ["tiny-pr-32"])
        self.assertEqual(self.picture(server, QUICK), first)

    def test_what_breaks_stays_as_it_was(self):
        folder = Folder(self, "tiny-pg-32", "tiny-pr-32")
        server = self.start(folder.path)
        first = self.picture(server, QUICK)
        folder.put("tiny-pg-32.safetensors", b"This is not a model.")
        rescan(server)
        server.wait_for_log("event=model-skipped path=.*tiny-pg-32.safetensors")
        self.assertEqual(listed(server), ["tiny-pg-32", "tiny-pr-32"])
        self.assertEqual(self.picture(server, QUICK), first)
        folder.remove("tiny-pg-32.safetensors")
        folder.remove("tiny-pr-32.safetensors")
        rescan(server)
        server.wait_for_log("event=rescan-failed")
        self.assertEqual(listed(server), ["tiny-pg-32", "tiny-pr-32"])
        self.assertEqual(self.picture(server, QUICK), first)

    def test_running_requests_finish(self):
        """On the model they began with, though its file is another by now or gone."""
        folder = Folder(self, "tiny-pg-32", "tiny-pr-32")
        stall = self.enterContext(Stall())
        server = self.start(folder.path, env=stall.environment)
        alone = self.picture(server, QUICK)
        stall.arm()
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            server.wait_for_pictures(1)
            folder.put("tiny-pg-32.safetensors", FILES["tiny-u-32"].read_bytes())
            rescan(server)
            self.assertEqual(listed(server), ["tiny-u-32", "tiny-pr-32"])
            stall.release()
            response = client.receive()
        self.assertEqual((response.status, response.body == alone), (200, True))

    def test_the_last_user_goes_late(self):
        """A model that was taken out works on beside the others, and its users may leave."""
        folder = Folder(self, "tiny-pg-32", "tiny-pr-32")
        server = self.start(folder.path)
        with Client(server) as client:
            client.send("POST", "/v1/generate", {**ENDLESS, "model": "tiny-pr-32"}, JSON)
            server.wait_for_pictures(8)
            folder.remove("tiny-pr-32.safetensors")
            rescan(server)
            self.assertEqual(listed(server), ["tiny-pg-32"])
            self.picture(server, QUICK)
            self.assert_unknown(ask(server, "POST", "/v1/generate",
                                    {**QUICK, "model": "tiny-pr-32"}), ["/model"])
            self.assertEqual(server.metrics()["in_progress_pictures"], 8)
        server.wait_for_pictures(0)
        folder.put("tiny-pr-32.safetensors", FILES["tiny-pr-32"].read_bytes())
        rescan(server)
        self.assertEqual(listed(server), ["tiny-pg-32", "tiny-pr-32"])
        self.picture(server, {**QUICK, "model": "tiny-pr-32"})

    def test_many_at_once(self):
        """Requests for every model while files change and signals rain: all get their pictures."""
        folder = Folder(self, *FILES)
        server = self.start(folder.path, "--workers", 2)
        bodies = [{**QUICK, "model": name} for name in FILES]
        alone = [self.picture(server, body) for body in bodies]

        def visit(i):
            if i:
                return [self.picture(server, bodies[(i + j) % 3]) == alone[(i + j) % 3]
                        for j in range(12)]
            for name, file in list(FILES.items()) * 2:
                folder.put(f"{name}.safetensors", file.read_bytes())
                server.process.send_signal(signal.SIGHUP)
            return [True]
        self.assertTrue(all(all(same) for same in in_parallel(7, visit)))
        rescan(server)
        self.assertEqual(listed(server), list(FILES))

    def test_single_file(self):
        folder = Folder(self, "tiny-pg-32", "tiny-pr-32")
        server = self.start(folder.path / "tiny-pg-32.safetensors")
        folder.put("tiny-pg-32.safetensors", FILES["tiny-u-32"].read_bytes())
        rescan(server)
        self.assertEqual(listed(server), ["tiny-u-32"])

    def test_stopping_waits_for_no_answer(self):
        """Told to stop in the middle of a rescan: nothing is lost, nothing hangs."""
        folder = Folder(self, "tiny-pg-32")
        server = Server(model=folder.path)
        folder.put("tiny-pr-32.safetensors", FILES["tiny-pr-32"].read_bytes())
        server.process.send_signal(signal.SIGHUP)
        server.process.send_signal(signal.SIGHUP)
        server.stop()


class TestCapabilities(ServerCase):
    model = POMOLOGY
    flags = ("--queue", 99, "--max-area", 65536)

    def test_limits_are_those_in_force(self):
        body = ask(self.server, "GET", "/v1/capabilities").json()
        self.assertEqual((body["limits"]["queue"], body["limits"]["area"]), (99, 65536))
        self.assertEqual(body["limits"]["queue_ms"], 86400000)
        self.assertEqual(body["formats"], ["jpeg", "png", "webp"])
        build = [name for name in self.server.metrics() if name.startswith("build_info")]
        self.assertEqual(build, ['build_info{version="%s",kernels="%s"}'
                                 % (body["version"], body["kernels"])])

    def test_what_is_switched_on(self):
        def said(*flags):
            server = Server(*flags)
            self.addCleanup(server.stop)
            body = ask(server, "GET", "/v1/capabilities").json()
            return body["features"], body["limits"]
        off = {"keys": False, "webhooks": False, "durable_jobs": False}
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        features, limits = said("--max-body-bytes", 2000, "--jobs-keep-s", 7)
        self.assertEqual(features, off)
        self.assertEqual(limits, {"pictures": 8, "steps": 256, "guidance": 20, "area": 262144,
                                  "body_bytes": 2000, "deadline_ms": 3600000, "partial_images": 8,
                                  "queue": 256, "queue_ms": 86400000, "keep_jobs_s": 7})
        self.assertEqual(said("--jobs", folder.name)[0], {**off, "durable_jobs": True})
        secret = pathlib.Path(folder.name, "secret")
        secret.write_text("s" * 32)
        hooks = said("--webhook-allow", "a.example", "--webhook-secret-file", secret)
        self.assertEqual(hooks[0], {**off, "webhooks": True})

    def test_curve(self):
        card = ask(self.server, "GET", "/v1/models").json()["data"][0]
        model = ask(self.server, "GET", "/v1/capabilities").json()["models"][0]
        self.assertEqual(model["id"], card["id"])
        self.assertGreater(model["full_ms"], 0)
        curve = model["curve"]
        self.assertEqual((curve[0]["cost"], curve[0]["excess_loss"]), (1, 0))
        self.assertEqual(len(curve), 24)
        for better, cheaper in zip(curve, curve[1:]):
            self.assertLessEqual(cheaper["cost"], better["cost"])
            self.assertGreaterEqual(cheaper["excess_loss"], better["excess_loss"])
        self.assertLess(curve[-1]["cost"], 0.6)
        self.assertEqual(["none", "auto"] + [preset["name"] for preset in model["presets"]],
                         card["presets"])
        bounds = [0.01, 0.05, 0.15]
        for preset, bound in zip(model["presets"], bounds):
            self.assertLessEqual(preset["excess_loss"], bound)
            self.assertLess(preset["cost"], 1)


if __name__ == "__main__":
    unittest.main()
