/* Pictures with the official openai package (npm install openai):  node openai.mjs [URL] [PROMPT] */
import { writeFile } from "node:fs/promises";

import OpenAI from "openai";

const url = process.argv[2] ?? process.env.BRICKWORK_URL ?? "http://127.0.0.1:8080";
const prompt = process.argv[3] ?? "a watercolour of two lemons"; // it has to name a class of the model
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.OPENAI_API_KEY ?? "unused" });

function save(name, b64) {
  console.log(name);
  return writeFile(name, Buffer.from(b64, "base64"));
}

// Wait for two pictures.
const { data } = await client.images.generate({ prompt, n: 2, quality: "medium" });
for (const [i, picture] of data.entries()) await save(`openai-${i}.png`, picture.b64_json);

// Watch one being made.
const stream = await client.images.generate({ prompt, stream: true, partial_images: 2, output_format: "jpeg" });
for await (const event of stream) {
  if (event.type === "image_generation.partial_image") {
    await save(`preview-${event.partial_image_index}.${event.output_format}`, event.b64_json);
  } else if (event.type === "image_generation.completed") {
    await save("streamed.jpeg", event.b64_json);
  }
}
