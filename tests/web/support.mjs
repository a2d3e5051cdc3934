// What every suite of the pages needs: the real server on a free port, a browser, pages whose every
// error counts.
//
// BRICKWORK_BUILD names the build (default: build); screenshots go to BUILD/web/.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

const require = createRequire(new URL('../node/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const AXE = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILD = path.resolve(ROOT, process.env.BRICKWORK_BUILD ?? 'build');
export const SHOTS = path.join(BUILD, 'web');
export const TINY = path.join(ROOT, 'tests/models/tiny-pg-32.safetensors');
export const POMOLOGY = path.join(ROOT, 'models/pomology-128.safetensors');
export const PATIENCE_MS = 120_000; // only a broken build waits that long

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

const endings = []; // what is to be done after the suite
after(async () => {
  for (const end of endings.reverse())
    await end();
});

/** A running brickworkd, stopped after the suite; its end has to be clean. */
export class Server {
  lines = [];
  #waiting = new Set();

  static async start(...flags) {
    const server = new Server();
    const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('BRICKWORK_')));
    server.process = spawn(path.join(BUILD, 'brickworkd'),
      ['--listen', '127.0.0.1:0', '--queue-ms', '86400000', ...flags],
      { env: clean, stdio: ['ignore', 'ignore', 'pipe'] });
    server.ended = new Promise((resolve) => { server.process.on('exit', (...end) => resolve(end)); });
    createInterface({ input: server.process.stderr }).on('line', (line) => server.#read(line));
    endings.push(() => server.stop());
    server.url = `http://${(await server.log(/event=listening .*address=(\S+)/))[1]}`;
    return server;
  }

  #read(line) {
    this.lines.push(line);
    this.#waiting.forEach((look) => look(line));
  }

  /** The first line of the log that matches, whenever it comes. */
  log(pattern) {
    return new Promise((resolve, reject) => {
      const look = (line) => {
        const match = pattern.exec(line);
        if (match) {
          clearTimeout(timer);
          this.#waiting.delete(look);
          resolve(match);
        }
      };
      const timer = setTimeout(() => reject(new Error(`no log line ${pattern} in:\n${this.lines.join('\n')}`)), PATIENCE_MS);
      this.#waiting.add(look);
      this.lines.forEach(look);
    });
  }

  async stop() {
    this.process.kill('SIGTERM');
    const [status, signal] = await this.ended;
    assert.equal(status, 0, `it ended with ${status ?? signal}:\n${this.lines.slice(-20).join('\n')}`);
  }
}

let browser;
/** A page of its own browser context. `refusals`: statuses that this test provokes; every other error
 *  on the console, and every exception, fails the test. */
export async function openPage(t, url, { refusals = [], width = 1280, height = 900, theme = 'light', ...more } = {}) {
  if (!browser) {
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
    endings.push(() => browser.close());
  }
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, acceptDownloads: true,
    reducedMotion: 'reduce', permissions: ['clipboard-read', 'clipboard-write'], ...more });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.stack));
  page.on('console', (message) => {
    const expected = refusals.some((status) => message.text().includes(`status of ${status} `));
    if (['error', 'warning'].includes(message.type()) && !expected)
      errors.push(message.text());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(errors, []);
  });
  await page.goto(url);
  return page;
}

/** Opens the playground and waits until it knows models and limits and shows a first estimate. */
export async function openPlayground(t, server, hash = '', options = {}) {
  const page = await openPage(t, `${server.url}/${hash}`, options);
  await page.locator('#grid [role=gridcell]').first().waitFor();
  await estimate(page, /About|Not now|Please/);
  return page;
}

/** Waits until the estimate says something that matches. */
export const estimate = (page, pattern) =>
  page.locator('#estimate-text').filter({ hasText: pattern }).waitFor();

export const set = (page, group, value) => page.check(`input[name=${group}][value="${value}"]`);

export const cell = (page, brick, step) =>
  page.locator(`[role=gridcell][data-brick="${brick}"][data-step="${step}"]`);

/** The grid as text, a line for each brick, '#' where it runs. */
export const gridText = (page) => page.locator('#grid [role=row]').evaluateAll((rows) => rows.map((row) =>
  [...row.querySelectorAll('[role=gridcell]')].map((one) => (one.ariaSelected === 'true' ? '#' : '.')).join('')));

/** Make what is set and wait for the end. */
export async function make(page) {
  await page.click('#make');
  await page.locator('#result').waitFor();
}

/** The bytes that the download button gives. */
export async function download(page) {
  const [file] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
  return readFileSync(await file.path());
}

/** No serious violation of what axe-core knows, nothing sticks out at the side, and no icon is crushed. */
export async function assertAccessible(page, where) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(wide <= 0, `${where}: ${wide} pixels too wide`);
  const icons = await page.locator('.icon-button:visible').evaluateAll((all) => all.map((one) => one.getBoundingClientRect()));
  icons.forEach(({ width: across, height }) => assert.equal(across, height, `${where}: an icon is crushed`));
  await page.evaluate(AXE);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  assert.ok(passes.length > 10, `${where}: axe looked at nothing`);
  const serious = violations.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`), [], where);
}

export async function screenshot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SHOTS, `${name}.png`), fullPage: true });
}
