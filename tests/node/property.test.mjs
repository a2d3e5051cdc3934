/* Whatever is asked: what is right is taken, what is wrong is refused for the right reason, and nothing ends in a
 * 5xx or hangs. Thousands of generated requests for each endpoint.
 *
 * BRICKWORK_SEED chooses other ones. A failure prints the smallest request that fails, and its seed. */
import assert from "node:assert/strict";
import net from "node:net";
import { after, test } from "node:test";

import fc from "fast-check";

import * as arbitrary from "./arbitraries.mjs";
import { Server, ask } from "./support.mjs";

const SEED = Number(process.env.BRICKWORK_SEED ?? 1);
const HUNG_MS = 30_000;


const server = await Server.start({ flags: ["--queue", 64] });
const card = (await ask(server, "GET", "/v1/models")).json().data[0];
after(() => server.stop());

/* A test of so many generated cases. */
function property(name, runs, cases, check) {
  test(name, () => fc.assert(fc.asyncProperty(cases, (one) => check(one, (method, target, options) =>
    ask(server, method, target, { test: name, ...options }))), { numRuns: runs, seed: SEED }));
}

const ENDPOINTS = [
  { method: "POST", path: "/v1/quote", schema: "GenerateRequest", body: arbitrary.generate(card, false),
    valid: 1500, spoilt: 1500 },
  { method: "POST", path: "/v1/generate", schema: "GenerateRequest", body: arbitrary.generate(card, true),
    valid: 200, spoilt: 1000 },
  { method: "PUT", path: "/v1/jobs/{id}", schema: "GenerateRequest", body: arbitrary.generate(card, true),
    valid: 200, spoilt: 1000 },
  { method: "POST", path: "/v1/images/generations", schema: "ImagesRequest", body: arbitrary.images(card),
    valid: 80, spoilt: 1000 },
  { method: "POST", path: "/sdapi/v1/txt2img", schema: "Txt2ImgRequest", body: arbitrary.txt2img(card),
    valid: 150, spoilt: 1000 },
];

const JSON_BODY = { "Content-Type": "application/json", Accept: "application/json, text/event-stream;q=0.5" };
let jobs = 0;

/* Put a body, as bytes, to an endpoint; a job is deleted again. */
async function put(send, { method, path }, bytes) {
  const target = path.replace("{id}", `property-${++jobs}`);
  const reply = await send(method, target, { body: bytes, headers: JSON_BODY });
  if (reply.status === 201) await send("DELETE", target);
  return reply;
}

/* It was taken, or the service is busy and says what could be asked for instead, or, on a slow machine, a
 * deadline could not be kept after all. */
function assertTaken(reply, body) {
  if (reply.status === 504) {
    assert.ok(body.deadline_ms, "504 without a deadline");
  } else if (reply.status === 503) {
    assert.ok(reply.json().offer, `503 without an offer: ${reply.body}`);
  } else if (reply.status !== 429) {
    assert.ok([200, 201].includes(reply.status), `${reply.status} for a valid request: ${reply.body}`);
  }
}

/* It was refused, and for one of these fields. */
function assertRefused(reply, wrong) {
  assert.equal(reply.type, "application/problem+json", `${reply.status} for ${[...wrong]}`);
  const { errors: [{ pointer }] = [{}] } = reply.json();
  assert.ok(reply.status === 422 || (reply.status === 404 && /^\/(model|override_settings)/.test(pointer)),
    `${reply.status}: ${reply.body}`);
  const field = pointer.split("/")[1].replaceAll("~1", "/").replaceAll("~0", "~");
  assert.ok([...wrong].some((name) => name === field || (field.length > 30 && name.startsWith(field))),
    `it blames ${JSON.stringify(field)}, not ${[...wrong]}`);
}

/* NUL in text and integers of more than 64 bits are JSON, but nothing that any field takes: such a request may
 * also be malformed. */
function isUnreadable(text, reply) {
  return /\\u0000|\d{19}/.test(text) && reply.status === 400;
}

for (const endpoint of ENDPOINTS) {
  const { method, path, schema } = endpoint, name = `${method} ${path}`;

  property(`${name}: what is right is taken`, endpoint.valid, endpoint.body, async (body, send) => {
    assert.deepEqual([...arbitrary.faults(schema, card, body)], [], "the oracle is wrong");
    assertTaken(await put(send, endpoint, Buffer.from(JSON.stringify(body))), body);
  });

  property(`${name}: however its numbers are spelt`, 50, endpoint.body, async (body, send) => {
    assertTaken(await put(send, endpoint, Buffer.from(arbitrary.respelt(body))), body);
  });

  property(`${name}: what is wrong is refused`, endpoint.spoilt, arbitrary.spoilt(endpoint.body, schema),
    async (body, send) => {
      const text = JSON.stringify(body), wrong = arbitrary.faults(schema, card, JSON.parse(text));
      const reply = await put(send, endpoint, Buffer.from(text));
      if (isUnreadable(text, reply)) return;
      if (wrong.size) assertRefused(reply, wrong);
      else assertTaken(reply, body);
    });

  property(`${name}: half a request`, 500, arbitrary.cut(endpoint.body), async (bytes, send) => {
    assert.equal((await put(send, endpoint, bytes)).status, 400);
  });

  property(`${name}: noise`, 500, arbitrary.noise, async (bytes, send) => {
    const reply = await put(send, endpoint, bytes);
    assert.ok(reply.status >= 200 && reply.status < 500, `${reply.status}: ${reply.body}`);
    if (reply.status < 300) assert.deepEqual([...arbitrary.faults(schema, card, JSON.parse(bytes))], []);
  });
}

