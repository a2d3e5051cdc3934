"""Pictures with Python's standard library:  generate.py [URL] [CLASS]"""
import base64
import json
import os
import sys
import urllib.request
import uuid

URL = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BRICKWORK_URL", "http://127.0.0.1:8080")
CLASS = sys.argv[2] if len(sys.argv) > 2 else "apples"  # GET /v1/models lists what the model has learnt


def ask(method, path, body=None, accept="*/*"):
    """The open answer to a request. With an API key add the field Authorization: Bearer KEY."""
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Accept": accept, **({"Content-Type": "application/json"} if data else {})}
    return urllib.request.urlopen(urllib.request.Request(URL + path, data, headers, method=method))


def events(answer):
    """(name, data) of each event of a stream, as they come."""
    name, data = None, None
    for line in answer:
        field, _, value = line.decode().rstrip("\r\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = json.loads(value)
        elif not field and name:  # an empty line ends an event
            yield name, data
            name = None


def save(name, picture):
    with open(name, "wb") as file:
        file.write(picture)
    print(f"{name}: {len(picture)} bytes")


# 1. Wait for a picture.
with ask("POST", "/v1/generate", {"class": CLASS, "seed": 1}, accept="image/png") as answer:
    save("waited.png", answer.read())

# 2. Watch pictures being made.
request = {"class": CLASS, "seed": 1, "steps": 12, "partial_images": 2, "format": "jpeg"}
with ask("POST", "/v1/generate", request, accept="text/event-stream") as answer:
    for event, data in events(answer):
        if event == "progress":
            print(f"step {data['step']} of {data['steps']}, {data['eta_ms']:.0f} ms to go")
        elif event == "partial":
            save(f"preview-{data['partial']}.jpg", base64.b64decode(data["b64"]))
        elif event == "completed":
            save("watched.jpg", base64.b64decode(data["images"][0]["b64"]))
        elif event == "error":
            sys.exit(data["detail"])

# 3. Have pictures made while you do something else. The id is yours: sending it again is harmless.
job = f"/v1/jobs/{uuid.uuid4()}"
ask("PUT", job, {"class": CLASS, "n": 2, "format": "png"}).close()
with ask("GET", job + "/events") as answer:  # or come back later and GET the job itself
    for event, data in events(answer):
        if event == "error":
            sys.exit(data["detail"])
with ask("GET", job) as answer:
    for image in json.load(answer)["images"]:
        with ask("GET", image["url"]) as picture:
            save(f"job-{image['index']}.png", picture.read())
ask("DELETE", job).close()
