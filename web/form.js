// The settings as a form. What the form holds is read as, and set from, the fields of a request;
// whether they are allowed is for the service to say, and its answer is shown at the field.

import { $, el } from './dom.js';

const NUMBERS = { steps: 'steps', guidance: 'guidance', n: 'n', seed: 'seed', index: 'index',
  quality: 'quality', deadline_ms: 'deadline' };
const CHOICES = { model: 'model', solver: 'solver', format: 'format', priority: 'priority' };
export const DEFAULTS = { steps: 20, guidance: 1.5, n: 1, index: 0, quality: 90, solver: 'dpmpp2m',
  format: 'jpeg', priority: 'normal' };
const SOLVER_NAMES = { dpmpp2m: 'DPM++ 2M', heun: 'Heun', euler: 'Euler' };
const FORMAT_NAMES = { jpeg: 'JPEG', png: 'PNG', webp: 'WebP' };

export function chip(group, value, checked, ...label) {
  return el('label', { className: 'chip' },
    el('input', { type: 'radio', name: group, value, checked }), el('span', {}, ...label));
}

const chosen = (group) => document.querySelector(`input[name=${group}]:checked`)?.value;

function choose(group, value) {
  const radio = [...document.querySelectorAll(`input[name=${group}]`)].find((input) => input.value === value);
  if (radio)
    radio.checked = true;
  return Boolean(radio);
}

const options = (values, names = {}) => values.map((value) => el('option', { value }, names[value] ?? value));

/** Rounded to what a side may be. */
function fitSide(side, sizes) {
  const fitted = Math.max(sizes.min_side, Math.round(side / sizes.side_multiple) * sizes.side_multiple);
  return side < sizes.side_multiple ? side : fitted;
}

/** Sizes to offer, the default first. */
function sizePresets(sizes) {
  const side = sizes.default, long = fitSide(side * 1.5, sizes);
  const pairs = [[side, side], [side, long], [long, side], [side * 2, side * 2]];
  const fit = pairs.filter(([width, height]) => width * height <= sizes.max_area);
  return [...new Set(fit.map(([width, height]) => `${width}x${height}`))];
}

function sizeLabel(size) {
  const [width, height] = size.split('x').map(Number);
  const shape = el('i', { className: 'shape', 'aria-hidden': 'true' });
  const unit = 0.95 / Math.max(width, height, 1);
  shape.style.width = `${width * unit}em`;
  shape.style.height = `${height * unit}em`;
  return [shape, size.replace('x', ' × ')];
}

export class SettingsForm {
  #models = [];
  #onChange;

  constructor(onChange) {
    this.#onChange = onChange;
    const form = $('settings');
    form.addEventListener('input', (event) => this.#edited(event.target));
    form.addEventListener('change', (event) => {
      if (event.target.id === 'model')
        this.#showModel();
      if (event.target.name === 'size')
        this.#showCustomSize();
    });
    for (const slider of document.querySelectorAll('input[type=range]'))
      slider.addEventListener('input', () => { $(slider.dataset.for).value = slider.value; });
  }

  /** models: of GET /v1/models; limits: GET /v1/capabilities. */
  offer(models, capabilities) {
    this.#models = models;
    $('model').replaceChildren(...options(models.map((model) => model.id)));
    $('solver').replaceChildren(...options(capabilities.solvers, SOLVER_NAMES));
    $('format').replaceChildren(...options(capabilities.formats, FORMAT_NAMES));
    $('priority').replaceChildren(...options(capabilities.priorities));
    $('priority').value = DEFAULTS.priority;
    $('n').max = capabilities.limits.pictures;
    $('steps').max = capabilities.limits.steps;
    $('guidance').max = capabilities.limits.guidance;
    this.#showModel();
  }

  get model() {
    return this.#models.find((model) => model.id === $('model').value) ?? this.#models[0];
  }

  /** The fields of a request but skip; what is left open is left out. */
  get values() {
    const values = {};
    for (const [field, id] of Object.entries(CHOICES))
      values[field] = $(id).value;
    for (const [field, id] of Object.entries(NUMBERS)) {
      if ($(id).value !== '')
        values[field] = Number($(id).value);
    }
    if (chosen('class'))
      values.class = chosen('class');
    values.size = chosen('size') === 'custom' ? `${$('width').value}x${$('height').value}` : chosen('size');
    return values;
  }

  set values(values) {
    const all = { ...DEFAULTS, ...values };
    if (this.#models.some((model) => model.id === all.model) && $('model').value !== all.model) {
      $('model').value = all.model;
      this.#showModel();
    }
    for (const [field, id] of Object.entries(CHOICES)) {
      if (all[field] !== undefined)
        $(id).value = all[field];
    }
    for (const [field, id] of Object.entries(NUMBERS))
      $(id).value = all[field] ?? '';
    this.#setClass(all.class);
    this.#setSize(all.size ?? sizePresets(this.model.sizes)[0]);
    this.showSliders();
  }

  showSliders() {
    for (const slider of document.querySelectorAll('input[type=range]'))
      slider.value = $(slider.dataset.for).value;
  }

  #edited(field) {
    if (field.type === 'number')
      this.showSliders();
    this.#onChange(field.closest('[data-pointer]')?.dataset.pointer);
  }

