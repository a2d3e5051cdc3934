// The playground: settings on one side, pictures in the middle, the schedule between them. Every
// change asks the service what it would cost; nothing here knows prices or limits of its own.

import { $, copyFrom, debounce, duration, el, percent } from './dom.js';
import { blobOf, generate, getJson, onKeyWanted, Problem, quote } from './api.js';
import { chip, clearErrors, DEFAULTS, SettingsForm, showErrors } from './form.js';
import { Gallery } from './gallery.js';
import { ScheduleGrid } from './grid.js';
import { resample, restingOf, skipOf } from './schedule.js';
import { Stage } from './stage.js';

const SETTINGS = 'brickwork-settings';
const PREVIEWS = 4;
const QUOTE_AFTER_MS = 250;

let capabilities;
let records = []; // the finished pictures on the stage
let running = null; // { controller, live: [{ skip, step }] } while pictures are being made
let lastSeed = null;

// How the bricks are chosen: a preset's name, "t_break" or "custom"; and the grid, which shows the
// plan, or the schedule of the picture on the stage as it runs or ran.
const plan = { mode: 'none', resting: new Array(DEFAULTS.steps).fill(0) };
let shown = 'plan'; // or 'run'

const form = new SettingsForm(settingsChanged);
const stage = new Stage(() => { if (!running) showRecord(); else showGrid(); });
const gallery = new Gallery({ list: $('gallery'), empty: $('gallery-empty'), clear: $('clear-gallery') }, bringBack);
const grid = new ScheduleGrid($('grid'), {
  onEdit: (resting) => {
    Object.assign(plan, { mode: 'custom', resting });
    $('grid-message').textContent = '';
    showMode();
    settingsChanged('/skip');
  },
  onRefuse: (step) => {
    $('grid-message').textContent = `One brick has to run at step ${step + 1}: wake another before this one rests.`;
  },
});

// ---- the request ----

function skipValue(steps) {
  if (plan.mode === 'custom')
    return skipOf(resample(plan.resting, steps));
  return plan.mode === 't_break' ? { t_break: Number($('t-break').value) } : plan.mode;
}

function currentRequest() {
  const values = form.values;
  return { ...values, skip: skipValue(Math.max(1, Math.round(values.steps ?? DEFAULTS.steps))) };
}

/** Without what says nothing new. */
const compact = (request) => Object.fromEntries(Object.entries(request).filter(([field, value]) =>
  value !== null && value !== DEFAULTS[field] && !(field === 'skip' && value === 'none')));

function adopt(request) {
  form.values = request;
  const steps = request.steps ?? DEFAULTS.steps;
  const skip = request.skip ?? 'none';
  if (typeof skip === 'string') {
    plan.mode = skip;
  } else if (skip.t_break !== undefined) {
    plan.mode = 't_break';
    $('t-break').value = skip.t_break;
    form.showSliders();
  } else {
    plan.mode = 'custom';
    plan.resting = restingOf(skip, steps) ?? new Array(steps).fill(0);
  }
  showModel();
  settingsChanged();
}

const toHash = (request) => `#${new URLSearchParams(Object.entries(compact(request)).map(([field, value]) =>
  [field, typeof value === 'object' ? JSON.stringify(value) : String(value)]))}`;

/** The request in the address, or null. */
function fromHash() {
  const numbers = ['n', 'steps', 'guidance', 'seed', 'index', 'quality', 'deadline_ms'];
  const request = {};
  for (const [field, value] of new URLSearchParams(location.hash.slice(1))) {
    if (numbers.includes(field))
      request[field] = Number(value);
    else if (field === 'skip' && value.startsWith('{'))
      try { request.skip = JSON.parse(value); } catch { /* as if it were not there */ }
    else
      request[field] = value;
  }
  return Object.keys(request).length ? request : null;
}

function stored() {
  try { return JSON.parse(localStorage.getItem(SETTINGS)); } catch { return null; }
}

function store(request) {
  try { localStorage.setItem(SETTINGS, JSON.stringify(request)); } catch { /* only a convenience */ }
}

// ---- the schedule ----

