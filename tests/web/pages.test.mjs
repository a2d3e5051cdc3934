// The files behind the pages, as HTTP: types, policies, entity tags; and nothing from elsewhere.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { ROOT, Server, TINY } from './support.mjs';

const TYPES = { html: 'text/html; charset=utf-8', css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml' };
const files = readdirSync(path.join(ROOT, 'web'));
const pathOf = (file) => ({ 'index.html': '/', 'docs.html': '/docs' })[file] ?? `/assets/${file}`;
const contentOf = (file) => readFileSync(path.join(ROOT, 'web', file));

let server;
before(async () => { server = await Server.start('--model', TINY); });

for (const file of files) {
  test(`${file} is served as it is`, async () => {
    const response = await fetch(server.url + pathOf(file));
    const body = Buffer.from(await response.arrayBuffer());
    assert.equal(response.status, 200);
    assert.deepEqual(body, contentOf(file));
    assert.equal(response.headers.get('content-type'), TYPES[file.split('.').pop()]);
    assert.equal(response.headers.get('cache-control'), 'no-cache');
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
    assert.equal(response.headers.get('referrer-policy'), 'no-referrer');
    assert.match(response.headers.get('content-security-policy'), /^default-src 'self'; img-src 'self' blob: data:/);
    const digest = createHash('sha256').update(body).digest('hex');
    assert.equal(response.headers.get('etag'), `"${digest.slice(0, 32)}"`);
  });

  test(`${file} is not sent to who has it`, async () => {
    const url = server.url + pathOf(file);
    const etag = (await fetch(url, { method: 'HEAD' })).headers.get('etag');
    const held = await fetch(url, { headers: { 'If-None-Match': `"other", W/${etag}` } });
    assert.equal(held.status, 304);
    assert.equal(held.headers.get('etag'), etag);
    assert.equal((await held.arrayBuffer()).byteLength, 0);
    const stale = await fetch(url, { headers: { 'If-None-Match': '"other"' } });
    assert.equal(stale.status, 200);
  });
}

test('what is not a file is refused', async () => {
  for (const name of ['/assets/nothing.js', '/assets/index.html', '/assets/../openapi.yaml', '/assets/', '/docs/']) {
    const response = await fetch(server.url + name);
    assert.equal(response.status, 404, name);
    assert.equal((await response.json()).type, 'urn:brickwork:problem:not-found');
  }
  assert.equal((await fetch(`${server.url}/docs`, { method: 'POST' })).status, 405);
});

test('nothing inline, nothing from elsewhere', () => {
  for (const file of files) {
    const text = contentOf(file).toString();
    assert.ok(!/(?:src|href|import|url\()\s*[=( ]?\s*["']?(?:https?:)?\/\//.test(text), `${file} loads from elsewhere`);
    if (file.endsWith('.html')) {
      assert.ok(!/<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)/.test(text), `${file} has something inline`);
      for (const [, name] of text.matchAll(/(?:src|href)="\/assets\/([^"]+)"/g))
        assert.ok(files.includes(name), `${file} wants ${name}`);
    }
  }
});
