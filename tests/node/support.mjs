/* What every suite needs: servers on free ports, questions whose answers are recorded, and a proxy that
 * records what others ask. tests/http/support.py is the same for Python. */
import { spawn } from "node:child_process";
import { openSync, writeSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url));
export const BUILD = path.resolve(ROOT, process.env.BRICKWORK_BUILD ?? "build");
export const TINY = path.join(ROOT, "tests/models/tiny-pg-32.safetensors");
export const POMOLOGY = path.join(ROOT, "models/pomology-128.safetensors");

const PATIENCE_MS = 120_000; // for a server to start or stop; only a broken one takes so long
const HUNG_MS = 30_000; // no question that a suite asks here takes a fraction of it
const LOG_SHOWN = 10_000; // characters, the last ones, if a server ends badly
const SANITIZER_REPORT = /ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:/;

/* The environment of a program under test: ours without any setting of Brickwork. */
function environment(extra) {
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith("BRICKWORK_"));
  return { ...Object.fromEntries(clean), ASAN_OPTIONS: "detect_leaks=1", ...extra };
}

/* What the promise gives, or an error that names what was waited for. */
function within(ms, promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain: ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/* A running brickworkd: `base` is its address, `log` what it has said. */
export class Server {
  static async start({ flags = [], model = TINY, env = {} } = {}) {
    const server = new Server();
    server.log = "";
    server.process = spawn(path.join(BUILD, "brickworkd"),
      ["--listen", "127.0.0.1:0", "--queue-ms", "86400000", "--model", model, ...flags.map(String)],
      { env: environment(env), stdio: ["ignore", "ignore", "pipe"] });
    server.ended = new Promise((resolve) => server.process.on("close", (...how) => resolve(how)));
    const address = new Promise((resolve, reject) => {
      server.process.stderr.setEncoding("utf8").on("data", (text) => {
        server.log += text;
        if (server.base) return;
        const found = /event"?[=:]"?listening.*?address"?[=:]"?([0-9.]+:\d+)/.exec(server.log);
        if (found) resolve(found[1]);
      });
      server.ended.then((how) => reject(new Error(`ended with ${how}:\n${server.log}`)));
    });
    server.base = `http://${await within(PATIENCE_MS, address, "a server that listens")}`;
    server.agent = new http.Agent({ keepAlive: true });
    return server;
  }

  /* Stop it, and insist that it ends as it should. */
  async stop() {
    this.agent.destroy();
    this.process.kill("SIGTERM");
    const [status, signal] = await within(PATIENCE_MS, this.ended, "the end of a server");
    if (status !== 0 || SANITIZER_REPORT.test(this.log)) {
      throw new Error(`the server ended with ${signal ?? status}:\n${this.log.slice(-LOG_SHOWN)}`);
    }
  }
}

const out = process.env.BRICKWORK_RECORD ? openSync(process.env.BRICKWORK_RECORD, "a") : undefined;
const suite = path.basename(process.argv[1] ?? "node", ".mjs");
const HEAD_BYTES = 12; // so much of a picture is recorded: enough to tell its format

/* Note an exchange for contract.mjs, as tests/http/contract.py does. */
export function record({ test, method, target, sent, reply, aborted = false }) {
  if (out === undefined) return;
  const { status, headers, body } = reply;
  const picture = /^image\/(?!svg)/.test(headers["content-type"] ?? "");
  writeSync(out, JSON.stringify({
    suite, test, method, path: target, status, aborted, bytes: body.length, headers,
    ...(picture ? { head: body.subarray(0, HEAD_BYTES).toString("base64") } : { text: body.toString() }),
    ...(sent?.length && sent.length < 10_000 ? { sent: sent.toString() } : {}),
  }) + "\n");
}

/* An answer as a promise of {status, headers, body, type, json()}. */
export function ask(server, method, target, { body, headers, test } = {}) {
  const isJson = body !== undefined && !Buffer.isBuffer(body);
  const sent = isJson ? Buffer.from(JSON.stringify(body)) : body;
  const fields = {
    ...(sent ? { "Content-Type": "application/json", "Content-Length": sent.length } : {}), ...headers,
  };
  const answer = new Promise((resolve, reject) => {
    const request = http.request(server.base + target,
      { method, headers: fields, agent: server.agent, path: target });
    request.on("error", reject);
    request.on("response", (response) => {
      const pieces = [];
      response.on("data", (piece) => pieces.push(piece));
      response.on("error", reject);
      response.on("end", () => resolve({
        status: response.statusCode, headers: response.headers, body: Buffer.concat(pieces),
        type: (response.headers["content-type"] ?? "").split(";")[0],
        json() { return JSON.parse(this.body); },
      }));
    });
    request.end(sent);
  });
  return within(HUNG_MS, answer, `the answer to ${method} ${target}`).then((reply) => {
    record({ test, method, target, sent, reply });
    return reply;
  });
}

/* A server in front of the server that hands everything through as it comes and records it, for
 * clients that are not ours. */
export class Proxy {
  static async start(server, test) {
    const proxy = new Proxy();
    proxy.front = http.createServer((request, response) => proxy.#pass(server, test, request, response));
    await new Promise((resolve) => proxy.front.listen(0, "127.0.0.1", resolve));
    proxy.base = `http://127.0.0.1:${proxy.front.address().port}`;
    return proxy;
  }

  stop() {
    this.front.closeAllConnections();
    return new Promise((resolve) => this.front.close(resolve));
  }

  #pass(server, test, request, response) {
    const sent = [], pieces = [];
    const { method, url: target, headers } = request;
    const back = http.request(server.base + target, { method, headers, path: target, agent: false });
    const note = (reply, aborted) => record({ test, method, target, sent: Buffer.concat(sent), aborted,
      reply: { status: reply.statusCode, headers: reply.headers, body: Buffer.concat(pieces) } });
    request.on("data", (piece) => sent.push(piece));
    request.pipe(back);
    response.on("close", () => back.destroy());
    back.on("error", () => response.destroy());
    back.on("response", (reply) => {
      response.writeHead(reply.statusCode, reply.rawHeaders);
      response.flushHeaders();
      reply.on("data", (piece) => { pieces.push(piece); response.write(piece); });
      reply.on("end", () => { note(reply, false); response.end(); });
      reply.on("error", () => { note(reply, true); response.destroy(); });
    });
  }
}
