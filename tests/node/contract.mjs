/* The contract, at the end of a run: node contract.mjs RECORD
 *
 * RECORD has what every suite asked and was answered (tests/http/contract.py says how). Each answer has to
 * be one that openapi.yaml lists for that operation: its status, its media type, a body and header
 * fields that their schemas accept, and in a stream events that theirs accept. And everything the
 * document lists has to have been answered: every operation, status, media type and kind of event.
 * Prints "ok ITEM" or "not ok ITEM: why" for each such thing. */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";

import { api, judge, named, objection, resolve } from "./schemas.mjs";

const ANY_PATH = "/{path}"; // all other paths, and what can be wrong with a request on any
const METHODS = ["get", "post", "put", "delete", "options"];
const EXAMPLES_SHOWN = 5; // of what is wrong with one thing

/* What OpenAPI 3.1 cannot say: the data of the events of each stream. The last two end it. */
const STEPS = { queued: "StreamQueued", progress: "StreamProgress", partial: "StreamPartial" };
const OPENAI = { "image_generation.partial_image": "OpenAIEvent",
  "image_generation.completed": "OpenAIEvent" };
const EVENTS = {
  "post /v1/generate": { ...STEPS, completed: "Generation", error: "Problem" },
  "get /v1/jobs/{id}/events": { ...STEPS, completed: "Job", error: "Problem" },
  "post /v1/images/generations": { ...OPENAI, error: "Problem" },
};
const LAST = ["completed", "image_generation.completed", "error"];

const MAGIC = { "image/jpeg": /^\xff\xd8\xff/, "image/png": /^\x89PNG\r\n\x1a\n/,
  "image/webp": /^RIFF....WEBP/s };

const patterns = Object.keys(api.paths).map((path) => ({
  path, parts: (path.match(/\{/g) ?? []).length,
  pattern: new RegExp("^" + path.replace(/[.\\]/g, "\\$&").replace(/\{[^}]*\}/g, "[^/]+") + "$", "s"),
})).filter(({ path }) => path !== ANY_PATH).sort((a, b) => a.parts - b.parts);

function decoded(target) {
  const path = target.split("?")[0];
  try {
    return decodeURIComponent(path);
  } catch {
    return path; // refused, on whatever path
  }
}

/* The operations that may answer a request: its own; for a method the path does not take, those of the path
 * that say so; and the one of any path. */
function* candidates(method, target) {
  const path = decoded(target);
  const own = patterns.find(({ pattern }) => pattern.test(path))?.path;
  const wanted = METHODS.find((one) => one.toUpperCase() === (method === "HEAD" ? "GET" : method)); // "get" is another
  if (own && api.paths[own][wanted]) {
    yield [wanted, own];
  } else {
    if (api.paths[ANY_PATH][wanted]) yield [wanted, ANY_PATH];
    if (own) yield* METHODS.filter((one) => api.paths[own][one]?.responses["405"]).map((one) => [one, own]);
  }
  yield ["get", ANY_PATH];
}

/* {name: "post /v1/generate", item: what the document says of this status}; undefined: nothing. */
function find(exchange) {
  for (const [method, path] of candidates(exchange.method, exchange.path)) {
    const item = api.paths[path][method]?.responses[exchange.status];
    if (item) return { name: `${method} ${path}`, operation: api.paths[path][method], item: resolve(item) };
  }
  return undefined;
}

/* "event: a\ndata: {}\n\n..." -> [{event, data, id}]; what is not ended by an empty line is left out. */
function events(text) {
  const blocks = text.replaceAll("\r\n", "\n").split("\n\n").slice(0, -1);
  return blocks.map((block) => {
    const fields = block.split("\n").filter((line) => line && !line.startsWith(":"))
      .map((line) => /^([a-z]+): ?(.*)$/s.exec(line) ?? [line, "?", line]);
    const value = (name) => fields.filter(([, field]) => field === name).map(([, , v]) => v).join("\n");
    return { event: value("event"), data: value("data"), id: value("id"), empty: !fields.length,
      odd: fields.filter(([, field]) => !["event", "data", "id", "retry"].includes(field)) };
  }).filter(({ empty, event, data, odd }) => !empty && (event || data || odd.length));
}

/* What is wrong with a stream; the kinds of its events are added to `seen`. */
function* streamFaults(name, exchange, seen) {
  const all = events(exchange.text);
  let before = 0;
  for (const { event, data, id, odd } of all) {
    const schema = EVENTS[name]?.[event];
    if (odd.length) yield `a line that is no field: ${odd[0][2]}`;
    if (!schema) {
      yield `an event ${JSON.stringify(event)} that nobody knows`;
      continue;
    }
    const wrong = parsedObjection(named(schema), data);
    if (wrong) yield `event ${event}: ${wrong}`;
    if (id && !(Number(id) > before)) yield `event id ${id} after ${before}`;
    before = Number(id);
    seen.add(`${name} ${exchange.status} event ${event}`);
  }
  if (!exchange.aborted && !LAST.includes(all.at(-1)?.event)) yield "a stream without an end";
  if (!exchange.text.endsWith("\n") && !exchange.aborted) yield "half an event";
}

function parsedObjection(accepts, text) {
  try {
    return objection(accepts, JSON.parse(text));
  } catch (error) {
    return `not JSON: ${error.message}`;
  }
}