/* Fields as the query of an address. */
function query(body) {
  return Object.entries(body).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]
    .map(encodeURIComponent).join("=")).join("&");
}

/* And back: what looks like JSON is. */
function fromQuery(body) {
  return Object.fromEntries(Object.entries(body).map(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    try {
      const parsed = JSON.parse(text);
      const literal = ["number", "boolean"].includes(typeof parsed) || /^\{/.test(text);
      return [name, literal || (name === "class" && text === "null") ? parsed : text];
    } catch {
      return [name, text];
    }
  }));
}

const small = arbitrary.generate(card, true);
property("GET /v1/generate: what is right is taken", 200,
  fc.tuple(small, fc.maxSafeNat()).map(([{ n, partial_images, ...body }, seed]) => ({ ...body, seed })),
  async (body, send) => assertTaken(await send("GET", "/v1/generate?" + query(body)), body));

property("GET /v1/generate: what is wrong is refused", 1000, arbitrary.spoilt(small, "GenerateRequest"),
  async (body, send) => {
    const said = fromQuery(body), wrong = arbitrary.faults("GenerateRequest", card, said);
    ["partial_images", "webhook"].filter((name) => name in body).forEach((name) => wrong.add(name));
    if (!("seed" in body)) wrong.add("seed");
    if ("n" in said && said.n !== 1) wrong.add("n");
    const reply = await send("GET", "/v1/generate?" + query(body));
    if (reply.status === 400 && /%00/.test(query(body))) return;
    if (wrong.size) assertRefused(reply, wrong);
    else assertTaken(reply, body);
  });

property("any method, path, query and header", 2000,
  fc.tuple(arbitrary.method, arbitrary.target, arbitrary.headers, fc.option(arbitrary.noise, { nil: undefined })),
  async ([method, target, headers, body], send) => {
    const reply = await send(method, target, { headers, body });
    assert.ok(reply.status < 500, `${reply.status}: ${reply.body}`);
  });

property("any header on a request that is right", 1000, arbitrary.headers, async (headers, send) => {
  const reply = await send("POST", "/v1/quote", { body: { steps: 2 }, headers });
  assert.ok(reply.status < 500, `${reply.status}: ${reply.body}`);
});

/* What comes back for these bytes until the connection is closed. */
function exchange(hasty, bytes) {
  return new Promise((resolve, reject) => {
    const { port, hostname } = new URL(hasty.base), pieces = [];
    const socket = net.connect(port, hostname, () => socket.end(bytes));
    socket.setTimeout(HUNG_MS, () => { socket.destroy(); reject(new Error("the server neither answers nor closes")); });
    socket.on("data", (piece) => pieces.push(piece));
    socket.on("error", () => {}); // a reset is a way to close
    socket.on("close", () => resolve(Buffer.concat(pieces).toString("latin1")));
  });
}

const BODY = JSON.stringify({ steps: 2, seed: 1 });
const ORIGINALS = [
  "GET /livez HTTP/1.1\r\nHost: test\r\n\r\n",
  "GET /v1/models?a=b HTTP/1.1\r\nHost: test\r\nAccept: */*\r\nConnection: close\r\n\r\n",
  `POST /v1/quote HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`,
  "POST /v1/quote HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" +
    `${BODY.length.toString(16)}\r\n${BODY}\r\n0\r\n\r\n`,
].map((text) => Buffer.from(text));

/* Half a request is waited for, but not for long; many at a time. */
test("mangled bytes", async (t) => {
  const hasty = await Server.start({ flags: ["--request-timeout-ms", 100] });
  t.after(() => hasty.stop());
  const cases = fc.array(arbitrary.mangled(ORIGINALS), { minLength: 25, maxLength: 25 });
  await fc.assert(fc.asyncProperty(cases, async (list) => {
    const answers = await Promise.all(list.map((bytes) => exchange(hasty, bytes)));
    const statuses = answers.flatMap((text) => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, n]) => Number(n)));
    assert.ok(statuses.every((status) => status < 500 || status === 505), `${statuses}`); // 505: another HTTP
  }), { numRuns: 40, seed: SEED });
});

test("after all of it", async () => {
  assert.equal((await ask(server, "POST", "/v1/generate", { body: { steps: 2, seed: 1 } })).status, 200);
  const metrics = (await ask(server, "GET", "/metrics")).body.toString();
  assert.match(metrics, /^brickwork_in_progress_pictures 0$/m);
});
