"""What the official openai package sends for client.images.generate(), with the standard library:

    openai_images.py [URL] [PROMPT]

With the package itself: OpenAI(base_url=URL + "/v1", api_key="unused").images.generate(prompt=...).
"""
import base64
import json
import os
import sys
import urllib.request

URL = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BRICKWORK_URL", "http://127.0.0.1:8080")
PROMPT = sys.argv[2] if len(sys.argv) > 2 else "a watercolour of two lemons"

request = urllib.request.Request(
    URL + "/v1/images/generations",
    json.dumps({"prompt": PROMPT, "n": 2, "size": "auto", "quality": "medium"}).encode(),
    {"Content-Type": "application/json", "Accept": "application/json",
     "Authorization": "Bearer " + os.environ.get("OPENAI_API_KEY", "unused")})
with urllib.request.urlopen(request) as answer:
    pictures = json.load(answer)
for number, picture in enumerate(pictures["data"]):
    name = f"openai-{number}.{pictures['output_format']}"
    with open(name, "wb") as file:
        file.write(base64.b64decode(picture["b64_json"]))
    print(name)
