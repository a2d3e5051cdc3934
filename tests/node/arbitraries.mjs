/* Requests as the document allows them for a given model, ways to spoil them, and an oracle that does not
 * share a line with the service: the schema, and the rules of the model's card. */
import fc from "fast-check";

import { named } from "./schemas.mjs";

/* Any text without a lone surrogate, which no JSON in UTF-8 can hold. */
const text = (maxLength) => fc.string({ unit: "binary", maxLength });
const json = fc.jsonValue({ maxDepth: 3, stringUnit: "binary" });

const SOLVERS = ["dpmpp2m", "heun", "euler"];
const FORMATS = ["jpeg", "png", "webp"];

function isSide(card, side) {
  return side >= card.sizes.min_side && side % card.sizes.side_multiple === 0;
}

function isSize(card, size) {
  const [width, height] = size.split("x").map(Number);
  return isSide(card, width) && isSide(card, height) && width * height <= card.sizes.max_area;
}

/* [width, height] of at most `most` units of the card's multiple. */
function sides(card, most) {
  const { min_side: min, side_multiple: unit } = card.sizes;
  const side = fc.integer({ min: Math.ceil(min / unit), max: Math.ceil(min / unit) + most });
  return fc.tuple(side, side).map((pair) => pair.map((units) => units * unit));
}

function schedule(card) {
  const bricks = card.bricks.length;
  const until = fc.uniqueArray(fc.double({ min: 0, max: 1, minExcluded: true, noNaN: true }),
    { minLength: 1, maxLength: 5 }).map((list) => list.sort((a, b) => a - b));
  const resting = fc.array(fc.integer({ min: 0, max: bricks - 1 }), { maxLength: 4 })
    .filter((list) => new Set(list).size < bricks);
  return fc.tuple(until, fc.array(resting, { minLength: 5, maxLength: 5 }))
    .map(([ends, rests]) => ({ schedule: ends.map((end, i) => ({ until: end, skip: rests[i] })) }));
}

/* Requests that have to be taken. `small`: whose pictures take no time. */
export function generate(card, small) {
  const classes = card.classes.length;
  return fc.record({
    model: fc.constant(card.id),
    class: fc.oneof(fc.constantFrom(...card.classes), fc.constantFrom(...card.classes)
      .map((name) => name.toUpperCase()), fc.integer({ min: 0, max: classes - 1 }), fc.constant(null)),
    n: fc.integer({ min: 1, max: small ? 2 : 8 }),
    size: sides(card, small ? 1 : 12).map((pair) => pair.join("x")),
    steps: fc.integer({ min: 1, max: small ? 3 : 256 }),
    solver: fc.constantFrom(...SOLVERS),
    guidance: fc.double({ min: 0, max: 20, noNaN: true }),
    seed: fc.maxSafeNat(),
    index: fc.integer({ min: 0, max: 4294967287 }),
    skip: fc.oneof(fc.constantFrom(...card.presets),
      fc.record({ t_break: fc.double({ min: 0, max: 1, noNaN: true }) }), schedule(card)),
    format: fc.constantFrom(...FORMATS),
    quality: fc.integer({ min: 1, max: 100 }),
    progressive: fc.boolean(),
    partial_images: fc.integer({ min: 0, max: 8 }),
    deadline_ms: fc.double({ min: 1, max: 3_600_000, noNaN: true }),
    priority: fc.constantFrom("low", "normal", "high"),
  }, { requiredKeys: small ? ["steps"] : [] });
}

/* A prompt that names a class, in whatever words surround it. */
function prompt(card) {
  const words = fc.constantFrom("a watercolour of", "two", "", "!", "Please,", "日本", "é");
  return fc.tuple(words, fc.constantFrom(...card.classes), words).map((parts) => parts.join(" "));
}

export function images(card) {
  return fc.record({
    prompt: prompt(card),
    model: fc.constant(card.id),
    n: fc.integer({ min: 1, max: 3 }),
    size: fc.oneof(fc.constant("auto"), sides(card, 1).map((pair) => pair.join("x"))),
    quality: fc.constantFrom("auto", "low", "medium", "high", "standard", "hd"),
    output_format: fc.constantFrom("png", "jpeg", "webp"),
    output_compression: fc.integer({ min: 0, max: 100 }),
    response_format: fc.constant("b64_json"),
    background: fc.constantFrom("opaque", "auto"),
    stream: fc.boolean(),
    partial_images: fc.integer({ min: 0, max: 3 }),
    user: text(511).filter((name) => name && !name.includes("\0")),
  }, { requiredKeys: ["prompt"] }).map((body) => ({ ...body, ...(body.partial_images ? { stream: true } : {}) }));
}

