"""Every answer that openapi.yaml lists is produced here, and the document itself is looked at.

One test for each (method, path, status, media type) is made from the document: by the table of what is
particular to one operation, else by what gives that status anywhere. That nothing was left out is
seen at the end of a run, when the record of all suites is held against the document.
"""
import contextlib
import hashlib
import re
import signal
import tempfile
import unittest
import urllib.parse

import contract
from redis_server import Redis
from stall import Stall
from support import BUILD, ENDLESS, JSON, POMOLOGY, QUICK, Client, Server, ServerCase, ask, wait_until

BODIES = {"/v1/generate": QUICK,
          "/v1/quote": QUICK,
          "/v1/jobs/{id}": QUICK,
          "/v1/images/generations": {"prompt": "class 1", "quality": "low"},
          "/sdapi/v1/txt2img": {"prompt": "class 1", "steps": 2}}
ADDRESSES = {"/v1/generate": "/v1/generate?seed=1&steps=2",
             "/v1/models/{id}": "/v1/models/tiny-pg-32"}
KEY = "a key for tests"


class Question:
    """One entry of the document, as a request that can be put to a server."""

    def __init__(self, case, method, path, status, media_type):
        self.case, self.path, self.status, self.type = case, path, status, media_type
        self.method = method.upper()
        self.job = re.sub(r"\W+", "-", f"{method}{path}{status}-{media_type}")
        address = ADDRESSES.get(path, path) if method == "get" else path
        self.address = address.replace("{id}", self.job).replace("{i}", "0").replace(
            "{name}", "nothing").replace("{path}", "nothing")

    def send(self, server=None, body=None, method=None, address=None, **headers):
        """The request with these changes. Header fields are named with _ for -."""
        method, fields = method or self.method, {k.replace("_", "-"): v for k, v in headers.items()}
        if body is None and method in ("POST", "PUT"):
            body = BODIES.get(self.path)
        return ask(server or self.case.server, method, address or self.address, body,
                   {**(JSON if body is not None else {}), **fields})

    def start(self, *flags, env=None):
        server = Server(*flags, env=env)
        self.case.addCleanup(server.stop)
        return server

    def begin(self, server, body):
        """A client that has asked for this picture and not yet been answered."""
        client = Client(server)
        self.case.addCleanup(client.close)
        client.send("POST", "/v1/generate", body, JSON)

    def have_job(self, body=QUICK, done=True, server=None):
        """The job that this question is about; with `done` its pictures are there."""
        server, path = server or self.case.server, f"/v1/jobs/{self.job}"
        if "image" in self.type:
            body = {**body, "format": self.type.removeprefix("image/")}
        self.case.assertEqual(ask(server, "PUT", path, body).status, 201)
        if done:
            wait_until(lambda: ask(server, "GET", path).json()["status"] == "completed", "a job")


def ok(q):
    return q.send(Accept=q.type or "*/*")


def of_a_job(q):
    q.have_job()
    return q.send()


def accepted(q):
    return q.send(Prefer="respond-async")


def job_twice(q):
    q.have_job(done=False)
    return q.send()


def seen_to_the_end(q):
    q.have_job()
    last = re.findall(rb"(?m)^id: ?(\d+)$", q.send().body)[-1]
    return q.send(Last_Event_ID=last.decode())


def not_modified(q):
    return q.send(If_None_Match=q.send().headers["ETag"])


def job_not_modified(q):
    q.type = "image/png"
    q.have_job()
    return not_modified(q)


def asset(q):
    """One of this type that the page is made of."""
    page = q.send(address="/").body.decode()
    ending = {"text/css": "css", "text/javascript": "js", "image/svg+xml": "svg"}[q.type]
    return q.send(address=re.search(rf"/assets/[\w.-]+\.{ending}", page).group())


