// The middle of the page: the pictures while they come into being, and what is known of them after.

import { $, duration, el, percent } from './dom.js';

const sizeOf = (request) => request.size.split('x').map(Number);
const spoken = (request) => request.class ?? 'No subject';

export class Stage {
  #plates = []; // { figure, frame, image, bar }
  #selected = 0;
  #onSelect;

  /** `onSelect(i)` when one of several pictures is chosen. */
  constructor(onSelect) {
    this.#onSelect = onSelect;
  }

  get selected() {
    return this.#selected;
  }

  /** Empty plates for the pictures of a request with a known size and n. */
  begin(request) {
    this.#release();
    const [width, height] = sizeOf(request);
    this.#plates = Array.from({ length: request.n }, (_, i) => this.#plate(i, request.n, width, height));
    $('plates').dataset.count = request.n;
    $('plates').replaceChildren(...this.#plates.map((plate) => plate.figure));
    this.#mark(0);
    $('result').hidden = $('alert').hidden = true;
    $('run-bar').hidden = false;
    $('run-status').textContent = 'Asking';
  }

  #plate(i, count, width, height) {
    const image = el('img', { alt: '', hidden: true, draggable: false });
    const frame = el(count > 1 ? 'button' : 'div', { className: 'frame' }, image);
    if (count > 1) {
      frame.type = 'button';
      frame.setAttribute('aria-label', `Picture ${i + 1}`);
      frame.addEventListener('click', () => { this.#mark(i); this.#onSelect(i); });
    }
    frame.style.aspectRatio = `${width} / ${height}`;
    const bar = el('div', { className: 'bar', role: 'progressbar', 'aria-label': `Picture ${i + 1}`,
      'aria-valuemin': '0', 'aria-valuemax': '100', 'aria-valuenow': '0' }, el('i'));
    const figure = el('figure', { className: 'plate', dataset: { shape: width > height ? 'wide' : 'tall' } }, frame, bar);
    figure.style.setProperty('--ratio', String(width / height));
    return { figure, frame, image, bar };
  }

  #mark(i) {
    this.#selected = i;
    for (const [k, { frame }] of this.#plates.entries()) {
      if (frame.type === 'button')
        frame.setAttribute('aria-pressed', String(k === i));
    }
  }

  progress(picture, share) {
    const { bar } = this.#plates[picture];
    bar.setAttribute('aria-valuenow', String(Math.round(share * 100)));
    bar.firstChild.style.transform = `scaleX(${share})`;
  }

  status(text) {
    $('run-status').textContent = text;
  }

  /** A preview, or the picture itself. */
  picture(i, blob, alt, preview) {
    const { image, figure } = this.#plates[i];
    const old = image.src;
    image.src = URL.createObjectURL(blob);
    image.alt = alt;
    image.hidden = false;
    figure.dataset.state = preview ? 'preview' : 'done';
    if (old)
      URL.revokeObjectURL(old);
  }

  #release() {
    for (const { image } of this.#plates) {
      if (image.src)
        URL.revokeObjectURL(image.src);
    }
    this.#plates = [];
  }

  /** The run is over; what is on the plates stays. */
  end() {
    $('run-bar').hidden = true;
    for (const { bar } of this.#plates)
      bar.remove();
  }

  /** Finished pictures on the plates that begin() made; records as the gallery keeps them. */
  show(records) {
    records.forEach((record, i) => this.picture(i, record.blob, spoken(record.request), false));
    this.end();
    this.describe(records[this.#selected]);
  }

  /** Caption and timings of one picture. */
  describe(record) {
    const { request, timings, cost, excess_loss: excess } = record;
    const caption = $('caption');
    caption.replaceChildren(
      el('em', {}, spoken(request)),
      el('span', {}, `${request.size.replace('x', ' × ')} px`),
      el('span', {}, `${request.steps} steps`),
      el('span', {}, `seed ${request.seed}${request.index ? `, picture ${request.index}` : ''}`),
      el('span', {}, excess > 0 ? `gives up ${percent(excess)}` : 'full quality'));
    $('timings').replaceChildren(...this.#timings(timings, cost));
    $('result').hidden = false;
  }

  #timings(t, cost) {
    const longest = Math.max(t.predicted_ms, t.total_ms, 1);
    const rest = Math.max(0, t.total_ms - t.queue_ms - t.compute_ms - t.encode_ms);
    const bar = (...parts) => el('span', { className: 'time-bar', 'aria-hidden': 'true' }, parts.map(([kind, ms]) => {
      const part = el('i', { className: kind });
      part.style.width = `${(100 * ms) / longest}%`;
      return part;
    }));
    const row = (name, ms, ...parts) => [el('span', {}, name), bar(...parts), el('b', {}, duration(ms))];
    const detail = [`waited ${duration(t.queue_ms)}`, `computed ${duration(t.compute_ms)}`,
      `encoded ${duration(t.encode_ms)}`, `${cost.evaluations}\u00a0evaluations`,
      `${Math.round(cost.gigaflops)}\u00a0GFLOP`];
    return [
      el('p', { className: 'time-rows' },
        row('predicted', t.predicted_ms, ['expected', t.predicted_ms]),
        row('took', t.total_ms, ['waited', t.queue_ms], ['computed', t.compute_ms], ['encoded', t.encode_ms + rest])),
      el('p', { className: 'hint' }, detail.join(' · ')),
    ];
  }

  fail(text) {
    $('alert').textContent = text;
    $('alert').hidden = false;
  }
}