function modeHint() {
  const curve = capabilities.models.find((model) => model.id === form.model.id)?.presets ?? [];
  const point = curve.find((preset) => preset.name === plan.mode);
  const fixed = {
    none: 'Every brick runs at every step.',
    auto: 'Every brick runs where there is time; under a deadline they rest where it costs least.',
    t_break: 'The top brick rests for a share of the steps.',
    custom: 'Your own schedule.',
  };
  return fixed[plan.mode] ?? (point
    ? `Gives up ${percent(point.excess_loss)} and takes ${percent(point.cost)} of the time.`
    : 'Gives up a little for speed.');
}

function showMode() {
  for (const radio of document.querySelectorAll('input[name=mode]'))
    radio.checked = radio.value === plan.mode;
  $('t-break-field').hidden = plan.mode !== 't_break';
  $('preset-hint').textContent = modeHint();
}

function showModel() {
  const names = { t_break: 'top brick', custom: 'your own' };
  $('presets').replaceChildren(...[...form.model.presets, 't_break', 'custom'].map((name) =>
    chip('mode', name, false, names[name] ?? name)));
  showMode();
}

/** What the selected picture runs or ran with, and how far it is. */
function runSchedule() {
  if (running) {
    const live = running.live[stage.selected];
    return { resting: live?.resting ?? plan.resting, done: live?.step ?? 0 };
  }
  const { request } = records[stage.selected];
  return { resting: restingOf(request.skip, request.steps), done: -1 };
}

function showGrid() {
  const several = running ? running.live.length > 1 : records.length > 1;
  const which = several ? ` (picture ${stage.selected + 1})` : '';
  if (shown === 'run') {
    const { resting, done } = runSchedule();
    grid.show(form.model.bricks, resting, done);
    $('schedule-note').textContent = running ? `running${which}` : `as it ran${which}`;
    return;
  }
  grid.show(form.model.bricks, plan.resting);
  $('schedule-note').textContent = plan.mode === 'auto' ? 'planned; may change as it runs' : 'planned';
}

// ---- the estimate ----

let asking = new AbortController();

function showEstimate(text, offers = []) {
  $('estimate-text').textContent = text;
  $('offers').replaceChildren(...offers.map(([label, take]) => {
    const button = el('button', { type: 'button', className: 'link' }, label);
    button.addEventListener('click', take);
    return button;
  }));
}

function offersOf(offer) {
  const offers = [];
  if (offer?.settings)
    offers.push([`Let bricks rest, ${offer.settings.steps} steps`, () => {
      plan.mode = offer.settings.skip;
      $('steps').value = offer.settings.steps;
      form.showSliders();
      showMode();
      settingsChanged('/skip');
    }]);
  if (offer?.deadline_ms)
    offers.push([`Allow ${duration(offer.deadline_ms)}`, () => {
      $('deadline').value = Math.ceil(offer.deadline_ms * 1.02); // asking again takes a moment
      settingsChanged('/deadline_ms');
    }]);
  if (offer?.retry_after_ms !== undefined && !offers.length)
    offers.push([`Wait ${duration(offer.retry_after_ms)}, then make it`, async () => {
      showEstimate('Waiting for a place');
      await new Promise((resolve) => { setTimeout(resolve, offer.retry_after_ms); });
      make();
    }]);
  return offers;
}

function showQuote(answer) {
  plan.resting = restingOf(answer.request.skip, answer.request.steps) ?? plan.resting;
  if (shown === 'plan')
    showGrid();
  if (!answer.admitted) {
    showEstimate(`Not now: ${answer.reason}.`, offersOf(answer.offer));
    return;
  }
  const { total_ms: total, queue_ms: queue } = answer.predicted;
  const waiting = queue >= 50 ? ` (${duration(queue)} of it waiting)` : '';
  const loss = answer.excess_loss > 0 ? `; gives up ${percent(answer.excess_loss)}` : ', at full quality';
  showEstimate(`About ${duration(total)}${waiting}${loss}`);
}

function showProblem(problem) {
  const rest = showErrors(problem.errors);
  if (problem.errors.length && !rest.length)
    showEstimate('Please look at the field marked above.', offersOf(problem.offer));
  else
    showEstimate(rest.length ? rest.join('; ') : problem.message, offersOf(problem.offer));
}

