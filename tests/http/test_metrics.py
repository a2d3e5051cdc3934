"""/metrics read as strictly as a Prometheus server could, the numbers in it, and the dashboard that
shows them."""
import base64
import http.server
import json
import re
import tempfile
import threading
import unittest

from support import ENDLESS, JSON, QUICK, ROOT, Client, Server, ServerCase, ask, wait_until

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TRACE = "0af7651916cd43dd8448eb211c80319c"

NAME = r"[a-z_][a-z0-9_]*"
LABEL = rf'({NAME})="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\+Inf|-?[0-9.]+(?:e[+-]?[0-9]+)?)")


class Exposition:
    """The text of /metrics: `types` by family, `samples` by (name, sorted labels). What is not to
    the letter of the format, or of the field's conventions, is an error."""

    def __init__(self, text):
        self.types, self.samples = {}, {}
        if not text.endswith("\n"):
            raise ValueError("the last line has no end")
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("# HELP "):
                family, _, words = line[7:].partition(" ")
                kind = lines[number + 1].removeprefix(f"# TYPE {family} ")
                if kind not in ("counter", "gauge", "histogram") or not words.endswith("."):
                    raise ValueError(f"{line}: {lines[number + 1]}")
                if family in self.types:
                    raise ValueError(f"{family} comes twice")
                self.types[family] = kind
            elif not line.startswith("# TYPE "):
                self._add(family, kind, line)
        for family, kind in self.types.items():
            if (kind == "counter") != family.endswith("_total"):
                raise ValueError(f"{family} is a {kind}")
            if kind == "histogram":
                self._check_histogram(family)

    def _add(self, family, kind, line):
        match = SAMPLE.fullmatch(line)
        if not match:
            raise ValueError(line)
        name, labels, value = match[1], tuple(sorted(re.findall(LABEL, match[2] or ""))), float(match[7])
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        if name not in [family + part for part in parts]:
            raise ValueError(f"{line} among {family}")
        if (name, labels) in self.samples:
            raise ValueError(f"{line} comes twice")
        if kind != "gauge" and value < 0:
            raise ValueError(line)
        self.samples[name, labels] = value

    def _check_histogram(self, family):
        ladders = {}
        for (name, labels), value in self.samples.items():
            if name == family + "_bucket":
                rest = tuple(label for label in labels if label[0] != "le")
                ladders.setdefault(rest, []).append((float(dict(labels)["le"]), value))
        for labels, ladder in ladders.items():
            bounds, counts = zip(*ladder)
            if list(bounds) != sorted(set(bounds)) or bounds[-1] != float("inf"):
                raise ValueError(f"bounds of {family}: {bounds}")
            if list(counts) != sorted(counts) or counts[-1] != self.samples[family + "_count", labels]:
                raise ValueError(f"counts of {family}: {counts}")
            if self.samples[family + "_sum", labels] < 0:
                raise ValueError(f"sum of {family}")

    def value(self, name, **labels):
        """One sample, 0 if there is none (yet)."""
        return self.samples.get((name, tuple(sorted(labels.items()))), 0)

    def names(self):
        return {name for name, _ in self.samples}


def scrape(server):
    answer = ask(server, "GET", "/metrics")
    if answer.headers["Content-Type"] != "text/plain; version=0.0.4; charset=utf-8":
        raise AssertionError(answer.headers["Content-Type"])
    return Exposition(answer.body.decode())


class TestParser(unittest.TestCase):
    """What the reader above must not let pass."""

    def test_bad_expositions(self):
        good = '# HELP a_total A.\n# TYPE a_total counter\na_total{b="c"} 1\n'
        Exposition(good)
        for bad in [good[:-1], good.replace("counter", "gauge"), good.replace("counter", "count"),
                    good + good, good + 'a_total{b="c"} 2\n', good.replace(" 1", " -1"),
                    good.replace('"c"', '"c'), good.replace("} 1", "}1"), good + "other 1\n",
                    good.replace(" A.", "")]:
            with self.subTest(bad), self.assertRaises(ValueError):
                Exposition(bad)
        bucket = 'h_bucket{le="%s"} %d\n'
        for rows, count in [([("1", 2), ("+Inf", 1)], 1), ([("1", 1)], 1), ([("1", 1), ("+Inf", 2)], 3),
                            ([("2", 1), ("1", 1), ("+Inf", 2)], 2)]:
            text = ("# HELP h H.\n# TYPE h histogram\n" + "".join(bucket % row for row in rows) +
                    f"h_sum 1\nh_count {count}\n")
            with self.subTest(text), self.assertRaises(ValueError):
                Exposition(text)