def asset_not_modified(q):
    q.type = "text/javascript"
    first = asset(q)
    name = re.search(r"/assets/[\w.-]+\.js", q.send(address="/").body.decode()).group()
    return q.send(address=name, If_None_Match=first.headers["ETag"])


def malformed(q):
    if q.path == contract.ANY_PATH:
        return q.send(address="/nothing%00")
    if q.method == "GET":
        return q.send(address=q.address.split("?")[0] + "?a=%zz&b=%00")
    return q.send(body=b"{")


def malformed_event_id(q):
    q.have_job()
    return q.send(Last_Event_ID="the last one")


def keyed(q, quotas=""):
    """A server that wants a key."""
    file = tempfile.NamedTemporaryFile("w", suffix=".keys")
    q.case.addCleanup(file.close)
    file.write(f"tester {hashlib.sha256(KEY.encode()).hexdigest()} {quotas}\n")
    file.flush()
    return q.start("--keys-file", file.name)


def unauthorized(q):
    return q.send(keyed(q))


def unauthorized_elsewhere(q):
    return q.send(keyed(q), address="/v1/generate")


def not_found(q):
    if q.method == "GET" and q.path == "/v1/generate":
        return q.send(address=q.address + "&model=another")
    if q.path == "/v1/models/{id}":
        return q.send(address="/v1/models/another")
    if q.path == "/sdapi/v1/txt2img":
        return q.send(body={**BODIES[q.path], "override_settings": {"sd_model_checkpoint": "another"}})
    if q.method in ("POST", "PUT"):
        return q.send(body={**BODIES[q.path], "model": "another"})
    return q.send()


def elsewhere(q):
    return q.send(q.start("--admin-listen", "127.0.0.1:0"))


def wrong_method(q):
    return q.send(method="PATCH", address=q.address.split("?")[0])


def not_acceptable(q):
    if "/jobs/" in q.path:
        q.have_job()
    return q.send(Accept="text/html")


def key_taken(q):
    q.case.assertEqual(q.send(Idempotency_Key=q.job).status, 200)
    return q.send(body={**QUICK, "seed": 2}, Idempotency_Key=q.job)


def id_taken(q):
    q.have_job(done=False)
    return q.send(body={**QUICK, "seed": 2})


def not_yet(q):
    q.have_job(ENDLESS, done=False)
    answer = q.send()
    ask(q.case.server, "DELETE", f"/v1/jobs/{q.job}")
    return answer


def no_place_yet(q):
    """The queue is shorter than when the job was admitted."""
    with tempfile.TemporaryDirectory() as folder:
        former = Server("--jobs", folder, "--queue", 64)
        for i in range(3):
            ask(former, "PUT", f"/v1/jobs/{i}", ENDLESS)
        q.have_job(ENDLESS, done=False, server=former)
        former.signal(signal.SIGKILL)
        former.stop(-signal.SIGKILL)
        server = q.start("--jobs", folder, "--queue", 8)
        answer = q.send(server)
        for job in (0, 1, 2, q.job):
            ask(server, "DELETE", f"/v1/jobs/{job}")
        server.stop()
    return answer


def gone(q):
    q.have_job(done=False)
    ask(q.case.server, "DELETE", f"/v1/jobs/{q.job}")
    return q.send()


def body_too_large(q):
    return q.send(body=b" " * 70_000)


def path_too_long(q):
    return q.send(address="/" + 3000 * "x")


def media_type(q):
    return q.send(body=b"class=1", Content_Type="application/x-www-form-urlencoded")


def invalid(q):
    if q.method == "GET":
        return q.send(address=q.address + "&n=9")
    return q.send(body={**BODIES[q.path], "steps" if "sdapi" in q.path else "n": 1000})


def headers_too_large(q):
    return q.send(X_Filler=9000 * "x")


