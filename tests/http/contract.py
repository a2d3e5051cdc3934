"""openapi.yaml as a judge: is an answer one that the document allows?

check() takes the request's method and path and the answer. It fails unless the document lists the
status for that operation, with that media type, a body its schema accepts and headers that fit.
Every (path, method, status) seen is noted in `seen`, so a suite can tell what it has covered.
"""
import json
import pathlib
import urllib.parse

import jsonschema
import yaml

FILE = pathlib.Path(__file__).resolve().parents[2] / "openapi.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text())
ANY_PATH = "/{path}"  # the document's entry for all other paths and for what can go wrong on any

seen = set()


def resolve(node):
    """Follow a reference into the document."""
    while "$ref" in node:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def listed():
    """Every (path, method, status) that the document lists."""
    return [(path, method, int(status)) for path, item in DOCUMENT["paths"].items()
            for method, operation in item.items() if method in ("get", "post", "put", "delete")
            for status in operation["responses"]]


def accepts(schema, instance):
    """None if the schema accepts, else what is wrong."""
    resolver = jsonschema.RefResolver("", DOCUMENT)
    validator = jsonschema.Draft202012Validator(schema, resolver=resolver)
    error = jsonschema.exceptions.best_match(validator.iter_errors(instance))
    return error and f"{error.json_path}: {error.message}"


def find(method, path, status):
    """The listed (path, method) whose operation answers this request with this status."""
    path = urllib.parse.unquote(path.split("?")[0])
    if path in DOCUMENT["paths"]:
        item = DOCUMENT["paths"][path]
        wanted = "get" if method == "HEAD" else method.lower()
        if wanted not in item:  # the refusal of a method stands with the one method there is
            wanted = next(iter(item))
        if str(status) in item[wanted]["responses"]:
            return path, wanted
    if str(status) in DOCUMENT["paths"][ANY_PATH]["get"]["responses"]:
        return ANY_PATH, "get"
    raise AssertionError(f"{method} {path[:60]}: openapi.yaml lists no status {status}")


def check_body(where, method, listed_response, response):
    content = listed_response.get("content", {})
    assert response.type in content, f"{where}: media type {response.type!r} is not listed"
    if method == "HEAD":
        assert response.body == b"", f"{where}: a body for HEAD"
        return
    schema = content[response.type].get("schema")
    if schema:
        wrong = accepts(schema, json.loads(response.body))
        assert not wrong, f"{where}: {wrong}"


def check_headers(where, listed_response, response):
    identity = response.headers.get("X-Request-Id")
    assert identity, f"{where}: no X-Request-Id"
    for name, header in listed_response.get("headers", {}).items():
        value = response.headers.get(name)
        wrong = value is not None and accepts(resolve(header)["schema"], value)
        assert not wrong, f"{where}: {name}: {wrong}"
        lasting = response.status == 503 and b"deadline-infeasible" in (response.body or b"")
        needed = name in ("Allow", "Retry-After") and not lasting
        assert value is not None or not needed, f"{where}: {name} is missing"
    if response.type == "application/problem+json" and response.body:
        problem = json.loads(response.body)
        assert problem["status"] == response.status, f"{where}: the problem says another status"
        assert problem["instance"] == identity, f"{where}: the problem says another id"


def check(method, path, response):
    """Fail unless the document allows this answer to this request."""
    operation = find(method, path, response.status)
    where = f"{method} {path[:60]} -> {response.status}"
    item = DOCUMENT["paths"][operation[0]][operation[1]]
    listed_response = resolve(item["responses"][str(response.status)])
    check_body(where, method, listed_response, response)
    check_headers(where, listed_response, response)
    seen.add((*operation, response.status))
