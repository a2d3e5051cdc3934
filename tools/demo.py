"""Show the service: start it on a free port, ask it for pictures over HTTP, write them to files.

    demo.py BRICKWORKD OUT_DIR

Writes one JPEG per class and contact-sheet.png, prints the timings the server reported, stops it again.
"""
import json
import pathlib
import re
import subprocess
import sys
import urllib.request

from PIL import Image, ImageDraw

STEPS, SEED, COLUMNS, LABEL_HEIGHT, MARGIN = 16, 1, 5, 14, 6


def start(program):
    """The server's process and its base URL, which it tells in its log."""
    server = subprocess.Popen([program, "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
    for line in server.stderr:
        print(line, end="")
        if found := re.search(r"event=listening address=(\S+)", line):
            return server, "http://" + found.group(1)
    sys.exit("the server did not start")


def generate(url, **request):
    """One picture: its bytes and the response's headers."""
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json", "Accept": "image/jpeg"}
    with urllib.request.urlopen(urllib.request.Request(url + "/v1/generate", body, headers)) as answer:
        return answer.read(), answer.headers


def contact_sheet(pictures):
    """All pictures in a grid, each with its name below."""
    width = max(image.width for _, image in pictures) + MARGIN
    height = max(image.height for _, image in pictures) + MARGIN + LABEL_HEIGHT
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width + MARGIN, rows * height + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (name, image) in enumerate(pictures):
        x, y = MARGIN + i % COLUMNS * width, MARGIN + i // COLUMNS * height
        sheet.paste(image, (x, y))
        draw.text((x, y + image.height + 2), name, fill="black")
    return sheet


def main(program, out_dir):
    out = pathlib.Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    server, url = start(program)
    try:
        with urllib.request.urlopen(url + "/v1/models") as answer:
            model = json.load(answer)["data"][0]
        requests = [(name, {"class": name}) for name in model["classes"]]
        requests.append(("apples, balanced", {"class": "apples", "skip": "balanced"}))
        pictures = []
        for name, request in requests:
            jpeg, headers = generate(url, steps=STEPS, seed=SEED, **request)
            path = out / (re.sub(r"\W+", "-", name) + ".jpg")
            path.write_bytes(jpeg)
            pictures.append((name, Image.open(path)))
            print(f"{name:24} {headers['Server-Timing']}")
        contact_sheet(pictures).save(out / "contact-sheet.png")
    finally:
        server.terminate()
        server.stderr.read()
        status = server.wait()
    print(f"{len(pictures)} pictures and contact-sheet.png are in {out}/; the server stopped with {status}")
    return status


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