const askQuote = debounce(QUOTE_AFTER_MS, async () => {
  asking = new AbortController();
  const { signal } = asking;
  try {
    const answer = await quote(currentRequest(), signal);
    if (signal.aborted)
      return;
    clearErrors();
    showQuote(answer);
  } catch (error) {
    if (!signal.aborted && error instanceof Problem)
      showProblem(error);
  }
});

function settingsChanged(pointer) {
  asking.abort(); // an answer about older settings must not undo these
  const request = currentRequest();
  store(request);
  if (pointer !== '/seed' || !running)
    shown = 'plan';
  $('seed-toggle').textContent = $('seed').value === '' ? 'Keep' : 'Random';
  if (plan.mode === 'custom' || plan.mode === 'none') {
    const steps = Math.max(1, Math.min(capabilities.limits.steps, Math.round(request.steps ?? DEFAULTS.steps)));
    plan.resting = plan.mode === 'none' ? new Array(steps).fill(0) : resample(plan.resting, steps);
  }
  showGrid();
  askQuote();
}

// ---- making pictures ----

function announce(text) {
  $('announcer').textContent = text;
}

function setRunning(run) {
  running = run;
  $('make').setAttribute('aria-disabled', String(Boolean(run))); // disabled it would lose the focus
  $('make').textContent = run ? 'Making' : 'Make picture';
}

/** One handler for each event of the stream. */
const listeners = {
  queued({ steps, predicted_ms: predicted }) {
    for (const live of running.live)
      Object.assign(live, { steps, resting: resample(plan.resting, steps) });
    stage.status(`Waiting; about ${duration(predicted)}`);
    showGrid();
  },
  progress({ picture, step, steps, skip, eta_ms: eta }) {
    const live = running.live[picture];
    if (live.resting.length !== steps)
      live.resting = resample(live.resting, steps);
    live.resting[step - 1] = skip.reduce((set, brick) => set | (1 << brick), 0);
    Object.assign(live, { step, steps });
    stage.progress(picture, step / steps);
    const done = running.live.reduce((sum, other) => sum + other.step, 0);
    stage.status(`Step ${done} of ${steps * running.live.length}; ${eta >= 1 ? `about ${duration(eta)} left` : 'nearly done'}`);
    if (picture === stage.selected && shown === 'run')
      showGrid();
  },
  partial({ picture, step, steps, media_type: type, b64 }) {
    stage.picture(picture, blobOf(b64, type), `Preview after ${step} of ${steps} steps`, true);
  },
};

/** Each picture with the request that gives it again. */
const recordsOf = (result) => result.images.map((image) => ({
  request: { ...result.request, n: 1, index: image.index, skip: image.skip },
  blob: blobOf(image.b64, image.media_type),
  excess_loss: image.excess_loss,
  timings: result.timings,
  cost: { evaluations: Math.round(result.cost.evaluations / result.images.length),
    gigaflops: result.cost.gigaflops / result.images.length },
}));

function finish(result) {
  records = recordsOf(result);
  lastSeed = result.request.seed;
  setRunning(null);
  stage.show(records);
  announce(`Done in ${duration(result.timings.total_ms)}.`);
  showGrid();
  for (const record of records)
    gallery.add(record);
}

function giveUp(error) {
  const cancelled = error.name === 'AbortError';
  const step = running.live[stage.selected]?.step ?? 0;
  setRunning(null);
  stage.end();
  records = [];
  shown = 'plan';
  showGrid();
  announce(cancelled ? 'Cancelled.' : '');
  if (cancelled)
    stage.fail(step ? `Cancelled after step ${step}.` : 'Cancelled.');
  else if (error instanceof Problem) {
    stage.fail(error.message);
    showProblem(error);
  } else {
    throw error;
  }
}

