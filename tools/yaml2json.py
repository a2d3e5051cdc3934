"""Turn openapi.yaml into the JSON that is built into the server: yaml2json.py IN OUT"""
import json
import sys

import yaml

with open(sys.argv[1]) as source:
    document = yaml.safe_load(source)
with open(sys.argv[2], "w") as out:
    json.dump(document, out, separators=(",", ":"))