def queue_full(q):
    """The worker has its picture, and the next request takes the 8 places of the queue."""
    server = q.start("--queue", 8, "--batch", 1)
    q.begin(server, {**ENDLESS, "n": 1})
    server.wait_for_running()
    q.begin(server, ENDLESS)
    server.wait_for_pictures(9)
    return q.send(server)


def quota_used_up(q):
    server, key = keyed(q, "rate=1/h"), {"Authorization": f"Bearer {KEY}"}
    q.case.assertEqual(ask(server, "GET", "/v1/models", headers=key).status, 200)
    return q.send(server, **key)


def internal(q):
    """The server runs with libraries that fail to make pictures."""
    return q.send(q.start(env={"LD_PRELOAD": str(BUILD / "fault.so")}))


def no_place(q):
    """The directory where jobs are kept is gone."""
    with tempfile.TemporaryDirectory() as folder:
        server = q.start("--jobs", folder)
    return q.send(server)


def store_away(q):
    """Jobs are kept in a Redis, and there is none."""
    return q.send(q.start("--jobs", "redis://127.0.0.1:1"))


def damaged(q):
    """Jobs are kept in a Redis, and somebody has been at them."""
    redis = Redis()
    q.case.addCleanup(redis.stop)
    server = q.start("--jobs", redis.start().url())
    server.wait_for_log("event=redis-up")
    q.have_job(server=server)
    key = hashlib.sha256(f"\n{q.job}".encode()).hexdigest()
    redis.ask("HSET", f"brickwork:job:{key}", "head", "x")
    return q.send(server)


def draining(q):
    """Work in progress keeps the server alive; the question comes on a connection already open."""
    for _ in range(5):
        server = q.start()
        with Client(server) as client, contextlib.suppress(ConnectionError):  # if it rested for too long
            q.begin(server, ENDLESS)
            server.wait_for_pictures(8)
            server.signal()
            server.wait_for_log("draining")
            return client.ask(q.method, q.address, BODIES.get(q.path) if q.method != "GET" else None)
    return None


def too_late(q):
    """The picture is not written until the deadline that was promised for it is over."""
    with Stall() as stall:
        stall.arm()
        server, body = q.start("--deadline-grace-ms", 0, env=stall.environment), {**QUICK, "deadline_ms": 2000}
        with Client(server) as client:
            if q.method == "GET":
                client.send("GET", f"{q.path}?{urllib.parse.urlencode(body)}")
            else:
                client.send("POST", q.address, body, JSON)
            stall.miss(server, body["deadline_ms"])
            return client.receive()


def allowed_elsewhere(q):
    origin = "https://elsewhere.example"
    server = q.start("--cors-origins", origin)
    return q.send(server, address="/v1/generate", Origin=origin, Access_Control_Request_Method="POST")


def not_allowed_elsewhere(q):
    return q.send(address="/livez")


def stalled(q):
    """One of the workers stands still until the answer is there."""
    with Stall() as stall:
        server = q.start("--stall-ms", 1000, env=stall.environment)
        stall.arm()
        with Client(server) as client:
            client.send("POST", "/v1/generate", QUICK)
            server.wait_for_log("event=worker-dead")
            answer = q.send(server)
            stall.release()
            client.receive()
        return answer


BY_STATUS = {200: ok, 304: not_modified, 400: malformed, 401: unauthorized, 404: not_found,
             405: wrong_method, 406: not_acceptable, 413: body_too_large, 414: path_too_long,
             415: media_type, 422: invalid, 429: quota_used_up, 431: headers_too_large, 500: internal,
             503: draining, 202: accepted, 410: gone, 504: too_late}
