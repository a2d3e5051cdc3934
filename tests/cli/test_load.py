"""brickwork load: what it sends, how it counts, and what it refuses to begin."""
import json
import pathlib
import re
import socket
import sys
import tempfile
import threading
import unittest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "http"))
from support import COMMAND, QUICK, Server, ServerCase, run_program  # noqa: E402

SLOW = {"steps": 256, "solver": "heun"}  # takes long enough for a queue to fill up meanwhile


def load(*options):
    return run_program(COMMAND, "load", *options)


def write_lines(path, objects):
    path.write_text("".join(json.dumps(o) + "\n" for o in objects))
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Folder(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class TestOptions(Folder):

    def assert_usage(self, options, message):
        """Called wrongly: status 2 and exactly this line on standard error."""
        result = load(*options)
        self.assertEqual((result.returncode, result.stdout, result.stderr),
                         (2, "", f"brickwork: {message}\n"))

    def test_help(self):
        result = load("--help")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertTrue(result.stdout.startswith("usage: brickwork load "))

    def test_values(self):
        for option, value, message in [
                ("rate", "0", "not a number of 0.001..100000"),
                ("rate", "fast", "not a number of 0.001..100000"),
                ("seconds", "86401", "not a number of 0.001..86400"),
                ("seed", "-1", "not an integer of 0..9007199254740991"),
                ("connections", "0", "not an integer of 1..65536"),
                ("timeout-s", "0", "not a number of 0.1..3600"),
                ("arrivals", "odd", '"odd" is not poisson or even'),
                ("json", "maybe", '"maybe" is not no or yes')]:
            self.assert_usage([f"--{option}", value], f"--{option}: {message}")

    def test_combinations(self):
        needed = "--rate and --seconds are needed, or --trace"
        self.assert_usage([], needed)
        self.assert_usage(["--rate", 1], needed)
        self.assert_usage(["--seconds", 1], needed)
        for option in ["rate", "seconds", "seed", "request", "mix"]:
            self.assert_usage(["--trace", "a", f"--{option}", "1"],
                              f"--{option} and --trace exclude each other")
        self.assert_usage(["--rate", 1, "--seconds", 1, "--mix", "a", "--request", "{}"],
                          "--mix and --request exclude each other")
        self.assert_usage(["--colour", "red"], "there is no option --colour; see --help")

    def test_requests(self):
        drawn = ["--rate", 1, "--seconds", 1, "--arrivals", "even"]
        self.assert_usage([*drawn, "--request", '{"steps":0}'],
                          "--request: /steps: not an integer of 1..256")
        self.assert_usage([*drawn, "--request", "[]"], "--request: not a JSON object")
        self.assert_usage([*drawn, "--request", '{"n":2}'],
                          "request 1: n is 2; one picture each is asked for")
        self.assert_usage(["--rate", 1000, "--seconds", 101], "more than 100000 requests")

    def test_urls(self):
        drawn = ["--rate", 1, "--seconds", 1, "--arrivals", "even"]
        self.assert_usage([*drawn, "--url", "127.0.0.1:80"],
                          '--url: "127.0.0.1:80" does not begin with http:// or https://')
        for url in ("http://a b", "http://"):
            self.assert_usage([*drawn, "--url", url], f'--url: "{url}" is not a URL')
        self.assert_usage([*drawn, "--url", "http://" + 2000 * "a"], "--url: too long")

    def test_mixes(self):
        mix = self.folder / "mix"
        asked = ["--rate", 1, "--seconds", 1, "--arrivals", "even", "--mix", mix]
        for line, message in [
                ("", "no entries"),
                ("\n{}", "line 2: request is needed"),
                ("7", "line 1: not valid JSON, line 1 column 1: '[' or '{' expected near '7'"),
                ('{"request":[]}', "line 1: /request: not an object"),
                ('{"request":{"steps":0}}', "line 1: /steps: not an integer of 1..256"),
                ('{"request":{},"weight":-1}', "line 1: /weight: not a number of 0..1e+06"),
                ('{"request":{},"weight":0}', "line 1: /weight: not above 0"),
                ('{"request":{"deadline_ms":5},"deadline_ms":[1,2]}',
                 "line 1: /deadline_ms: in the request as well"),
                (33 * '{"request":{}}\n', "line 33: more than 32 entries"),
                ('{"request":{},"n":1}', "line 1: /n: unknown field; known are weight, client, "
                 "request, deadline_ms")]:
            mix.write_text(line)
            self.assert_usage(asked, f"{mix}: {message}")
        for wrong in ["[2,1]", "[0,1]", "[1]", "[1,2,3]", "5", "[1,3600001]", "[1,2.5]"]:
            mix.write_text('{"request":{},"deadline_ms":%s}' % wrong)
            self.assert_usage(asked, f"{mix}: line 1: /deadline_ms: not [low, high] with integers "
                              "of 1..3600000 that do not fall")
        mix.write_text('{"request":{},"client":"my\\"host"}')
        self.assert_usage(asked, 'request 1: client "my"host" is not an address')

    def test_traces(self):
        trace = self.folder / "trace"
        for line, message in [("", "there is no request to send"),
                              ('{"at_ms":0,"request":{"n":8}}',
                               "request 1: n is 8; one picture each is asked for"),
                              ('{"at_ms":0,"client":"here","request":{}}',
                               'request 1: client "here" is not an address')]:
            trace.write_text(line)
            self.assert_usage(["--trace", trace], message)
        trace.write_text('{"at_ms":5,"request":{}}\n{"at_ms":4,"request":{}}')
        self.assert_usage(["--trace", trace], f"{trace}: line 2: at_ms falls below 5")

    def test_files(self):
        """What the system refuses is failure, status 1, and comes before the first request."""
        drawn = ["--rate", 1, "--seconds", 1, "--arrivals", "even"]
        for options in [["--trace", "/nonexistent"], [*drawn, "--mix", "/nonexistent"],
                        [*drawn, "--save-trace", "/nonexistent/a"],
                        [*drawn, "--log", "/nonexistent/a"]]:
            result = load(*options)
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn(f"brickwork: {options[-1]}: ", result.stderr)
            self.assertIn("No such file", result.stderr)


class TestSchedules(Folder):
    """What is sent is settled before, so nobody needs to listen."""

    def schedule(self, *options):
        """The trace it saves; there is no server, which has to be said."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))  # bound, but nobody listens
            saved = self.folder / "saved"
            result = load("--url", f"http://127.0.0.1:{unused.getsockname()[1]}", *options,
                          "--save-trace", saved, "--json", "yes")
        trace = read_lines(saved)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, rf"^brickwork: no answer to {len(trace)} of {len(trace)} "
                         "requests: Couldn't connect to server\n$")
        report = json.loads(result.stdout)
        self.assertEqual([report[k] for k in ["offered", "admitted", "refused", "failed",
                                              "failed_no_answer"]],
                         [len(trace), 0, 0, len(trace), len(trace)])
        return trace

    def test_even(self):
        for rate, seconds, count in [(100, 0.3, 30), (7, 0.5, 4), (30, 0.1, 3), (3, 0.001, 1)]:
            trace = self.schedule("--rate", rate, "--seconds", seconds, "--arrivals", "even")
            self.assertEqual([line["at_ms"] for line in trace],
                             [round(i * 1000 / rate, 3) for i in range(count)])

    def test_poisson(self):
        options = ["--rate", 1000, "--seconds", 0.3]
        first, again, other = (self.schedule(*options, "--seed", seed) for seed in (1, 1, 2))
        self.assertEqual(first, again)
        self.assertNotEqual(first, other)
        for trace in first, other:
            moments = [line["at_ms"] for line in trace]
            self.assertEqual(moments, sorted(moments))
            self.assertTrue(200 < len(moments) < 400, len(moments))
            self.assertTrue(0 < moments[0] and moments[-1] < 300)

    def test_mix(self):
        mix = write_lines(self.folder / "mix", [
            {"weight": 3, "client": "127.0.0.2", "request": {"steps": 3}, "deadline_ms": [5, 7]},
            {"request": {}, "deadline_ms": [1, 1]}, {"request": {"class": 1, "deadline_ms": 2.5}}])
        options = ["--rate", 1000, "--seconds", 0.3]
        trace = self.schedule(*options, "--mix", mix)
        self.assertEqual([line["at_ms"] for line in trace],
                         [line["at_ms"] for line in self.schedule(*options)])
        kinds = {json.dumps([line.get("client"), line["request"]]) for line in trace}
        self.assertEqual(kinds, {json.dumps(kind) for kind in [
            *(["127.0.0.2", {"steps": 3, "deadline_ms": ms}] for ms in (5, 6, 7)),
            [None, {"deadline_ms": 1}], [None, {"class": 1, "deadline_ms": 2.5}]]})
        first = sum("client" in line for line in trace)
        self.assertTrue(0.45 < first / len(trace) < 0.75, first)

    def test_replay(self):
        """A saved trace, replayed, is the same trace."""
        mix = write_lines(self.folder / "mix", [
            {"client": "127.0.0.2", "request": {"guidance": 1.1}, "deadline_ms": [100, 900]},
            {"client": "::1", "request": {"skip": {"t_break": 0.3}}}])
        self.schedule("--rate", 300, "--seconds", 0.1, "--mix", mix)
        saved = self.folder / "saved"
        text = saved.read_text()
        trace = saved.rename(self.folder / "trace")
        self.schedule("--trace", trace)
        self.assertEqual(saved.read_text(), text)


class TestAnswers(Folder, ServerCase):

    def report(self, *options, server=None):
        """The report of a load to which every request was answered."""
        host, port = (server or self.server).address
        self.log = self.folder / "log"
        result = load("--url", f"http://{host}:{port}", *options, "--json", "yes",
                      "--log", self.log)
        self.assertEqual((result.returncode, result.stderr), (0, ""), result.stdout)
        report = json.loads(result.stdout)
        for part in [report, *report["groups"]]:
            self.consistent(part)
        for name in ["offered", "admitted", "refused", "failed", "good"]:
            self.assertEqual(report[name], sum(group[name] for group in report["groups"]))
        self.logged(report)
        return report

    def consistent(self, part):
        timed = part["deadline"]
        self.assertEqual(part["offered"], part["admitted"] + part["refused"] + part["failed"])
        self.assertEqual(part["refused"], part["refused_429"] + part["refused_503"])
        self.assertEqual(part["failed"], part["failed_no_answer"] + part["failed_other_status"])
        self.assertTrue(part["offered"] >= timed["offered"] >= timed["admitted"] >= timed["met"])
        self.assertEqual(part["good"], timed["met"] + part["admitted"] - timed["admitted"])
        self.assertEqual(part["latency_ms"]["p50"] is None, part["admitted"] == 0)
        self.assertEqual(part["refusal_ms"]["p50"] is None, part["refused"] == 0)
        spread = [part["latency_ms"][k] for k in ["p50", "p90", "p95", "p99", "max"]]
        if part["admitted"]:
            self.assertEqual(spread, sorted(spread))

    def logged(self, report):
        """The log says the same, request by request."""
        lines = read_lines(self.log)
        self.assertEqual(len(lines), report["offered"])
        self.assertEqual(sum(line["status"] == 200 for line in lines), report["admitted"])
        self.assertEqual(sum(line["status"] == 429 for line in lines), report["refused_429"])
        self.assertEqual(sum(line["met"] is True for line in lines), report["deadline"]["met"])
        for line in lines:
            self.assertEqual(line["met"] is None, line["deadline_ms"] is None)
            for name in ["total_ms", "predicted_ms", "excess_loss", "steps"]:
                self.assertEqual(line[name] is None, line["status"] != 200, line)
            self.assertLessEqual(line["at_ms"], line["sent_ms"])
            if line["status"] == 200:
                self.assertLessEqual(line["total_ms"], line["latency_ms"])

    def trace(self, *requests, client=None):
        """A trace that sends these at once."""
        extra = {"client": client} if client else {}
        return write_lines(self.folder / "trace",
                           [{"at_ms": 0, **extra, "request": r} for r in requests])

    def test_all_admitted(self):
        report = self.report("--rate", 50, "--seconds", 0.4, "--arrivals", "even", "--request",
                             json.dumps(QUICK))
        self.assertEqual((report["offered"], report["admitted"], report["good"]), (20, 20, 20))
        self.assertEqual(report["deadline"]["met_of_offered"], None)
        self.assertEqual((report["mean_excess_loss"], report["degraded_share"]), (0, 0))
        self.assertGreater(report["prediction_error"]["server_p50"], 0)
        self.assertEqual({line["steps"] for line in read_lines(self.log)}, {2})
        self.assertEqual([group["name"] for group in report["groups"]], ["mix 1"])

    def test_deadlines(self):
        """One that cannot be kept is refused, one that can is met."""
        hopeless = {**SLOW, "size": "96x96", "deadline_ms": 1}
        report = self.report("--trace", self.trace({**QUICK, "deadline_ms": 3600000}, hopeless))
        self.assertEqual((report["admitted"], report["refused_503"]), (1, 1))
        self.assertEqual(report["deadline"], {"offered": 2, "admitted": 1, "met": 1,
                                              "met_of_admitted": 1, "met_of_offered": 0.5})

    def test_degraded(self):
        """Giving up quality shows, whoever asked for it."""
        report = self.report("--trace", self.trace({**QUICK, "skip": {"t_break": 1}}, QUICK))
        self.assertEqual(report["admitted"], 2)
        losses = [line["excess_loss"] for line in read_lines(self.log)]
        self.assertEqual(losses[1], 0)
        self.assertEqual(report["degraded_share"], sum(loss > 0 for loss in losses) / 2)
        self.assertAlmostEqual(report["mean_excess_loss"], sum(losses) / 2, 4)

    def test_other_status(self):
        """An answer, but no admission and no refusal for lack of room."""
        report = self.report("--trace", self.trace({"class": 10000}, QUICK))
        self.assertEqual((report["admitted"], report["failed_other_status"]), (1, 1))

    def test_formats(self):
        report = self.report("--trace", self.trace({**QUICK, "format": "png"},
                                                   {**QUICK, "format": "jpeg"},
                                                   {**QUICK, "format": "webp"}))
        self.assertEqual(report["admitted"], 3)

    def test_clients(self):
        """Each asks from its own address, also over connections that were used before."""
        server = Server()
        self.addCleanup(server.stop)
        clients = 8 * ["127.0.0.3", None, "127.0.0.2", None]  # idle connections tempt None
        trace = write_lines(self.folder / "trace", [
            {"at_ms": 30 * i, **({"client": c} if c else {}), "request": QUICK}
            for i, c in enumerate(clients)])
        report = self.report("--trace", trace, server=server)
        self.assertEqual({g["name"]: g["admitted"] for g in report["groups"]},
                         {"any client": 16, "127.0.0.3": 8, "127.0.0.2": 8})
        server.signal()
        server.wait()
        peers = [re.search(r"peer=(\S+)", line)[1] for line in server.lines
                 if "path=/v1/generate" in line]
        self.assertEqual(sorted(peers), sorted(c or "127.0.0.1" for c in clients))

    def test_overload(self):
        server = Server("--queue", 8)
        self.addCleanup(server.stop)
        report = self.report("--trace", self.trace(*60 * [SLOW]), server=server)
        self.assertEqual(report["failed"], 0)
        self.assertGreater(report["refused_429"], 0)
        self.assertGreaterEqual(report["admitted"], 8)

    def test_table(self):
        mix = write_lines(self.folder / "mix", [{"request": QUICK},
                                                {"request": QUICK, "deadline_ms": [9000, 9000]}])
        result = load("--url", "http://%s:%d/" % self.server.address, "--rate", 50, "--seconds",
                      0.4, "--arrivals", "even", "--mix", mix)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        for pattern in [r"(?m)^offered +20$", r"(?m)^admitted +20 +100\.0 % of offered$",
                        r"(?m)^refused +0 +429: 0, 503: 0$", r"(?m)^deadlines ",
                        r"(?m)^latency, ms( +[0-9.]+){5}$", r"(?m)^refusal, ms( +-){5}$",
                        r"(?m)^mix 1 ", r"(?m)^mix 2 "]:
            self.assertRegex(result.stdout, pattern)


class TestNoAnswer(Folder):
    """What is no answer of HTTP is a failure of the load, which reports it nevertheless."""

    def talk(self, reply, *options):
        """(status, message, report) of a load of one request against what says just that."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            def serve():
                client, _ = listener.accept()
                with client:
                    client.recv(65536)
                    client.sendall(reply)
                    if not reply:
                        client.recv(1)  # say nothing until the other side leaves
            thread = threading.Thread(target=serve)
            thread.start()
            result = load("--url", f"http://127.0.0.1:{listener.getsockname()[1]}", "--json",
                          "yes", "--rate", 1, "--seconds", 1, "--arrivals", "even", *options)
            thread.join()
        return result.returncode, result.stderr, json.loads(result.stdout)

    def assert_no_answer(self, reply, message, *options):
        status, said, report = self.talk(reply, *options)
        self.assertEqual((status, report["failed"], report["failed_no_answer"]), (1, 1, 1))
        self.assertEqual(said, f"brickwork: no answer to 1 of 1 requests: {message}\n")

    def test_silence(self):
        self.assert_no_answer(b"", "Timeout was reached", "--timeout-s", 0.3)

    def test_another_protocol(self):
        self.assert_no_answer(b"SSH-2.0-server\r\n", "Unsupported protocol")

    def test_half_an_answer(self):
        self.assert_no_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                              "Transferred a partial file")

    def test_bare_answer(self):
        """A server that tells nothing but the status will do; there is less to report."""
        status, said, report = self.talk(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual((status, said, report["admitted"]), (0, "", 1))
        self.assertEqual({report[k] for k in ["mean_excess_loss"]}, {None})
        self.assertEqual(set(report["prediction_error"].values()), {None})


if __name__ == "__main__":
    unittest.main()