export function txt2img(card) {
  const flags = Object.fromEntries(["do_not_save_samples", "do_not_save_grid",
    "override_settings_restore_afterwards"].map((name) => [name, fc.boolean()]));
  const nothing = { negative_prompt: "", styles: [], subseed: -1, subseed_strength: 0,
    restore_faces: false, tiling: false, enable_hr: false, save_images: false, send_images: true,
    alwayson_scripts: {}, script_args: [], script_name: null };
  const constants = Object.fromEntries(Object.entries(nothing).map(([k, v]) => [k, fc.constant(v)]));
  const sampler = fc.constantFrom("Euler", "Heun", "DPM++ 2M", "dpm++ 2m", "EULER", ...SOLVERS);
  return fc.record({
    prompt: fc.oneof(fc.constant(""), prompt(card)),
    seed: fc.oneof(fc.constant(-1), fc.maxSafeNat()),
    sampler_name: sampler,
    scheduler: fc.constantFrom("automatic", "Automatic", "karras", "Karras"),
    batch_size: fc.integer({ min: 1, max: 2 }),
    n_iter: fc.integer({ min: 1, max: 2 }),
    steps: fc.integer({ min: 1, max: 3 }),
    cfg_scale: fc.double({ min: 0, max: 20, noNaN: true }),
    sides: sides(card, 1),
    override_settings: fc.record({ sd_model_checkpoint: fc.constant(card.id) }, { requiredKeys: [] }),
    ...flags, ...constants,
  }, { requiredKeys: ["steps"] }).map(({ sides: pair, ...body }) =>
    (pair ? { ...body, width: pair[0], height: pair[1] } : body));
}

/* Values that are wrong somewhere, and right elsewhere. */
const odd = fc.oneof(json,
  fc.constantFrom(-1, 0, 9, 21, 100, 101, 257, 0.5, 1e300, 2 ** 31, 2 ** 53, "1", "", "auto", "png", true,
    null, "32x32", "31x32", "0x0", "999999x999999", "32X32", [], {}),
  fc.record({ t_break: fc.oneof(json, fc.double()) }),
  fc.record({ schedule: fc.array(fc.record({ until: fc.oneof(fc.double({ min: -1, max: 2 }), json),
    skip: fc.oneof(fc.array(fc.integer({ min: -1, max: 9 })), json) }, { requiredKeys: [] })) }));

/* The body with one to three of its fields replaced, or with fields that are unknown. */
export function spoilt(body, schema) {
  const known = Object.keys(named(schema).schema.properties);
  const name = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...known) },
    { weight: 1, arbitrary: text(30) });
  return fc.tuple(body, fc.array(fc.tuple(name, odd), { minLength: 1, maxLength: 3 }))
    .map(([whole, changes]) => changes.reduce((at, [field, value]) => ({ ...at, [field]: value }), whole));
}

/* The JSON with its numbers written another way that means the same. */
export function respelt(body) {
  return JSON.stringify(body, (_, value) => (Number.isSafeInteger(value) && Math.abs(value) < 1e9
    ? `#${value}.0#` : value)).replace(/"#(-?\d+\.0)#"/g, "$1");
}

function topField({ keyword, instancePath, params }) {
  if (instancePath) return instancePath.split("/")[1].replaceAll("~1", "/").replaceAll("~0", "~");
  return keyword === "additionalProperties" ? params.additionalProperty : params.missingProperty;
}

/* What a body may not say though its schema lets it: pairs of fields and whether they are wrong. Only fields
 * that the schema accepts are looked at, so they have their types. */
const RULES = {
  model: (card, { model }) => model !== card.id,
  class: (card, { class: one }) => (typeof one === "string"
    ? !card.classes.some((name) => name.toLowerCase() === one.toLowerCase())
    : one !== null && one >= card.classes.length),
  size: (card, { size }) => size !== "auto" && !isSize(card, size),
  skip: (card, { skip }) => {
    if (typeof skip === "string") return !card.presets.includes(skip);
    const ranges = skip.schedule ?? [];
    return ranges.some((range, i) => range.until <= (ranges[i - 1]?.until ?? 0) ||
      range.skip.some((brick) => brick >= card.bricks.length) ||
      new Set(range.skip).size >= card.bricks.length);
  },
  webhook: () => true, // nobody has allowed any
  prompt: (card, { prompt: said }) => said !== "" && !namesClass(said),
  sampler_name: (card, { sampler_name: name }) =>
    !["euler", "heun", "dpm++ 2m", "dpmpp2m"].includes(name.toLowerCase()),
  sampler_index: (card, { sampler_index: name }) =>
    !["euler", "heun", "dpm++ 2m", "dpmpp2m"].includes(name.toLowerCase()),
  partial_images: (card, body) => "prompt" in body && body.partial_images > 0 && !body.stream,
  batch_size: (card, body) => (body.batch_size ?? 1) * (body.n_iter ?? 1) > 8,
  width: (card, body) => !fits(card, body),
  height: (card, body) => !fits(card, body),
  override_settings: (card, { override_settings: settings }) =>
    (settings.sd_model_checkpoint ?? card.id) !== card.id,
};

function namesClass(said) {
  return /(^|[^\p{L}\p{N}])classe?s?($|[^\p{L}\p{N}])/iu.test(said) && /[0-9]/.test(said);
}