PARTICULAR = {("put", "/v1/jobs/{id}", 200): job_twice,
              ("put", "/v1/jobs/{id}", 201): ok,
              ("put", "/v1/jobs/{id}", 409): id_taken,
              ("get", "/v1/jobs/{id}", 200): of_a_job,
              ("delete", "/v1/jobs/{id}", 204): of_a_job,
              ("get", "/v1/jobs/{id}/events", 200): of_a_job,
              ("get", "/v1/jobs/{id}/events", 204): seen_to_the_end,
              ("get", "/v1/jobs/{id}/events", 400): malformed_event_id,
              ("get", "/v1/jobs/{id}/events", 409): no_place_yet,
              ("get", "/v1/jobs/{id}/images/{i}", 200): of_a_job,
              ("get", "/v1/jobs/{id}/images/{i}", 304): job_not_modified,
              ("get", "/v1/jobs/{id}/images/{i}", 409): not_yet,
              ("post", "/v1/generate", 409): key_taken,
              **{("post", path, 429): queue_full
                 for path in ("/v1/generate", "/v1/images/generations", "/sdapi/v1/txt2img")},
              ("get", "/v1/generate", 429): queue_full,
              ("put", "/v1/jobs/{id}", 429): queue_full,
              ("get", "/metrics", 404): elsewhere,
              ("get", "/livez", 503): stalled,
              ("get", "/assets/{name}", 200): asset,
              ("get", "/assets/{name}", 304): asset_not_modified,
              ("put", "/v1/jobs/{id}", 500): no_place,
              **{(method, path, 503): store_away
                 for method, path in (("get", "/v1/jobs/{id}"), ("delete", "/v1/jobs/{id}"),
                                      ("get", "/v1/jobs/{id}/events"), ("get", "/v1/jobs/{id}/images/{i}"))},
              **{("get", f"/v1/jobs/{{id}}{part}", 500): damaged for part in ("", "/events", "/images/{i}")},
              ("options", "/{path}", 401): unauthorized_elsewhere,
              ("options", "/{path}", 204): allowed_elsewhere,
              ("options", "/{path}", 405): not_allowed_elsewhere}


class TestEveryAnswer(ServerCase):
    """Filled with one test for each answer below."""


def make_test(method, path, status, media_type):
    def test(self):
        question = Question(self, method, path, status, media_type)
        if question.type == "text/event-stream" and path == "/v1/images/generations":
            response = question.send(body={**BODIES[path], "stream": True})
        else:
            ask_for = PARTICULAR.get((method, path, status)) or BY_STATUS[status]
            response = ask_for(question)
        self.assertEqual((response.status, response.type), (status, media_type), response.body[:300])
        if response.type == "application/problem+json" and path == "/v1/images/generations":
            self.assertIn("error", response.json(), "clients of OpenAI's API look for it")
    return test


for one in contract.listed():
    label = "_".join(str(part) for part in one)
    setattr(TestEveryAnswer, "test_" + re.sub(r"\W+", "_", label), make_test(*one))


class TestDocument(ServerCase):
    """Is openapi.yaml a document that tools can work with, and the one that is served?"""

    def test_is_served(self):
        self.assertEqual(ask(self.server, "GET", "/openapi.json").json(), contract.DOCUMENT)

    def test_references_lead_somewhere(self):
        def walk(node):
            if isinstance(node, dict) and isinstance(node.get("$ref"), str):
                contract.resolve(node)  # KeyError if it leads nowhere
            for child in node.values() if isinstance(node, dict) else node:
                if isinstance(child, (dict, list)):
                    walk(child)
        walk(contract.DOCUMENT)


class TestExamples(ServerCase):
    """The examples of the document work as they stand, on the model that comes along."""
    model = POMOLOGY

    def test_examples(self):
        for path, item in contract.DOCUMENT["paths"].items():
            for method, operation in item.items():
                body = method in ("post", "put") and operation.get("requestBody")
                examples = body["content"]["application/json"]["examples"] if body else {}
                for name, example in examples.items():
                    with self.subTest(f"{path} {name}"):
                        response = ask(self.server, method.upper(), path.replace("{id}", "example"),
                                       example["value"])
                        self.assertIn(response.status, (200, 201), response.body[:300])


if __name__ == "__main__":
    unittest.main()
