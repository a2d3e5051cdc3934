"""Deadlines: what is promised, what is offered instead, and what pictures give up for them.

Whether a deadline is met depends on the machine and is for the benchmarks; here is what the service
says and what the pictures are."""
import json
import random
import signal
import unittest

from support import JSON, POMOLOGY, QUICK, Client, Server, ServerCase, ask, in_parallel

ONE = ("--workers", 1, "--threads", 1)
SLOW = {"steps": 96, "size": "96x96", "seed": 1}  # a good while on the tiny model
AS_JSON = {**JSON, "Accept": "application/json"}
INFEASIBLE = "urn:brickwork:problem:deadline-infeasible"


def generate(server, body, headers=None):
    return ask(server, "POST", "/v1/generate", body, headers)


def offered(server, body):
    """The deadline that is offered instead of one that nothing can keep."""
    return generate(server, {**body, "deadline_ms": 1}).json()["offer"]["deadline_ms"]


def explicit(body, image):
    """The request for one picture of an answer, as it ran."""
    return {**body, "n": 1, "index": image["index"], "skip": image["skip"]}


class TestRefusals(ServerCase):
    """An idle server of one thread."""
    flags = ONE

    def refusal(self, body):
        answer = generate(self.server, body)
        self.assertEqual(answer.status, 503, answer.body[:300])
        self.assertEqual(answer.type, "application/problem+json")
        return answer

    def test_never(self):
        """Alone it takes too long: the problem in full, and no word of asking again."""
        answer = self.refusal({**SLOW, "steps": 256, "deadline_ms": 1})
        self.assertNotIn("Retry-After", answer.headers)
        problem = answer.json()
        offer = problem.pop("offer")
        detail = f"1 ms are not enough; {offer['deadline_ms']} ms could be promised now"
        self.assertEqual(problem, {
            "type": INFEASIBLE, "title": problem["title"], "status": 503, "detail": detail,
            "instance": answer.headers["X-Request-Id"],
            "errors": [{"pointer": "/deadline_ms", "detail": detail}]})
        self.assertEqual(set(offer), {"deadline_ms"})
        self.assertGreater(offer["deadline_ms"], 1)

    def test_later(self):
        """Not beside what was promised already, but alone: ask again."""
        deadline = 1.5 * offered(self.server, SLOW)
        with Client(self.server) as one, Client(self.server) as other:
            for client in (one, other):
                client.ask("GET", "/livez")
            self.server.process.send_signal(signal.SIGSTOP)  # for both to arrive at once
            for client in (one, other):
                client.send("POST", "/v1/generate", {**SLOW, "deadline_ms": deadline}, JSON)
            self.server.process.send_signal(signal.SIGCONT)
            done, refused = sorted((one.receive(), other.receive()), key=lambda answer: answer.status)
        self.assertEqual((done.status, refused.status, refused.json()["type"]), (200, 503, INFEASIBLE))
        offer = refused.json()["offer"]
        self.assertIn("retry_after_ms", offer)
        self.assertEqual(int(refused.headers["Retry-After"]), max(-(-offer["retry_after_ms"] // 1000), 1))

    def test_offered_deadline_is_promised(self):
        for extra in [{}, {"n": 3}, {"skip": "auto"}, {"solver": "heun"}, {"skip": "fast"}]:
            with self.subTest(extra):
                body = {**SLOW, "steps": 40, **extra}
                body["deadline_ms"] = offered(self.server, body)
                answer = generate(self.server, body, AS_JSON)
                self.assertEqual(answer.status, 200, answer.body[:300])

    def test_offered_settings_are_promised(self):
        body = {**SLOW, "deadline_ms": 0.8 * offered(self.server, SLOW)}
        offer = self.refusal(body).json()["offer"]
        self.assertEqual(set(offer), {"deadline_ms", "settings"})
        settings = offer["settings"]
        self.assertEqual(settings["skip"], "auto")
        self.assertTrue(SLOW["steps"] / 2 <= settings["steps"] <= SLOW["steps"], settings)
        answer = generate(self.server, {**body, **settings}, AS_JSON)
        self.assertEqual(answer.status, 200, answer.body[:300])
        self.assertEqual(answer.json()["request"]["steps"], settings["steps"])

    def test_fewer_steps_only_for_auto(self):
        """So late that bricks alone do not do; then nothing does."""
        deadline = offered(self.server, {**SLOW, "skip": "auto"})
        answer = generate(self.server, {**SLOW, "skip": "auto", "deadline_ms": 0.75 * deadline},
                          AS_JSON)
        self.assertEqual(answer.status, 200, answer.body[:300])
        steps = answer.json()["request"]["steps"]
        self.assertTrue(SLOW["steps"] / 2 <= steps < SLOW["steps"], steps)
        deadline = offered(self.server, {**SLOW, "skip": "auto"})  # it may have learnt to be faster
        refusal = self.refusal({**SLOW, "skip": "auto", "deadline_ms": 0.3 * deadline})
        offer = refusal.json()["offer"]
        self.assertNotIn("settings", offer)

    def test_quote(self):
        """The same answers, without anything being done."""
        def quote(body):
            return ask(self.server, "POST", "/v1/quote", body).json()
        done = 'pictures_total{outcome="done"}'
        before = self.server.metrics()[done]
        good = quote({**SLOW, "skip": "auto"})
        self.assertTrue(good["admitted"])
        self.assertEqual(good["request"]["skip"], "none")
        self.assertNotIn("offer", good)
        predicted = good["predicted"]
        self.assertAlmostEqual(predicted["queue_ms"] + predicted["compute_ms"],
                               predicted["total_ms"], delta=0.01)
        bad = quote({**SLOW, "deadline_ms": 1})
        self.assertEqual((bad["admitted"], set(bad["offer"])), (False, {"deadline_ms"}))
        self.assertNotIn("predicted", bad)
        self.assertRegex(bad["reason"], "not enough")
        settings = quote({**SLOW, "deadline_ms": 0.8 * bad["offer"]["deadline_ms"]})
        self.assertEqual(settings["offer"]["settings"]["skip"], "auto")
        self.assertEqual(settings["request"]["steps"], SLOW["steps"])
        pressed = quote({**SLOW, **settings["offer"]["settings"],
                         "deadline_ms": 0.8 * bad["offer"]["deadline_ms"]})
        self.assertTrue(pressed["admitted"])
        self.assertNotEqual(pressed["request"]["skip"], "none")
        self.assertEqual(self.server.metrics()[done], before)

    def test_auto_without_need_is_none(self):
        body = {**QUICK, "steps": 12, "format": "png"}
        answer = generate(self.server, {**body, "skip": "auto"})
        self.assertEqual(answer.body, self.picture(body))
        self.assertEqual(json.loads(answer.headers["Brickwork-Request"])["skip"], "none")
        relaxed = generate(self.server, {**body, "skip": "auto", "deadline_ms": 3600000})
        self.assertEqual(relaxed.body, answer.body)


def random_body(rng):
    size = rng.choice(["32x32", "32x32", "48x32", "64x64"])
    own = rng.choice(["none", "fast", {"t_break": 0.4},
                      {"schedule": [{"until": 0.5, "skip": [1]}]}])
    return {"steps": rng.randint(1, 24), "size": size, "n": rng.choice([1, 1, 1, 2, 3]),
            "solver": rng.choice(["dpmpp2m", "heun", "euler"]), "guidance": rng.choice([1, 1.5]),
            "class": rng.randint(0, 9), "seed": rng.randint(0, 99),
            "format": rng.choice(["png", "jpeg"]), "skip": "auto" if rng.random() < 0.75 else own}


class TestReplay(ServerCase):
    """Pictures under pressure come with the schedule they ran with, which gives them again."""

    def run_mix(self, body, share, image_only):
        """The answer to the body with as tight a deadline as is promised, or with none."""
        for _ in range(4):
            refusal = generate(self.server, {**body, "deadline_ms": 1})
            if refusal.status != 503:
                break  # so quick is it
            deadline = max(share * refusal.json()["offer"]["deadline_ms"], 1)
            answer = generate(self.server, {**body, "deadline_ms": deadline},
                              None if image_only else AS_JSON)
            if answer.status == 200:
                return answer
        return generate(self.server, body, None if image_only else AS_JSON)

    def check_again(self, answer):
        """Ask for every picture explicitly; the schedules they ran with."""
        if answer.type != "application/json":
            effective = json.loads(answer.headers["Brickwork-Request"])
            self.assertNotIn("deadline_ms", effective)
            self.assertEqual(self.picture(effective), answer.body)
            return [effective["skip"]]
        effective, images = answer.json()["request"], answer.json()["images"]
        self.assertEqual(effective["skip"], images[0]["skip"])
        for image, data in zip(images, answer.images()):
            self.assertEqual(self.picture(explicit(effective, image)), data, image["skip"])
        return [image["skip"] for image in images]

    def test_random_mixes(self):
        rng = random.Random(7)
        bodies = [random_body(rng) for _ in range(200)]
        shares = [rng.choice([0.8, 1, 1.2]) for _ in bodies]
        answers = []
        for i in range(0, 200, 8):
            answers += in_parallel(8, lambda k, i=i: self.run_mix(
                bodies[i + k], shares[i + k], bodies[i + k]["n"] == 1 and k % 2))
        degraded = 0
        for body, answer in zip(bodies, answers):
            self.assertEqual(answer.status, 200, answer.body[:300])
            skips = self.check_again(answer)
            if body["skip"] == "auto":
                degraded += any(skip != "none" for skip in skips)
            else:
                own = ask(self.server, "POST", "/v1/generate", body, AS_JSON).json()
                self.assertEqual(skips, [image["skip"] for image in own["images"]][:len(skips)])
        self.assertGreaterEqual(degraded, 20)


class TestPomology(ServerCase):
    """The model with measured losses."""
    model = POMOLOGY
    BODY = {"steps": 6, "guidance": 1, "seed": 4, "class": 2, "skip": "auto", "format": "png"}

    def test_replay(self):
        deadline = offered(self.server, {**self.BODY, "n": 2})
        body = {**self.BODY, "n": 2, "deadline_ms": 1.1 * deadline}
        answer = generate(self.server, body, AS_JSON)
        self.assertEqual(answer.status, 200, answer.body[:300])
        for image, data in zip(answer.json()["images"], answer.images()):
            self.assertNotEqual(image["skip"], "none")
            self.assertGreater(image["excess_loss"], 0)
            self.assertLessEqual(image["excess_loss"], 0.15 + 1e-6)
            again = explicit(answer.json()["request"], image)
            self.assertEqual(self.picture(again), data)

    def test_image_with_header(self):
        deadline = offered(self.server, self.BODY)
        answer = generate(self.server, {**self.BODY, "deadline_ms": 1.05 * deadline})
        self.assertEqual(answer.status, 200, answer.body[:300])
        self.assertGreater(float(answer.headers["Brickwork-Excess-Loss"]), 0)
        again = generate(self.server, answer.headers["Brickwork-Request"].encode(), JSON)
        self.assertEqual(again.body, answer.body)
        self.assertEqual(again.headers["Brickwork-Excess-Loss"],
                         answer.headers["Brickwork-Excess-Loss"])


class TestPolicies(unittest.TestCase):
    """What an operator may switch off."""

    def start(self, *flags, model=POMOLOGY):
        server = Server(*flags, model=model)
        self.addCleanup(server.stop)
        return server

    def test_reject_only(self):
        server = self.start("--policy", "reject-only", *ONE)
        body = {"steps": 6, "guidance": 1, "seed": 1, "skip": "auto"}
        deadline = offered(server, body)
        refusal = generate(server, {**body, "deadline_ms": 0.8 * deadline})
        self.assertEqual(refusal.json()["type"], INFEASIBLE)
        self.assertEqual(set(refusal.json()["offer"]), {"deadline_ms"})
        answer = generate(server, {**body, "deadline_ms": 1.2 * deadline}, AS_JSON)
        self.assertEqual(answer.json()["images"][0]["skip"], "none")
        self.assertEqual(answer.json()["images"][0]["excess_loss"], 0)

    def test_fifo(self):
        server = self.start("--policy", "fifo", *ONE)
        body = {"steps": 4, "guidance": 1, "seed": 1, "skip": "auto", "deadline_ms": 1}
        answer = generate(server, body, AS_JSON)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json()["images"][0]["skip"], "none")

    def test_target(self):
        """A burst makes automatic pictures give up something; afterwards they give up nothing."""
        body = {"steps": 4, "guidance": 1, "skip": "auto"}
        calm = self.start(*ONE)
        alone = ask(calm, "POST", "/v1/quote", body).json()["predicted"]["total_ms"]
        server = self.start("--target-latency-ms", max(int(3 * alone), 1), *ONE)

        def burst(i):
            one = {**body, "seed": i, **({"skip": "none"} if i % 4 == 0 else {})}
            return ask(server, "POST", "/v1/generate", one, AS_JSON).json()["images"][0]
        images = in_parallel(24, burst)
        self.assertTrue(any(image["excess_loss"] > 0 for image in images[1::4] + images[2::4]))
        self.assertEqual({image["skip"] for image in images[::4]}, {"none"})
        server.wait_for_pictures(0)
        quiet = ask(server, "POST", "/v1/generate", {**body, "steps": 1}, AS_JSON).json()["images"][0]
        self.assertEqual((quiet["skip"], quiet["excess_loss"]), ("none", 0))


if __name__ == "__main__":
    unittest.main()