  #setClass(value) {
    const name = typeof value === 'number' ? this.model.classes[value] : value?.toLowerCase();
    const known = this.model.classes.find((other) => other.toLowerCase() === name?.toLowerCase());
    choose('class', known ?? '');
  }

  #setSize(size) {
    if (!choose('size', size)) {
      choose('size', 'custom');
      [$('width').value, $('height').value] = size.split('x');
    }
    this.#showCustomSize();
  }

  #showModel() {
    const model = this.model, sizes = model.sizes;
    const before = { class: chosen('class'), size: chosen('size') };
    $('model-hint').textContent = `${(model.parameters / 1e6).toFixed(model.parameters < 1e7 ? 1 : 0)}\u00a0million parameters. ${model.source}`;
    $('classes').replaceChildren(
      ...model.classes.map((name) => chip('class', name, false, name)),
      chip('class', '', false, model.classes.length ? 'anything' : 'no subject'));
    $('sizes').replaceChildren(
      ...sizePresets(sizes).map((size) => chip('size', size, false, ...sizeLabel(size))),
      chip('size', 'custom', false, 'custom'));
    choose('class', before.class ?? model.classes[0] ?? '') || choose('class', model.classes[0] ?? '');
    choose('size', before.size) || choose('size', sizePresets(sizes)[0]);
    for (const side of ['width', 'height']) {
      $(side).min = sizes.min_side;
      $(side).step = sizes.side_multiple;
      $(side).value ||= sizes.default;
    }
    $('size-hint').textContent = `Sides from ${sizes.min_side} pixels, multiples of ${sizes.side_multiple}; `
      + `at most ${sizes.max_area.toLocaleString('en')} pixels in all.`;
    this.#showCustomSize();
  }

  #showCustomSize() {
    $('custom-size').hidden = $('size-hint').hidden = chosen('size') !== 'custom';
  }
}

/** Say what is wrong at the fields that the pointers lead to; the rest, as sentences, is returned. */
export function showErrors(errors) {
  clearErrors();
  const elsewhere = [];
  for (const { pointer, detail } of errors) {
    const field = [...document.querySelectorAll('[data-pointer]')].find(({ dataset }) =>
      pointer === dataset.pointer || pointer.startsWith(`${dataset.pointer}/`));
    if (!field) {
      elsewhere.push(pointer ? `${pointer.slice(1)}: ${detail}` : detail);
      continue;
    }
    const id = `error-${field.dataset.pointer.slice(1)}`;
    field.append(el('p', { id, className: 'error' }, detail));
    for (const input of field.querySelectorAll('input:not([type=range]), select')) {
      input.setAttribute('aria-invalid', 'true');
      input.setAttribute('aria-describedby', id);
    }
    field.closest('details')?.setAttribute('open', '');
  }
  return elsewhere;
}

export function clearErrors() {
  for (const error of document.querySelectorAll('.error'))
    error.remove();
  for (const input of document.querySelectorAll('[aria-invalid]')) {
    input.removeAttribute('aria-invalid');
    input.removeAttribute('aria-describedby');
  }
}
