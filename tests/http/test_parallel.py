"""Many clients at once: nobody gets an answer of another kind, or another picture, than alone."""
import unittest

from support import JSON, QUICK, Client, Server, ServerCase, ask, in_parallel

CLIENTS = 64
SEEDS = 8


class TestCrowd(ServerCase):
    """64 keep-alive clients, three requests each, of mixed kinds."""

    def test_everyone_is_answered(self):
        def visit(i):
            with Client(self.server) as client:
                return [client.ask("POST", "/v1/generate", {**QUICK, "seed": i}, JSON).status,
                        client.ask("GET", "/livez").status,
                        client.ask("POST", "/v1/generate", {"steps": 0}, JSON).status]
        statuses = in_parallel(CLIENTS, visit)
        self.assertLessEqual({s[0] for s in statuses}, {200, 429})
        self.assertIn(200, {s[0] for s in statuses})
        self.assertEqual({tuple(s[1:]) for s in statuses}, {(200, 422)})

    def test_metrics_add_up(self):
        before = self.server.alone()
        bodies = [{**QUICK, "n": 1 + i % 3} for i in range(12)]
        in_parallel(len(bodies), lambda i: self.picture(bodies[i], {**JSON, "Accept": "*/*"}))
        after = self.server.alone()

        def rise(name):
            return after[name] - before.get(name, 0)
        pictures = sum(body["n"] for body in bodies)
        self.assertEqual(rise('requests_total{route="/v1/generate",method="POST",status="200"}'), len(bodies))
        self.assertEqual(rise('pictures_total{outcome="done"}'), pictures)
        self.assertEqual(rise('queue_wait_seconds_count'), pictures)
        self.assertEqual(rise('batch_pictures_sum'), 2 * pictures, "2 steps each")
        self.assertEqual(after["queue_pictures"], 0)
        brick = 'bricks_total{brick="%d",action="run"}'
        self.assertEqual({rise(brick % k) for k in range(3)}, {2.0 * pictures})


class TestFullQueue(ServerCase):
    """A queue of 8 under 64 clients: some are refused, the others get exactly their pictures."""
    flags = ("--queue", 8)

    def test_refusals_and_pictures(self):
        bodies = [{"steps": 16, "guidance": 1, "seed": seed, "class": seed} for seed in range(SEEDS)]
        references = [self.picture(body) for body in bodies]
        answers = in_parallel(CLIENTS, lambda i: self.generate(bodies[i % SEEDS]))
        self.assertEqual({answer.status for answer in answers}, {200, 429})
        for i, answer in enumerate(answers):
            if answer.status == 200:
                self.assertEqual(answer.body, references[i % SEEDS])
            else:
                self.assertGreaterEqual(int(answer.headers["Retry-After"]), 1)
        self.server.wait_for_pictures(0)

    def test_all_or_none(self):
        """A request of 8 pictures is not half admitted."""
        answers = in_parallel(6, lambda i: self.generate({"steps": 16, "seed": i, "n": 8}))
        self.assertLessEqual({answer.status for answer in answers}, {200, 429})
        for answer in answers:
            if answer.status == 200:
                self.assertEqual(len(answer.images()), 8)


class TestTeams(unittest.TestCase):
    """The number of workers, threads and pictures in a batch changes no byte."""

    def test_same_bytes(self):
        bodies = [{"steps": 3, "seed": 5, "class": 2}, {"steps": 3, "seed": 5, "size": "48x32"},
                  {"steps": 5, "seed": 6, "class": 9, "skip": {"t_break": 0.5}, "size": "32x80"},
                  {"steps": 4, "seed": 7, "solver": "heun", "format": "png"}]
        results = []
        for workers, threads, batch in [(1, 1, 1), (1, 2, 4), (2, 2, 16)]:
            server = Server("--workers", workers, "--threads", threads, "--batch", batch)
            self.addCleanup(server.stop)
            answers = in_parallel(8, lambda i: ask(server, "POST", "/v1/generate", bodies[i % 4]))
            results.append({(i % 4, answer.body) for i, answer in enumerate(answers)})
            self.assertEqual({answer.status for answer in answers}, {200})
        self.assertEqual(len(results[0]), 4, "one result for each body")
        for result in results[1:]:
            self.assertEqual(result, results[0])


if __name__ == "__main__":
    unittest.main()
