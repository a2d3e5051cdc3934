#!/bin/sh
# Pictures with curl:  generate.sh [URL] [CLASS]
set -eu
url=${1:-${BRICKWORK_URL:-http://127.0.0.1:8080}}
class=${2:-apples} # GET /v1/models lists what the model has learnt
json='Content-Type: application/json' # with an API key also: -H "Authorization: Bearer $KEY"

# The shortest way: a request in, a JPEG out. The same seed gives the same picture, byte for byte.
curl -fsS -H "$json" -d "{\"class\": \"$class\", \"seed\": 1}" -o picture.jpg "$url/v1/generate"

# A picture has an address, too: it may be cached, bookmarked, or stand in a page as <img src>.
curl -fsS -G -d seed=1 --data-urlencode "class=$class" -d format=png -o picture.png "$url/v1/generate"

# Several come as JSON, with how long they took and what exactly was done.
curl -fsS -H "$json" -d "{\"class\": \"$class\", \"n\": 2, \"steps\": 12}" -o pictures.json "$url/v1/generate"

# A job is made while you do something else. You choose its name; asking twice is harmless.
job=$url/v1/jobs/example-$$
curl -fsS -X PUT -H "$json" -d "{\"class\": \"$class\"}" -o job.json "$job"
curl -fsSN -o events.txt "$job/events" # follows it to its end
curl -fsS -o job.jpg "$job/images/0"
curl -fsS -X DELETE "$job"
