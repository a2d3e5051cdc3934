"""openapi.yaml, and the record of exchanges that is held against it.

record() appends what was asked and answered to the file that BRICKWORK_RECORD names, one JSON object
a line; without that variable it does nothing. At the end of a run tests/node/contract.mjs judges the
record: every answer is one that the document allows, and everything the document lists was answered.
"""
import base64
import json
import os
import pathlib
import sys
import threading
import unittest

import yaml

FILE = pathlib.Path(__file__).resolve().parents[2] / "openapi.yaml"
DOCUMENT = yaml.safe_load(FILE.read_text())
ANY_PATH = "/{path}"  # the document's entry for all other paths and for what can go wrong on any
METHODS = ("get", "post", "put", "delete", "options")

HEAD_BYTES = 12  # so much of a picture is recorded: enough to tell its format


def resolve(node):
    """Follow a reference into the document."""
    while "$ref" in node:
        target = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def listed():
    """Every (method, path, status, media type) that the document lists; no body has the type ""."""
    return [(method, path, int(status), media_type) for path, item in DOCUMENT["paths"].items()
            for method, operation in item.items() if method in METHODS
            for status, response in operation["responses"].items()
            for media_type in resolve(response).get("content", [""])]


def test_name():
    """The test that the main thread is in, whichever thread asks."""
    frame = sys._current_frames().get(threading.main_thread().ident)
    while frame:
        test = frame.f_locals.get("self")
        if isinstance(test, unittest.TestCase):
            return test.id().removeprefix("__main__.")
        frame = frame.f_back
    return "between tests"


def record(method, path, response, sent=None, aborted=False):
    """Note an answer; `sent` is the request's body, `aborted` says that the answer was not read to
    its end."""
    file = os.environ.get("BRICKWORK_RECORD")
    if not file:
        return
    exchange = {
        "suite": pathlib.Path(sys.argv[0]).stem, "test": test_name(), "method": method,
        "path": path, "status": response.status, "aborted": aborted, "bytes": len(response.body),
        "headers": {name.lower(): value for name, value in response.headers.items()}}
    if response.type.startswith("image/") and "svg" not in response.type:
        exchange["head"] = base64.b64encode(response.body[:HEAD_BYTES]).decode()
    else:
        exchange["text"] = response.body.decode(errors="replace")
    if sent and len(sent) < 10_000:
        exchange["sent"] = sent.decode(errors="replace")
    with open(file, "ab", buffering=0) as out:  # one write() at the end: whole lines, whoever else writes
        out.write(json.dumps(exchange).encode() + b"\n")
