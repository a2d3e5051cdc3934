// The service, as seen from the page: requests with a key if one is wanted, problems as errors, and
// streams of events.

const KEY = 'brickwork-key';

/** A refusal: what the service answered (RFC 9457), or that there was no answer. */
export class Problem extends Error {
  constructor(body) {
    super(body.detail ?? body.title ?? 'The service refused.');
    this.body = body;
    this.status = body.status ?? 0;
    this.errors = body.errors ?? [];
    this.offer = body.offer;
  }
}

async function problemOf(response) {
  try {
    return new Problem(await response.json());
  } catch {
    return new Problem({ status: response.status, detail: `The service answered ${response.status}.` });
  }
}

let askForKey = async () => null;
/** `fn` asks the visitor for an API key; it resolves to null if there is none. */
export function onKeyWanted(fn) {
  let asking = null; // several requests may meet a 401 at once: one question will do
  askForKey = () => {
    asking ??= fn().finally(() => { asking = null; });
    return asking;
  };
}

async function request(path, options = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers };
    if (key)
      headers.Authorization = `Bearer ${key}`;
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === 'AbortError')
        throw error;
      throw new Problem({ detail: 'The service cannot be reached.' });
    }
    if (response.ok)
      return response;
    if (response.status !== 401)
      throw await problemOf(response);
    const better = sessionStorage.getItem(KEY) !== key ? sessionStorage.getItem(KEY) : await askForKey();
    if (!better)
      throw await problemOf(response);
    sessionStorage.setItem(KEY, better);
  }
}

export const getJson = async (path) => (await request(path)).json();

function post(path, body, accept, signal) {
  const headers = { 'Content-Type': 'application/json', Accept: accept };
  return request(path, { method: 'POST', headers, body: JSON.stringify(body), signal });
}

export const quote = async (body, signal) =>
  (await post('/v1/quote', body, 'application/json', signal)).json();

/** Splits a stream of text into events; comments and fields that mean nothing here are dropped. */
export class EventParser {
  #rest = '';

  /** The events that `text` completes. */
  push(text) {
    const blocks = (this.#rest + text.replaceAll('\r', '')).split('\n\n');
    this.#rest = blocks.pop();
    return blocks.map(EventParser.#parse).filter((event) => event.data !== '');
  }

  static #parse(block) {
    const event = { type: 'message', data: '' };
    const data = [];
    for (const line of block.split('\n')) {
      const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
      if (name === 'event')
        event.type = value;
      else if (name === 'data')
        data.push(value);
    }
    event.data = data.join('\n');
    return event;
  }
}

/** Make pictures: `on(type, data)` for every event before the end; resolves to the Generation.
 *  Aborting the signal closes the connection, which makes the service stop. */
export async function generate(body, signal, on) {
  const response = await post('/v1/generate', body, 'text/event-stream', signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new EventParser();
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error.name === 'AbortError' ? error : new Problem({ detail: 'The connection was lost.' });
    });
    if (done)
      throw new Problem({ detail: 'The connection ended before the picture was done.' });
    for (const { type, data } of parser.push(value)) {
      const content = JSON.parse(data);
      if (type === 'completed')
        return content;
      if (type === 'error')
        throw new Problem(content);
      on(type, content);
    }
  }
}

export function blobOf(b64, type) {
  return new Blob([Uint8Array.from(atob(b64), (c) => c.charCodeAt(0))], { type });
}
