// The playground, driven as a visitor would, over a small model.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { before, test } from 'node:test';
import { cell, download, estimate, gridText, make, openPage, openPlayground, Server, set, TINY } from './support.mjs';

/** Wait until so many pictures are stored, which a reload would not wait for. */
const stored = (page, count) => page.waitForFunction((wanted) => new Promise((resolve) => {
  const opening = indexedDB.open('brickwork', 1);
  opening.onsuccess = () => {
    const counting = opening.result.transaction('pictures').objectStore('pictures').count();
    counting.onsuccess = () => {
      opening.result.close();
      resolve(counting.result === wanted);
    };
  };
}), count);

// Outlasts every test.
const ENDLESS = '#steps=256&size=96x96&n=8&solver=heun&seed=1&class=class+1';

let server;
before(async () => { server = await Server.start('--model', TINY); });

test('makes a picture, with previews on the way', async (t) => {
  const page = await openPlayground(t, server, '#class=class+3&steps=24&size=96x96');
  await page.evaluate(() => {
    globalThis.states = [];
    globalThis.shares = [];
    new MutationObserver((changes) => {
      for (const { target, attributeName } of changes) {
        if (attributeName === 'src')
          globalThis.states.push(target.closest('figure').dataset.state ?? 'first');
        if (attributeName === 'aria-valuenow')
          globalThis.shares.push(Number(target.getAttribute('aria-valuenow')));
      }
    }).observe(document.getElementById('plates'), { subtree: true, attributeFilter: ['src', 'aria-valuenow'] });
  });
  await make(page);
  const { states, shares, width } = await page.evaluate(() => ({ states: globalThis.states, shares: globalThis.shares,
    width: document.querySelector('#plates img').naturalWidth }));
  assert.equal(states.length, 5, 'four previews and the picture');
  assert.equal(shares.length, 24);
  assert.deepEqual(shares, [...shares].sort((a, b) => a - b));
  assert.equal(shares.at(-1), 100);
  assert.equal(width, 96);
  assert.match(await page.textContent('#caption'), /class 3.*96 × 96 px.*24 steps.*seed \d+/);
  assert.match(await page.textContent('#timings'), /predicted.*took.*waited.*computed.*encoded/);
  assert.match(await page.textContent('#announcer'), /^Done in /);
  assert.equal(await page.locator('[role=progressbar]').count(), 0);
  assert.equal(await page.locator('#gallery li').count(), 1);
});

test('several pictures, one of them chosen', async (t) => {
  const page = await openPlayground(t, server, '#n=3&seed=5&steps=4&class=class+1&skip={"t_break":0.5}');
  await make(page);
  assert.equal(await page.locator('#plates img').count(), 3);
  assert.equal(await page.locator('#gallery li').count(), 3);
  await page.click('#plates button >> nth=2');
  assert.match(await page.textContent('#caption'), /seed 5, picture 2/);
  assert.match(await page.textContent('#schedule-note'), /as it ran \(picture 3\)/);
  const third = await download(page);
  await page.click('#reproduce');
  assert.equal(await page.inputValue('#index'), '2');
  assert.equal(await page.inputValue('#n'), '1');
  await estimate(page, /About/);
  await make(page);
  assert.deepEqual(await download(page), third);
});

test('the grid by mouse: a click, a stroke, and no step without bricks', async (t) => {
  const page = await openPlayground(t, server, '#steps=10');
  await cell(page, 0, 3).click();
  assert.deepEqual(await gridText(page), ['###.######', '##########', '##########']);
  assert.ok(await page.isChecked('input[name=mode][value=custom]'));
  await cell(page, 1, 5).hover();
  await page.mouse.down();
  await cell(page, 1, 8).hover();
  await page.mouse.up();
  const painted = await gridText(page);
  assert.equal(painted[1][5], '.');
  assert.equal(painted[1][8], '.');
  await cell(page, 1, 3).click();
  const [request] = await Promise.all([
    page.waitForRequest((one) => one.url().endsWith('/v1/quote') && JSON.parse(one.postData()).skip?.schedule?.at(-1).skip.includes(0)),
    cell(page, 0, 9).click()]);
  const { skip } = request.postDataJSON();
  assert.equal(skip.schedule.at(-1).until, 1);
  assert.deepEqual(skip.schedule.at(-1).skip, [0]);
  await cell(page, 2, 3).click();
  assert.match(await page.textContent('#grid-message'), /One brick has to run at step 4/);
  assert.equal((await gridText(page))[2], '##########');
});

test('the grid by keyboard', async (t) => {
  const page = await openPlayground(t, server, '#steps=6');
  await page.locator('#grid [tabindex="0"]').focus();
  for (const key of ['ArrowRight', 'ArrowRight', 'ArrowDown', 'Space', 'End', 'ArrowDown', 'Enter', 'ArrowDown', 'Home', 'Space', 'ArrowLeft', 'Space', 'Space'])
    await page.keyboard.press(key);
  assert.deepEqual(await gridText(page), ['######', '##.###', '.####.']);
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Step 1, brick 2 rests');
  assert.equal(await page.locator('#grid [tabindex="0"]').count(), 1);
});

