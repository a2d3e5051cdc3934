/* Pictures with JavaScript's fetch, in Node.js 18 or a browser:  node generate.mjs [URL] [CLASS] */
import { writeFile } from "node:fs/promises";

const url = process.argv[2] ?? process.env.BRICKWORK_URL ?? "http://127.0.0.1:8080";
const name = process.argv[3] ?? "apples"; // GET /v1/models lists what the model has learnt

/* A request; with an API key add the field Authorization: `Bearer ${key}`. */
async function ask(path, body, accept) {
  const answer = await fetch(url + path, {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", Accept: accept },
  });
  if (!answer.ok) throw new Error((await answer.json()).detail); // every failure says why
  return answer;
}

/* {event, data} of each event of a stream, as they come. */
async function* events(answer) {
  let text = "";
  for await (const bytes of answer.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (text + bytes).split("\n\n"); // an empty line ends an event
    text = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s)));
      if (fields.event) yield { event: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

// 1. Wait for a picture. Its address (GET) would do as well: new URL(`/v1/generate?class=${name}&seed=1`, url)
const picture = await ask("/v1/generate", { class: name, seed: 1 }, "image/webp");
await writeFile("waited.webp", Buffer.from(await picture.arrayBuffer()));

// 2. Watch pictures being made.
const stream = await ask("/v1/generate", { class: name, seed: 1, steps: 12, partial_images: 2, format: "png" },
  "text/event-stream");
for await (const { event, data } of events(stream)) {
  if (event === "progress") {
    console.log(`step ${data.step} of ${data.steps}, ${Math.round(data.eta_ms)} ms to go`);
  } else if (event === "partial") {
    await writeFile(`preview-${data.partial}.jpg`, Buffer.from(data.b64, "base64"));
  } else if (event === "completed") {
    await writeFile("watched.png", Buffer.from(data.images[0].b64, "base64"));
  } else if (event === "error") {
    throw new Error(data.detail);
  }
}