async function make() {
  if (running)
    return;
  const request = currentRequest();
  const count = Math.max(1, Math.min(request.n ?? 1, capabilities.limits.pictures));
  const controller = new AbortController();
  setRunning({ controller, live: Array.from({ length: count }, () => ({ step: 0, steps: 1, resting: [...plan.resting] })) });
  shown = 'run';
  clearErrors();
  stage.begin({ ...request, n: count });
  $('plates').scrollIntoView({ block: 'nearest' });
  announce(count > 1 ? `Making ${count} pictures.` : 'Making the picture.');
  try {
    const previews = Math.min(PREVIEWS, capabilities.limits.partial_images);
    finish(await generate({ ...request, partial_images: previews }, controller.signal,
      (type, data) => listeners[type]?.(data)));
  } catch (error) {
    giveUp(error);
  }
  asking.abort();
  askQuote();
}

// ---- what can be done with a picture ----

function showRecord() {
  shown = 'run';
  stage.describe(records[stage.selected]);
  showGrid();
}

/** From the gallery: the picture on the stage, and all its settings. */
function bringBack(record) {
  if (running)
    return;
  adopt(record.request);
  records = [record];
  stage.begin(record.request);
  stage.show(records);
  showRecord();
  document.querySelector('.stage').scrollIntoView({ block: 'nearest' });
  announce('Its settings are back.');
}

const EXTENSIONS = { jpeg: 'jpg', png: 'png', webp: 'webp' };
const fileName = ({ class: subject, seed, index, format }) =>
  `${(subject ?? 'picture').replace(/[^\w-]+/g, '-')}-${seed}${index ? `-${index}` : ''}.${EXTENSIONS[format]}`;

function curlOf(request) {
  const body = JSON.stringify(compact(request)).replaceAll("'", "'\\''");
  const key = sessionStorage.getItem('brickwork-key') ? ' \\\n  -H "Authorization: Bearer $BRICKWORK_KEY"' : '';
  return `curl -H 'Content-Type: application/json' -H 'Accept: image/${request.format}'${key} \\\n  -d '${body}' \\\n`
    + `  -o ${fileName(request)} ${location.origin}/v1/generate`;
}

function download({ request, blob }) {
  const link = el('a', { href: URL.createObjectURL(blob), download: fileName(request) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// ---- beginning ----

function wire() {
  const selected = () => records[stage.selected];
  $('settings').addEventListener('submit', (event) => { event.preventDefault(); make(); });
  $('cancel').addEventListener('click', () => running?.controller.abort());
  $('download').addEventListener('click', () => download(selected()));
  $('reproduce').addEventListener('click', () => { adopt(selected().request); showRecord(); announce('Its settings are kept.'); });
  $('copy-link').addEventListener('click', (event) =>
    copyFrom(event.target, location.origin + location.pathname + toHash(selected().request)));
  $('copy-curl').addEventListener('click', (event) => copyFrom(event.target, curlOf(selected().request)));
  $('seed-toggle').addEventListener('click', () => {
    $('seed').value = $('seed').value === '' ? lastSeed ?? Math.floor(Math.random() * 1e9) : '';
    settingsChanged('/seed');
  });
  $('model').addEventListener('change', showModel);
  document.querySelector('.schedule').addEventListener('input', (event) => {
    if (event.target.name === 'mode')
      plan.mode = event.target.value;
    if (event.target.id === 't-break')
      form.showSliders();
    $('grid-message').textContent = '';
    showMode();
    settingsChanged('/skip');
  });
  window.addEventListener('hashchange', () => { const request = fromHash(); if (request) adopt(request); });
}

function askKey() {
  const dialog = $('key-dialog');
  dialog.returnValue = '';
  $('key-cancel').onclick = () => dialog.close();
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => {
      const key = $('key').value.trim();
      $('key').value = '';
      resolve(dialog.returnValue === 'ok' && key ? key : null);
    }, { once: true });
  });
}

async function begin() {
  onKeyWanted(askKey);
  gallery.load();
  try {
    const [models, limits] = await Promise.all([getJson('/v1/models'), getJson('/v1/capabilities')]);
    capabilities = limits;
    form.offer(models.data, limits);
    wire();
    adopt(fromHash() ?? stored() ?? { class: form.model.classes[0] });
  } catch (error) {
    if (!(error instanceof Problem))
      throw error;
    stage.fail(error.message);
    showEstimate('Reload the page to try again.');
  }
}

begin();
