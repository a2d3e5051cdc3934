// The modules that need no browser: schedules, and the stream of events.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ROOT } from './support.mjs';

const load = (file) => import(`data:text/javascript,${encodeURIComponent(readFileSync(path.join(ROOT, 'web', file), 'utf8'))}`);
const { resample, restingOf, skipOf, withBrick } = await load('schedule.js');
const { blobOf, EventParser } = await load('api.js');

test('a schedule comes back as it went', () => {
  let state = 7;
  const random = (below) => { state = (state * 48271) % 2147483647; return state % below; };
  for (let round = 0; round < 2000; round++) {
    const resting = Array.from({ length: 1 + random(256) }, () => random(7));
    assert.deepEqual(restingOf(skipOf(resting), resting.length), resting);
  }
});

test('ranges mean what the service means by them', () => {
  const skip = { schedule: [{ until: 0.4, skip: [0, 2] }, { until: 0.666667, skip: [] }, { until: 0.9, skip: [1] }] };
  assert.deepEqual(restingOf(skip, 12), [5, 5, 5, 5, 5, 0, 0, 0, 2, 2, 2, 0]);
  assert.deepEqual(restingOf('none', 2), [0, 0]);
  assert.equal(restingOf('balanced', 2), null);
  assert.equal(restingOf({ t_break: 0.5 }, 2), null);
});

test('explicit ranges are as few as can be', () => {
  assert.equal(skipOf([0, 0, 0]), 'none');
  assert.deepEqual(skipOf([1, 1, 0, 0]), { schedule: [{ until: 0.5, skip: [0] }, { until: 1, skip: [] }] });
});

test('another number of steps keeps the shape', () => {
  assert.deepEqual(resample([1, 2], 4), [1, 1, 2, 2]);
  assert.deepEqual(resample([1, 1, 2, 2], 2), [1, 2]);
  assert.deepEqual(resample([3], 3), [3, 3, 3]);
});

test('one brick is left to run', () => {
  assert.equal(withBrick(0b011, 2, true, 3), null);
  assert.equal(withBrick(0b001, 2, true, 3), 0b101);
  assert.equal(withBrick(0b101, 2, false, 3), 0b001);
});

test('events are found wherever the stream is cut', () => {
  const stream = ': hello\n\nid: 1\r\nevent: queued\r\ndata: {"a":1}\r\n\r\ndata: x\ndata: y\n\n: ping\n\nevent:last\ndata:z\n\nevent: cut';
  const expected = [{ type: 'queued', data: '{"a":1}' }, { type: 'message', data: 'x\ny' }, { type: 'last', data: 'z' }];
  for (let piece = 1; piece <= stream.length; piece++) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < stream.length; at += piece)
      events.push(...parser.push(stream.slice(at, at + piece)));
    assert.deepEqual(events, expected, `in pieces of ${piece}`);
  }
});

test('base64 becomes bytes', async () => {
  const blob = blobOf('/9j/AA==', 'image/jpeg');
  assert.equal(blob.type, 'image/jpeg');
  assert.deepEqual([...new Uint8Array(await blob.arrayBuffer())], [0xff, 0xd8, 0xff, 0]);
});
