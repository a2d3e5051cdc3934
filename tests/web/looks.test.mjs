// Both pages at the widths and in the themes that people use: nothing sticks out, axe-core finds
// nothing serious, and screenshots to look at.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { assertAccessible, estimate, make, openPage, openPlayground, POMOLOGY, screenshot, Server, set } from './support.mjs';

const SIZES = { desktop: [1280, 900], phone: [390, 844], small: [320, 640] };

let server;
before(async () => { server = await Server.start('--model', POMOLOGY); });

for (const [name, [width, height]] of Object.entries(SIZES)) {
  for (const theme of ['light', 'dark']) {
    const options = { width, height, theme };
    const title = `${name}-${theme}`;

    test(`playground, ${name}, ${theme}`, async (t) => {
      const page = await openPlayground(t, server, '#class=pears&seed=7&steps=8', { ...options, refusals: [422] });
      await screenshot(page, `playground-begin-${title}`);
      await assertAccessible(page, 'begin');
      await set(page, 'mode', 'balanced');
      await estimate(page, /gives up/);
      await make(page);
      await page.locator('#gallery img').first().evaluate((image) => image.decode());
      await screenshot(page, `playground-done-${title}`);
      await assertAccessible(page, 'done');
      await page.fill('#steps', '999');
      await page.fill('#n', '9');
      await set(page, 'size', 'custom');
      await page.locator('.error').first().waitFor();
      await page.locator('#more summary').click();
      await screenshot(page, `playground-wrong-${title}`);
      await assertAccessible(page, 'wrong');
    });

    test(`reference, ${name}, ${theme}`, async (t) => {
      const page = await openPage(t, `${server.url}/docs#generate`, options);
      await page.locator('#generate .nested > summary').first().click();
      await page.locator('#generate details.response > summary').first().click();
      await page.evaluate(() => scrollTo(0, 0));
      await screenshot(page, `reference-${title}`);
      await assertAccessible(page, 'reference');
    });
  }
}

test('four pictures in the making', async (t) => {
  const page = await openPlayground(t, server, '#class=apples&seed=4&steps=12&n=4');
  await page.click('#make');
  await page.locator('#plates img:not([hidden])').nth(3).waitFor();
  await screenshot(page, 'playground-running-desktop-light');
  await assertAccessible(page, 'running');
  await page.locator('#result').waitFor();
  assert.equal(await page.locator('#plates [aria-pressed=true]').count(), 1);
  await screenshot(page, 'playground-four-desktop-light');
  await assertAccessible(page, 'four');
});

test('the question for a key', async (t) => {
  const page = await openPage(t, 'about:blank', { width: 320, height: 640, refusals: [401] });
  await page.route('**/v1/**', (route) => route.fulfill({ status: 401, body: '{}' }));
  await page.goto(server.url);
  await page.locator('#key-dialog[open]').waitFor();
  await assertAccessible(page, 'key');
  await page.click('#key-cancel');
  await page.getByRole('alert').filter({ hasText: /\w/ }).waitFor();
});