/* What is wrong with a body, of which the document says `content`. */
function* bodyFaults(name, exchange, type, content, seen) {
  if (exchange.method === "HEAD") {
    if (exchange.bytes) yield "a body for HEAD";
  } else if (!type) {
    if (exchange.bytes) yield "a body without a type";
  } else if (MAGIC[type]) {
    const head = Buffer.from(exchange.head ?? "", "base64").toString("latin1");
    if (!MAGIC[type].test(head) && !exchange.aborted) yield `that is no ${type}`;
  } else if (type === "text/event-stream") {
    yield* streamFaults(name, exchange, seen);
  } else if (content[type].schema && !exchange.aborted) {
    const wrong = parsedObjection(judge(content[type].schema), exchange.text);
    if (wrong) yield wrong;
  }
}

/* Fields that have to be there, beside what their schemas say. */
function* missing(exchange) {
  const { status, text = "" } = exchange;
  const lasting = status === 503 && text.includes("deadline-infeasible"); // no use to try again
  if (status === 405) yield "allow";
  if (status === 429 || (status === 503 && !lasting)) yield "retry-after";
  if (status === 401) yield "www-authenticate";
  if (status === 201 || status === 202) yield "location";
  if (status === 304) yield "etag";
  yield "x-request-id";
}

function* headerFaults(exchange, item) {
  const bare = [204, 304].includes(exchange.status);
  if (bare && exchange.headers["transfer-encoding"]) yield "chunks, although nothing may be sent";
  for (const [name, header] of Object.entries(item.headers ?? {})) {
    const value = exchange.headers[name.toLowerCase()];
    const wrong = value !== undefined && objection(judge(resolve(header).schema), value);
    if (wrong) yield `${name} "${value}": ${wrong}`;
  }
  for (const name of missing(exchange)) {
    if (exchange.headers[name] === undefined) yield `no ${name}`;
  }
}

function* problemFaults(exchange) {
  if (exchange.method === "HEAD") return;
  const problem = JSON.parse(exchange.text);
  if (problem.status !== exchange.status) yield "the problem says another status";
  if (problem.instance !== exchange.headers["x-request-id"]) yield "the problem says another id";
  if (exchange.headers["cache-control"] !== "no-store") yield "a problem that may be kept";
}

/* What was taken is what the document lets one ask for. */
function* requestFaults(exchange, operation) {
  const schema = operation.requestBody?.content["application/json"].schema;
  if (!schema || exchange.status >= 300 || exchange.sent === undefined) return;
  const wrong = parsedObjection(judge(schema), exchange.sent);
  if (wrong) yield `took a request that is wrong: ${wrong}`;
}

function* faults(exchange, { name, operation, item }, type, seen) {
  const content = item.content ?? {};
  if (type ? !content[type] : Object.keys(content).length) {
    yield `media type "${type}" is not listed`;
    return;
  }
  yield* bodyFaults(name, exchange, type, content, seen);
  yield* headerFaults(exchange, item);
  yield* requestFaults(exchange, operation);
  if (type === "application/problem+json" && !exchange.aborted) yield* problemFaults(exchange);
}

/* Everything that the document lists. */
function* listed() {
  for (const [path, item] of Object.entries(api.paths)) {
    for (const method of METHODS.filter((one) => item[one])) {
      const name = `${method} ${path}`;
      for (const [status, response] of Object.entries(item[method].responses)) {
        const types = Object.keys(resolve(response).content ?? { "": 0 });
        for (const type of types) yield `${name} ${status} ${type}`.trim();
        if (types.includes("text/event-stream")) {
          for (const event of Object.keys(EVENTS[name])) yield `${name} ${status} event ${event}`;
        }
      }
    }
  }
}

/* The judge can say no: one that took everything would make all of this empty. */
function* blindness() {
  const wrong = [["GenerateRequest", { steps: 0 }], ["GenerateRequest", { colour: 1 }],
    ["GenerateRequest", { skip: { t_break: 2 } }], ["Problem", { status: 400 }], ["Generation", {}]];
  for (const [schema, instance] of wrong) {
    if (named(schema)(instance)) yield `${schema} accepts ${JSON.stringify(instance)}`;
  }
}

const seen = new Set(), wrong = new Map();
let count = 0;

function complain(item, exchange, why) {
  const from = `${exchange.suite}, ${exchange.test ?? "?"}: ${exchange.method} ${exchange.path.slice(0, 80)}`;
  wrong.set(item, [...(wrong.get(item) ?? []), `${why}\n      (${from}, id ${exchange.headers["x-request-id"]})`]);
}

for await (const line of createInterface({ input: createReadStream(process.argv[2]) })) {
  const exchange = JSON.parse(line);
  const type = (exchange.headers["content-type"] ?? "").split(";")[0].trim();
  const found = find(exchange);
  count++;
  if (!found) {
    complain(`${exchange.method} ${exchange.status}`, exchange, "openapi.yaml lists no such status here");
    continue;
  }
  const item = `${found.name} ${exchange.status} ${type}`.trim();
  seen.add(item);
  for (const why of faults(exchange, found, type, seen)) complain(item, exchange, why);
}

for (const why of blindness()) wrong.set("the judge", [why]);
const items = new Set([...listed(), ...wrong.keys()]);
for (const item of items) {
  const why = wrong.get(item) ?? (seen.has(item) ? [] : ["no test produced it"]);
  console.log(why.length ? `not ok ${item}: ${why.slice(0, EXAMPLES_SHOWN).join("\n    ")}` : `ok ${item}`);
}
console.log(`${count} exchanges`);
process.exitCode = [...items].some((item) => wrong.has(item) || !seen.has(item)) ? 1 : 0;
