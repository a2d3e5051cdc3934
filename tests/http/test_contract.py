"""Every answer that openapi.yaml lists is produced here, and the document itself is looked at.

One test for each (path, method, status) is made from the document, so a status that is added there
without a way to produce it here fails at once.
"""
import json
import unittest

import jsonschema

import contract
from support import BUILD, ENDLESS, JSON, POMOLOGY, QUICK, Client, Server, ServerCase, ask

BODIES = {"/v1/generate": QUICK,
          "/v1/quote": QUICK,
          "/v1/images/generations": {"prompt": "class 1", "quality": "low"}}


def ok(case, method, path):
    return case.ask(method, path, BODIES.get(path))


def malformed(case, method, path):
    if path == contract.ANY_PATH:
        return case.ask(method, "/nothing%00")
    return case.ask(method, path, b"{")


def not_found(case, method, path):
    if path == contract.ANY_PATH:
        return case.ask(method, "/nothing")
    return case.ask(method, path, {**BODIES[path], "model": "another"})


def wrong_method(case, method, path):
    return case.ask("POST" if method == "GET" else "GET", path)


def not_acceptable(case, method, path):
    return case.ask(method, path, BODIES[path], {**JSON, "Accept": "text/html"})


def body_too_large(case, method, path):
    return case.ask(method, path.replace("{path}", "nothing"), b" " * 70_000, JSON)


def path_too_long(case, method, _):
    return case.ask(method, "/" + 3000 * "x")


def media_type(case, method, path):
    return case.ask(method, path, b"class=1", {"Content-Type": "application/x-www-form-urlencoded"})


def invalid(case, method, path):
    return case.ask(method, path, {**BODIES[path], "n": 9})


def headers_too_large(case, method, path):
    return case.ask(method, path.replace("{path}", "nothing"), BODIES.get(path),
                    {**JSON, "X-Filler": 9000 * "x"})


def queue_full(case, method, path):
    """The worker has its picture, and the next request takes the 8 places of the queue."""
    server = case.start("--queue", 8, "--batch", 1)
    with Client(server) as first, Client(server) as second:
        first.send("POST", "/v1/generate", {**ENDLESS, "n": 1}, JSON)
        server.wait_for_running()
        second.send("POST", "/v1/generate", ENDLESS, JSON)
        server.wait_for_pictures(9)
        return ask(server, method, path, BODIES[path])


def internal(case, method, path):
    """The server runs with a JPEG library that fails."""
    server = case.start(env={"LD_PRELOAD": str(BUILD / "fault.so")})
    wants_jpeg = {"output_format": "jpeg"} if "images" in path else {"format": "jpeg"}
    return ask(server, method, path, {**BODIES[path], **wants_jpeg})


def draining(case, method, path):
    """Work in progress keeps the server alive; the question comes on a connection already open."""
    server = case.start()
    with Client(server) as worker, Client(server) as client:
        worker.send("POST", "/v1/generate", ENDLESS, JSON)
        server.wait_for_pictures(8)
        server.signal()
        server.wait_for_log("draining")
        return client.ask(method, path, BODIES.get(path))


PRODUCERS = {200: ok, 400: malformed, 404: not_found, 405: wrong_method, 406: not_acceptable,
             413: body_too_large, 414: path_too_long, 415: media_type, 422: invalid,
             429: queue_full, 431: headers_too_large, 500: internal, 503: draining}


class TestEveryAnswer(ServerCase):
    """Filled with one test for each answer below."""

    def ask(self, *question):
        return ask(self.server, *question)

    def start(self, *flags, env=None):
        server = Server(*flags, env=env)
        self.addCleanup(server.stop)
        return server

    def test_zz_nothing_listed_was_left_out(self):
        """Runs last: the answers seen so far are those that the document lists."""
        self.assertEqual(set(contract.listed()) - contract.seen, set())


def make_test(path, method, status):
    def test(self):
        response = PRODUCERS[status](self, method.upper(), path)
        self.assertEqual(response.status, status, response.body[:300])
        if response.type == "application/problem+json" and path == "/v1/images/generations":
            self.assertIn("error", response.json(), "clients of OpenAI's API look for it")
    return test


for one in contract.listed():
    label = one[0].strip("/{}").replace("/", "_").replace(".", "_")
    setattr(TestEveryAnswer, f"test_{one[1]}_{label}_{one[2]}", make_test(*one))


class TestDocument(ServerCase):
    """Is openapi.yaml a document that tools can work with, and the one that is served?"""

    def test_is_served(self):
        self.assertEqual(ask(self.server, "GET", "/openapi.json").json(), contract.DOCUMENT)

    def test_says_what_it_is(self):
        self.assertRegex(contract.DOCUMENT["openapi"], r"^3\.1\.\d+$")
        self.assertLessEqual({"title", "version"}, set(contract.DOCUMENT["info"]))

    def test_references_lead_somewhere(self):
        def walk(node):
            if isinstance(node, dict) and isinstance(node.get("$ref"), str):
                contract.resolve(node)  # KeyError if it leads nowhere
            for child in node.values() if isinstance(node, dict) else node:
                if isinstance(child, (dict, list)):
                    walk(child)
        walk(contract.DOCUMENT)

    def test_schemas_are_schemas(self):
        for name, schema in contract.DOCUMENT["components"]["schemas"].items():
            with self.subTest(name):
                jsonschema.Draft202012Validator.check_schema(schema)

    def test_operations_are_complete(self):
        names = set()
        for path, method, status in contract.listed():
            operation = contract.DOCUMENT["paths"][path][method]
            names.add(operation["operationId"])
            response = contract.resolve(operation["responses"][str(status)])
            self.assertTrue(response["description"])
        operations = {(path, method) for path, method, _ in contract.listed()}
        self.assertEqual(len(names), len(operations), "an operationId stands twice")

    def test_schemas_refuse(self):
        """The judge can say no: a schema that took everything would make every test above empty."""
        for schema, wrong in [("GenerateRequest", {"steps": 0}), ("GenerateRequest", {"colour": 1}),
                              ("Problem", {"status": 400}), ("Generation", {}),
                              ("GenerateRequest", {"skip": {"t_break": 2}})]:
            with self.subTest(schema):
                self.assertTrue(
                    contract.accepts({"$ref": f"#/components/schemas/{schema}"}, wrong))


class TestExamples(ServerCase):
    """The examples of the document work as they stand, on the model that comes along."""
    model = POMOLOGY

    def test_examples(self):
        for path, item in contract.DOCUMENT["paths"].items():
            body = item.get("post", {}).get("requestBody")
            examples = body["content"]["application/json"]["examples"] if body else {}
            for name, example in examples.items():
                with self.subTest(f"{path} {name}"):
                    response = ask(self.server, "POST", path, json.dumps(example["value"]).encode())
                    self.assertEqual(response.status, 200, response.body[:300])


if __name__ == "__main__":
    unittest.main()