function fits(card, { width = card.sizes.default, height = card.sizes.default }) {
  return isSize(card, `${width}x${height}`);
}

/* The fields of a body that are wrong; none: it has to be taken. */
export function faults(schema, card, body) {
  const accepts = named(schema), wrong = new Set();
  if (!accepts(body)) accepts.errors.forEach((error) => wrong.add(topField(error)));
  for (const [field, isWrong] of Object.entries(RULES)) {
    if (Object.hasOwn(body, field) && !wrong.has(field) && isWrong(card, body)) wrong.add(field);
  }
  if (wrong.has("batch_size")) wrong.add("n_iter");
  return wrong;
}

/* Bytes that are hardly ever a request. */
export const noise = fc.oneof(fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  fc.json({ maxDepth: 4, stringUnit: "binary" }).map((string) => Buffer.from(string)),
  fc.array(fc.constantFrom("{", "}", "[", "]", ":", ",", '"', "\\", "u", "d8", "0", "-", "e", ".", "null",
    '"steps"', '"skip"', "\n", "\0", "\ufeff"), { maxLength: 40 }).map((list) => Buffer.from(list.join(""))));

/* [body, share]: its JSON is to be cut there. */
export const cut = (body) => fc.tuple(body, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }))
  .map(([whole, share]) => {
    const bytes = Buffer.from(JSON.stringify(whole));
    return bytes.subarray(0, Math.floor(share * bytes.length));
  });

const latin = (maxLength) => fc.string({ maxLength, unit:
  fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f).map((code) => String.fromCharCode(code)) });

/* Targets near those that mean something. */
const segment = fc.oneof(fc.constantFrom("v1", "generate", "quote", "jobs", "job-1", "images", "0", "generations",
  "models", "tiny-pg-32", "capabilities", "events", "livez", "readyz", "metrics", "openapi.json", "docs", "assets",
  "sdapi", "txt2img", "progress", "..", ".", "", "%2e%2e", "%00", "%", "%2f", "%ff", "%c3%a9"),
latin(20).map((piece) => piece.replace(/[?#]/g, "_")));
const pair = fc.tuple(fc.oneof(fc.constantFrom("seed", "steps", "n", "skip", "class", "format", "size", "model",
  "skip_current_image"), latin(10)), fc.oneof(fc.constantFrom("1", "0", "null", "auto", "{", "true", "%00", "1e999"),
latin(20))).map((both) => both.join("="));
export const target = fc.tuple(fc.array(segment, { maxLength: 6 }), fc.array(pair, { maxLength: 4 }))
  .map(([path, query]) => "/" + path.join("/") + (query.length ? "?" + query.join("&") : ""));

export const method = fc.oneof({ weight: 6, arbitrary: fc.constantFrom("GET", "HEAD", "POST", "PUT", "DELETE",
  "OPTIONS") }, { weight: 1, arbitrary: fc.stringMatching(/^[A-Za-z!#$%&'*+.^_`|~0-9-]{1,12}$/)
  .filter((name) => name.toUpperCase() !== "CONNECT") });

/* Header fields that mean something, with values that need not. Those that frame the message are not among
 * them: the client library sees to those. */
const field = fc.oneof(fc.constantFrom("Accept", "Accept-Encoding", "Prefer", "Idempotency-Key", "Last-Event-ID",
  "If-None-Match", "If-Match", "Range", "Authorization", "Cookie", "Origin", "Content-Type", "X-Request-Id",
  "X-Forwarded-For", "Forwarded", "traceparent", "tracestate", "Access-Control-Request-Method"),
fc.stringMatching(/^X-[A-Za-z0-9-]{1,20}$/));
const value = fc.oneof(fc.constantFrom("*/*", "image/*;q=0.5, text/event-stream", "respond-async", "wait=10", "1", "-1",
  '"0123"', "W/\"a\", *", "Bearer x", "bytes=0-1", "application/json", "null", "https://a.example", "for=[::1]",
  "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "99999999999999999999"), latin(200));
export const headers = fc.uniqueArray(fc.tuple(field, value), { maxLength: 6, selector: ([name]) => name.toLowerCase() })
  .map((list) => Object.fromEntries(list));

/* The bytes with some of them changed, gone, or there twice. */
export function mangled(originals) {
  const change = fc.tuple(fc.constantFrom("replace", "insert", "remove", "repeat"),
    fc.double({ min: 0, max: 1, noNaN: true }), fc.integer({ min: 1, max: 20 }), fc.uint8Array({ maxLength: 4 }));
  return fc.tuple(fc.constantFrom(...originals), fc.array(change, { minLength: 1, maxLength: 4 }))
    .map(([original, changes]) => changes.reduce((bytes, [kind, share, length, fresh]) => {
      const at = Math.floor(share * bytes.length), end = at + (kind === "insert" || kind === "repeat" ? 0 : length);
      const middle = kind === "remove" ? [] : kind === "repeat" ? bytes.subarray(at, at + length) : fresh;
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(middle), bytes.subarray(end)]);
    }, Buffer.from(original)));
}
