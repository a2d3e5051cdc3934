// The API reference: nothing of the document is missing, everything can be found and linked to.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { openPage, Server, TINY } from './support.mjs';

let server, spec;
before(async () => {
  server = await Server.start('--model', TINY);
  spec = await (await fetch(`${server.url}/openapi.json`)).json();
});

async function open(t, hash = '', options = {}) {
  const page = await openPage(t, `${server.url}/docs${hash}`, options);
  await page.locator('.operation').first().waitFor();
  return page;
}

test('every operation, with parameters, fields and responses', async (t) => {
  const page = await open(t);
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const [method, operation] of Object.entries(item).filter(([, value]) => value.operationId)) {
      const section = page.locator(`#${operation.operationId}`);
      assert.equal(await section.locator('.route').textContent(), method.toUpperCase() + path);
      assert.equal(await section.locator('.response').count(), Object.keys(operation.responses).length, operation.operationId);
      assert.match(await section.locator('pre').first().textContent(), /^curl [^]*http:\/\/127/);
      assert.equal(await page.locator(`#contents a[href="#${operation.operationId}"]`).count(), 1);
    }
  }
  for (const name of Object.keys(spec.components.schemas)) {
    const schema = spec.components.schemas[name];
    const fields = page.locator(`#schema-${name} > .prose > .fields > .field-row`);
    if (schema.properties)
      assert.equal(await fields.count(), Object.keys(schema.properties).length, name);
  }
});

test('the examples are what the document says', async (t) => {
  const page = await open(t);
  const body = spec.paths['/v1/generate'].post.requestBody.content['application/json'].examples.explicit.value;
  const example = await page.locator('#generate pre').nth(1).textContent();
  assert.ok(example.includes(JSON.stringify(body)));
});

test('schemas unfold, however deep', async (t) => {
  const page = await open(t);
  await page.locator('#generate .nested > summary').first().click();
  await page.locator('#generate .nested .nested > summary', { hasText: 'schedule' }).click();
  await page.locator('#generate .nested .nested .nested > summary', { hasText: 'fields of each' }).click();
  await page.locator('#generate .field-name', { hasText: 'until' }).waitFor();
  const required = page.locator('#generate .field-row', { has: page.locator('.field-name', { hasText: /^until$/ }) }).last();
  assert.match(await required.textContent(), /until.*number.*required.*more than 0/);
});

test('a link leads to its operation', async (t) => {
  const page = await open(t, '#deleteJob');
  await page.waitForFunction(() => Math.abs(document.getElementById('deleteJob').getBoundingClientRect().top) < 100);
  await page.click('#contents a[href="#quote"]');
  await page.waitForFunction(() => Math.abs(document.getElementById('quote').getBoundingClientRect().top) < 100);
  assert.match(page.url(), /#quote$/);
});

test('search leaves what matches', async (t) => {
  const page = await open(t);
  const shown = () => page.locator('.operation:visible').evaluateAll((all) => all.map(({ id }) => id));
  const everything = await shown();
  await page.fill('#search', 'webhook');
  const some = await shown();
  assert.ok(some.includes('generate') && some.includes('schema-GenerateRequest') && !some.includes('live'), some.join());
  assert.equal(await page.textContent('#found'), `${some.length} found`);
  assert.equal(await page.locator('#contents li:visible').count(), some.length);
  await page.fill('#search', 'no such words');
  assert.deepEqual(await shown(), []);
  assert.ok(await page.isVisible('#nothing'));
  await page.fill('#search', '');
  assert.deepEqual(await shown(), everything);
});