test('by keyboard alone, from the top of the page', async (t) => {
  const page = await openPlayground(t, server, '#steps=2');
  const reach = async (selector) => {
    for (let i = 0; i < 80; i++) {
      await page.keyboard.press('Tab');
      if (await page.evaluate((wanted) => document.activeElement.matches(wanted), selector))
        return;
    }
    assert.fail(`${selector} cannot be reached`);
  };
  await reach('.skip-link');
  await page.keyboard.press('Enter');
  await reach('input[name=class]');
  await page.keyboard.press('ArrowDown');
  await reach('#seed');
  await page.keyboard.type('77');
  await reach('#make');
  await page.keyboard.press('Enter');
  await page.locator('#result').waitFor();
  assert.match(await page.textContent('#caption'), /seed 77/);
  assert.ok(await page.evaluate(() => document.activeElement.id === 'make'), 'the focus stays');
  await reach('input[name=mode]');
  await reach('#grid [role=gridcell]');
  await reach('#gallery button');
});

test('presets, t_break and auto are drawn as the service would run them', async (t) => {
  const page = await openPlayground(t, server, '#steps=8');
  await set(page, 'mode', 't_break');
  await page.fill('#t-break', '0.5');
  await page.locator('[data-brick="2"][aria-selected=false]').nth(3).waitFor();
  assert.deepEqual(await gridText(page), ['########', '########', '####....']);
  await set(page, 'mode', 'auto');
  await page.getByText('planned; may change as it runs').waitFor();
  await set(page, 'mode', 'none');
  assert.deepEqual(await gridText(page), ['########', '########', '########']);
});

test('your own schedule keeps its shape when the steps change', async (t) => {
  const page = await openPlayground(t, server, '#steps=4&skip={"schedule":[{"until":0.5,"skip":[1]}]}');
  assert.deepEqual(await gridText(page), ['####', '..##', '####']);
  await page.fill('#steps', '8');
  await page.locator('[data-step="7"]').first().waitFor();
  assert.deepEqual(await gridText(page), ['########', '....####', '########']);
});

test('a picture from the gallery brings back what made it, to the byte', async (t) => {
  const page = await openPlayground(t, server, '#class=class+2&steps=6&format=png');
  await cell(page, 2, 1).click();
  await cell(page, 0, 4).click();
  const schedule = await gridText(page);
  await estimate(page, /About/);
  await make(page);
  const first = await download(page);
  const seed = /seed (\d+)/.exec(await page.textContent('#caption'))[1];
  await set(page, 'class', 'class 7');
  await set(page, 'mode', 'none');
  await page.fill('#steps', '3');
  await make(page);
  assert.notDeepEqual(await download(page), first);

  await stored(page, 2);
  await page.reload();
  await page.locator('#gallery li').nth(1).waitFor();
  await page.click('#gallery li:nth-child(2) button');
  assert.equal(await page.inputValue('#seed'), seed);
  assert.equal(await page.inputValue('#steps'), '6');
  assert.ok(await page.isChecked('input[name=class][value="class 2"]'));
  assert.deepEqual(await gridText(page), schedule);
  await make(page);
  assert.deepEqual(await download(page), first);
});

test('a picture finished before the gallery is open is kept, too', async (t) => {
  const page = await openPage(t, 'about:blank');
  await page.addInitScript(() => { // the database opens when it is told to
    const { open } = IDBFactory.prototype;
    globalThis.letOpen = new Promise((resolve) => { globalThis.openNow = resolve; });
    IDBFactory.prototype.open = function late(...names) {
      const real = open.apply(this, names);
      const request = { get result() { return real.result; }, get error() { return real.error; } };
      real.onupgradeneeded = () => request.onupgradeneeded();
      real.onsuccess = () => globalThis.letOpen.then(() => request.onsuccess());
      return request;
    };
  });
  await page.goto(`${server.url}/#class=class+4&seed=8&steps=4`);
  await estimate(page, /About/);
  await make(page);
  await page.evaluate(() => globalThis.openNow());
  await stored(page, 1);
});

test('the link carries the request', async (t) => {
  const page = await openPlayground(t, server, '#class=class+4&seed=9&steps=5&guidance=3&skip={"t_break":0.4}');
  await make(page);
  const first = await download(page);
  await Promise.all([page.getByRole('button', { name: 'Copied' }).waitFor(), page.click('#copy-link')]);
  const link = await page.evaluate(() => navigator.clipboard.readText());
  const other = await openPage(t, link);
  await other.locator('#grid [role=gridcell]').first().waitFor();
  await make(other);
  assert.deepEqual(await download(other), first);
});

test('the curl command makes the same bytes', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'brickwork-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const page = await openPlayground(t, server, '#class=class+4&seed=9&steps=3&format=webp&quality=70&skip=fast');
  await make(page);
  await Promise.all([page.getByRole('button', { name: 'Copied' }).waitFor(), page.click('#copy-curl')]);
  const command = await page.evaluate(() => navigator.clipboard.readText());
  execFileSync('sh', ['-c', command], { cwd: folder, stdio: 'ignore' });
  assert.deepEqual(readFileSync(path.join(folder, 'class-4-9.webp')), await download(page));
});