class TestNumbers(ServerCase):
    """One server with a queue of 8 and a receiver of webhooks; what rises, by how much."""

    @classmethod
    def setUpClass(cls):
        cls.calls = []

        class Receiver(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                cls.calls.append((self.headers, body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        receiver = http.server.HTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        cls.addClassCleanup(receiver.server_close)
        cls.addClassCleanup(receiver.shutdown)
        cls.hook = "127.0.0.1:%d" % receiver.server_port
        with tempfile.NamedTemporaryFile("w") as secret:
            secret.write(SECRET + "\n")
            secret.flush()
            cls.flags = ("--queue", 8, "--webhook-allow", cls.hook,
                         "--webhook-secret-file", secret.name)
            super().setUpClass()

    def setUp(self):
        self.before = scrape(self.server)

    def rise(self, name, **labels):
        """How far a sample has risen since the test began."""
        name = "brickwork_" + name
        return self.after.value(name, **labels) - self.before.value(name, **labels)

    def wait_for(self, what, condition):
        """Wait until what was scraped last says that."""
        def holds():
            self.after = scrape(self.server)
            return condition()
        wait_until(holds, what)

    def test_a_request(self):
        body = json.dumps(QUICK).encode()
        picture = self.picture(QUICK)
        self.after = scrape(self.server)
        self.assertEqual(self.rise("requests_total", route="/v1/generate", method="POST", status="200"), 1)
        self.assertEqual(self.rise("requests_total", route="/metrics", method="GET", status="200"), 1)
        self.assertEqual(self.rise("request_duration_seconds_count", route="/v1/generate"), 1)
        self.assertGreater(self.rise("request_duration_seconds_sum", route="/v1/generate"), 0)
        self.assertEqual(self.rise("received_bytes_total"), len(body))
        self.assertGreater(self.rise("sent_bytes_total"), len(picture))
        self.assertEqual(self.rise("admissions_total", decision="admitted"), 1)
        self.assertEqual(self.rise("pictures_total", outcome="done"), 1)
        self.assertEqual(self.rise("queue_wait_seconds_count"), 1)
        self.assertEqual(self.rise("prediction_error_ratio_count"), 1)
        self.assertEqual(self.rise("step_duration_seconds_count"), QUICK["steps"])
        self.assertEqual(self.rise("batch_pictures_sum"), QUICK["steps"])
        self.assertEqual(self.rise("deadlines_total", outcome="met"), 0)

    def test_bricks_skipped(self):
        self.picture({**QUICK, "steps": 4, "skip": {"schedule": [{"until": 0.5, "skip": [0]},
                                                                {"until": 1, "skip": []}]}})
        self.after = scrape(self.server)
        self.assertEqual([self.rise("bricks_total", brick=brick, action=action)
                          for brick in "01" for action in ("run", "skipped")], [2, 2, 4, 0])

    def test_refusals(self):
        refused = [("POST", "/v1/generate", {"steps": 0}, 422, "/v1/generate", "POST"),
                   ("POST", "/v1/generate", {**QUICK, "deadline_ms": 1, "steps": 256, "size": "96x96"}, 503,
                    "/v1/generate", "POST"),
                   ("DELETE", "/v1/generate", None, 405, "/v1/generate", "DELETE"),
                   ("BREW", "/v1/generate", None, 405, "/v1/generate", "other"),
                   ("GET", "/v1/jobs/nobody", None, 404, "/v1/jobs/{id}", "GET"),
                   ("GET", "/nowhere", None, 404, "none", "GET")]
        for method, path, body, status, _, _ in refused:
            self.assertEqual(ask(self.server, method, path, body).status, status, path)
        self.after = scrape(self.server)
        for _, _, _, status, route, method in refused:
            with self.subTest(route=route, status=status):
                self.assertEqual(self.rise("requests_total", route=route, method=method,
                                           status=str(status)), 1)
        self.assertEqual(self.rise("admissions_total", decision="deadline"), 1)
        self.assertEqual(self.rise("admissions_total", decision="admitted"), 0)
        self.assertEqual(self.rise("pictures_total", outcome="done"), 0)

    def test_deadline(self):
        self.picture({**QUICK, "deadline_ms": 60000})
        self.after = scrape(self.server)
        self.assertEqual(self.rise("deadlines_total", outcome="met"), 1)
        self.assertEqual(self.rise("deadlines_total", outcome="missed"), 0)

    def test_full_queue_and_streams(self):
        """A stream that never ends fills the queue; who comes then is refused; then it is left."""
        with Client(self.server) as client:
            client.send("POST", "/v1/generate", ENDLESS, {**JSON, "Accept": "text/event-stream"})
            self.wait_for("a stream", lambda: self.after.value("brickwork_streams") == 1)
            self.assertEqual(self.after.value("brickwork_in_progress_pictures"), 8)
            self.assertEqual(self.generate({**QUICK, "n": 8}).status, 429)
        self.wait_for("no picture", lambda: self.after.value("brickwork_in_progress_pictures") == 0)
        self.assertEqual(self.after.value("brickwork_streams"), 0)
        self.assertEqual(self.rise("admissions_total", decision="queue_full"), 1)
        self.assertEqual(self.rise("pictures_total", outcome="cancelled"), 8)
        self.wait_for("the request to be over", lambda: self.rise(
            "requests_total", route="/v1/generate", method="POST", status="499") == 1)

    def test_jobs_and_webhooks(self):
        self.assertEqual(ask(self.server, "PUT", "/v1/jobs/told",
                             {**QUICK, "webhook": f"http://{self.hook}/?secret=1"},
                             {**JSON, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}).status, 201)
        self.wait_for("a webhook", lambda: self.rise("webhooks_total", outcome="delivered") == 1)
        self.assertEqual(self.rise("jobs_total", outcome="done"), 1)
        self.assertEqual(self.rise("stored_jobs", state="kept"), 1)
        self.assertGreater(self.rise("stored_jobs_bytes"), 1000)
        [(headers, body)] = self.calls
        self.assertRegex(headers["traceparent"], f"^00-{TRACE}-(?!b7ad6b7169203331)[0-9a-f]{{16}}-01$")
        self.assertEqual(json.loads(body)["status"], "completed")
        self.assertEqual(ask(self.server, "PUT", "/v1/jobs/dropped", ENDLESS).status, 201)
        self.wait_for("an open job", lambda: self.rise("stored_jobs", state="open") == 1)
        self.assertEqual(ask(self.server, "DELETE", "/v1/jobs/dropped").status, 204)
        self.assertEqual(ask(self.server, "DELETE", "/v1/jobs/told").status, 204)
        self.wait_for("no picture", lambda: self.after.value("brickwork_in_progress_pictures") == 0)
        self.assertEqual(self.rise("jobs_total", outcome="cancelled"), 1)
        self.assertEqual(self.rise("jobs_total", outcome="done"), 1)
        self.assertEqual([self.rise("stored_jobs", state=state) for state in ("open", "kept")], [0, 0])
        self.assertEqual(self.rise("requests_total", route="/v1/jobs/{id}", method="PUT", status="201"), 2)

    def test_counters_only_rise(self):
        self.picture(QUICK)
        self.generate({"steps": 0})
        after = scrape(self.server)
        for (name, labels), value in self.before.samples.items():
            family = re.sub("_(bucket|sum|count)$", "", name)
            kind = self.before.types.get(name) or self.before.types[family]
            if kind != "gauge":
                self.assertGreaterEqual(after.samples[name, labels], value, (name, labels))

    def test_process(self):
        self.wait_for("nobody else", lambda: self.after.value("brickwork_connections") == 1)
        self.assertGreater(self.after.value("process_resident_memory_bytes"), 1 << 20)
        self.assertGreaterEqual(self.after.value("process_cpu_seconds_total"), 0)
        before = self.after.value("process_open_fds")
        with Client(self.server) as client:
            client.ask("GET", "/livez")
            self.wait_for("a descriptor for the connection",
                          lambda: self.after.value("process_open_fds") > before)


class TestDashboard(ServerCase):
    """The Grafana dashboard shows what there is."""
    dashboard = json.loads((ROOT / "deploy/grafana/brickwork.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]

    def test_every_metric_exists(self):
        self.picture(QUICK)
        exposed = scrape(self.server)
        labels = {(name, label) for name, pairs in exposed.samples for label, _ in pairs}
        shown = set()
        for panel in self.panels:
            for target in panel["targets"]:
                with self.subTest(panel["title"]):
                    names = set(re.findall(r"\b(?:brickwork|process)_\w+", target["expr"]))
                    self.assertTrue(names)
                    self.assertLessEqual(names, exposed.names())
                    shown |= names
                    by = re.search(r"by \(([^)]*)\)", target["expr"])
                    for label in re.findall(r"\w+", by[1] if by else ""):
                        self.assertTrue(any((name, label) in labels for name in names), label)
        known = {re.sub("_(bucket|sum|count)$", "", name) for name in shown}
        self.assertEqual(set(exposed.types) - known - {"brickwork_workers_dead", "brickwork_uptime_seconds",
                                                       "brickwork_evaluation_calls_total",
                                                       "brickwork_worker_threads",
                                                       "process_virtual_memory_bytes"}, set())

    def test_form(self):
        self.assertGreaterEqual(self.dashboard["schemaVersion"], 39)
        variables = [v["type"] for v in self.dashboard["templating"]["list"]]
        self.assertEqual(variables.count("datasource"), 1)
        ids = [panel["id"] for panel in self.dashboard["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
        for panel in self.panels:
            for part in [panel, *panel["targets"]]:
                self.assertEqual(part["datasource"], {"type": "prometheus", "uid": "${datasource}"})
        taken = set()
        for panel in self.dashboard["panels"]:
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells


class TestLines(unittest.TestCase):
    """What the log says of requests and jobs."""

    def test_json(self):
        server = Server("--log-format", "json")
        trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "X-Request-Id": "mine"}
        picture = ask(server, "POST", "/v1/generate", QUICK, {**JSON, **trace})
        ask(server, "PUT", "/v1/jobs/one", {**QUICK, "n": 2}, {**JSON, **trace})
        server.wait_for_log('"event":"job-over"')
        ask(server, "PUT", "/v1/jobs/two", ENDLESS)
        ask(server, "DELETE", "/v1/jobs/two")
        server.stop()
        lines = [json.loads(line) for line in server.lines if line != "(end of the log)"]
        request = next(line for line in lines if line["event"] == "request")
        self.assertRegex(request["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
        expected = {"level": "info", "id": "mine", "peer": "127.0.0.1", "trace": TRACE,
                    "method": "POST", "path": "/v1/generate", "route": "/v1/generate",
                    "status": 200, "bytes": len(picture.body)}
        self.assertEqual({key: request[key] for key in expected}, expected)
        for key in ("queue_ms", "compute_ms", "encode_ms", "predicted_ms"):
            self.assertGreaterEqual(request[key], 0)
        self.assertGreaterEqual(request["duration_ms"], request["compute_ms"])
        put = next(line for line in lines if line.get("method") == "PUT")
        self.assertEqual((put["path"], put["route"]), ("/v1/jobs/one", "/v1/jobs/{id}"))
        one, two = [line for line in lines if line["event"] == "job-over"]
        self.assertEqual((one["id"], one["trace"]), ("one", TRACE))
        self.assertEqual((one["outcome"], one["pictures"]), ("done", 2))
        self.assertGreater(one["duration_ms"], 0)
        self.assertEqual((two["id"], two["outcome"], two["pictures"]), ("two", "cancelled", 8))

    def test_logfmt(self):
        server = Server()
        ask(server, "GET", "/no%20where", headers={"X-Request-Id": "mine"})
        line = server.wait_for_log("id=mine")
        server.stop()
        self.assertRegex(line, r'^time=\S+ level=info event=request id=mine peer=127\.0\.0\.1 '
                               r'trace=[0-9a-f]{32} method=GET path="/no where" route=none '
                               r'status=404 bytes=\d+ duration_ms=[0-9.]+$')


if __name__ == "__main__":
    unittest.main()
