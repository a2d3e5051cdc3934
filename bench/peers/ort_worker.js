// onnxruntime as a worker: one JSON request per line on stdin, one JSON answer per line on stdout.
//
//   {"op": "load", "form": NAME, "model": FILE, "options": {...}, "batch": B, "x": FILE, "sigma": S, "classes": N,
//    "label": L}                          load a session and its inputs
//   {"op": "run", "form": NAME, "batch": B, "out": FILE}            one evaluation; its output goes to FILE
//   {"op": "time", "form": NAME, "batch": B, "seconds": T}          {"ms": [...]}, one number per call
//   {"op": "versions"}
// FILEs of numbers are raw little-endian float32. Arguments: the folder that has node_modules.
"use strict";
const fs = require("fs");
const path = require("path");
const readline = require("readline");
const ort = require(path.join(path.resolve(process.argv[2]), "node_modules", "onnxruntime-node"));

const sessions = new Map(); // "form batch" -> {session, feeds}

function floats(file) {
  const bytes = fs.readFileSync(file);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

function feedsOf(r) {
  const x = floats(r.x); // one picture, the same for the whole batch
  const side = Math.sqrt(x.length / 3);
  const batch = new Float32Array(r.batch * x.length);
  const label = new Float32Array(r.batch * r.classes);
  for (let i = 0; i < r.batch; i++) {
    batch.set(x, i * x.length);
    if (r.label >= 0) label[i * r.classes + r.label] = 1;
  }
  return {
    x: new ort.Tensor("float32", batch, [r.batch, 3, side, side]),
    sigma: new ort.Tensor("float32", new Float32Array(r.batch).fill(r.sigma), [r.batch]),
    label: new ort.Tensor("float32", label, [r.batch, r.classes]),
  };
}

const operations = {
  versions: async () => ({ node: process.version, onnxruntime: ort.env.versions.node }),

  load: async (r) => {
    const session = await ort.InferenceSession.create(r.model, { executionProviders: ["cpu"], ...r.options });
    sessions.set(r.form + " " + r.batch, { session, feeds: feedsOf(r) });
    return {};
  },

  run: async (r) => {
    const { session, feeds } = sessions.get(r.form + " " + r.batch);
    const { d } = await session.run(feeds);
    fs.writeFileSync(r.out, Buffer.from(d.data.buffer, d.data.byteOffset, d.data.byteLength));
    return {};
  },

  time: async (r) => {
    const { session, feeds } = sessions.get(r.form + " " + r.batch);
    await session.run(feeds); // wakes the threads and warms the caches
    const ms = [];
    const end = performance.now() + 1000 * r.seconds;
    do {
      const start = performance.now();
      await session.run(feeds);
      ms.push(performance.now() - start);
    } while (performance.now() < end);
    return { ms };
  },
};

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const request = JSON.parse(line);
    let answer;
    try {
      answer = await operations[request.op](request);
    } catch (error) {
      answer = { error: String(error.message || error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
}
main();