test('cancel stops the service', async (t) => {
  const page = await openPlayground(t, server, ENDLESS);
  const stopped = server.log(/event=request .*path=\/v1\/generate .*status=499/);
  await page.click('#make');
  await page.locator('#run-status', { hasText: 'Step' }).waitFor();
  await page.click('#cancel');
  await page.getByRole('alert').filter({ hasText: 'Cancelled' }).waitFor();
  await stopped;
  assert.ok(await page.isHidden('#run-bar'));
  await page.evaluate(() => { location.hash = '#steps=2&seed=3&class=class+1'; });
  await estimate(page, /About/);
  await make(page);
});

test('the schedule fills as it runs', async (t) => {
  const page = await openPlayground(t, server, ENDLESS);
  await page.click('#make');
  await page.locator('#grid .cell.now').first().waitFor();
  assert.equal(await page.textContent('#schedule-note'), 'running (picture 1)');
  assert.ok(await page.locator('#grid .cell.ahead').count() > 0);
  await page.click('#cancel');
  await page.getByText('planned', { exact: true }).waitFor();
  assert.equal(await page.locator('#grid .cell.ahead').count(), 0);
});

test('a deadline that cannot be kept, and the offer', async (t) => {
  const page = await openPlayground(t, server, '#steps=200&size=96x96&n=8&seed=1', { refusals: [503] });
  await page.fill('#deadline', '1');
  await estimate(page, /Not now: .*could be promised/);
  await page.click('#make');
  await page.locator('[data-pointer="/deadline_ms"] .error').waitFor();
  assert.equal(await page.getAttribute('#deadline', 'aria-invalid'), 'true');
  await page.getByRole('button', { name: /^Allow / }).click();
  assert.ok(Number(await page.inputValue('#deadline')) > 1);
  await estimate(page, /^About/);
  assert.equal(await page.getAttribute('#deadline', 'aria-invalid'), null);
});

test('a deadline that can', async (t) => {
  const page = await openPlayground(t, server, '#steps=4&seed=1&skip=auto&class=class+1');
  await page.fill('#deadline', '60000');
  await estimate(page, /About/);
  await make(page);
  assert.match(await page.textContent('#schedule-note'), /as it ran/);
});

test('what is wrong is said at its field', async (t) => {
  const page = await openPlayground(t, server, '', { refusals: [422] });
  await page.fill('#steps', '999');
  const error = page.locator('[data-pointer="/steps"] .error');
  await error.waitFor();
  assert.equal(await page.getAttribute('#steps', 'aria-describedby'), await error.getAttribute('id'));
  await page.fill('#steps', '5');
  await estimate(page, /About/);
  assert.equal(await page.locator('.error').count(), 0);
  await set(page, 'size', 'custom');
  await page.fill('#width', '33');
  await page.locator('[data-pointer="/size"] .error').waitFor();
  await page.fill('#width', '48');
  await page.fill('#height', '64');
  await estimate(page, /About/);
  await page.evaluate(() => { location.hash = '#quality=0'; });
  await page.locator('[data-pointer="/quality"] .error').waitFor();
  assert.ok(await page.isVisible('#quality'), 'the part of the form that holds it has opened');
});

test('an API key is asked for when one is wanted, and kept for the tab', async (t) => {
  const page = await openPage(t, 'about:blank', { refusals: [401] });
  const keys = [];
  await page.route('**/v1/**', async (route) => {
    const key = route.request().headers().authorization;
    keys.push(key);
    if (key === 'Bearer open sesame')
      return route.continue();
    return route.fulfill({ status: 401, contentType: 'application/problem+json',
      body: JSON.stringify({ type: 'urn:brickwork:problem:unauthorized', title: 'A key', status: 401, detail: 'a key is wanted', instance: 'x' }) });
  });
  await page.goto(server.url);
  await page.locator('#key-dialog[open]').waitFor();
  await page.fill('#key', 'wrong');
  await page.keyboard.press('Enter');
  await page.locator('#key-dialog[open]').waitFor();
  await page.fill('#key', 'open sesame');
  await page.keyboard.press('Enter');
  await estimate(page, /About/);
  assert.ok(keys.includes('Bearer wrong'));
  await page.reload();
  await estimate(page, /About/);
  assert.ok(await page.isHidden('#key-dialog'));
  assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes('sesame')), false);
});

test('settings and theme are still there after a reload', async (t) => {
  const page = await openPlayground(t, server);
  await page.fill('#steps', '7');
  await set(page, 'class', 'class 5');
  await page.click('#theme-toggle');
  await page.reload();
  await estimate(page, /About/);
  assert.equal(await page.inputValue('#steps'), '7');
  assert.ok(await page.isChecked('input[name=class][value="class 5"]'));
  assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
  assert.equal(await page.getAttribute('#theme-toggle', 'aria-pressed'), 'true');
});
