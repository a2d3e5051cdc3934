// The schedule as a grid: a row for each brick, a column for each step. A cell that is filled runs.

import { el } from './dom.js';
import { withBrick } from './schedule.js';

export class ScheduleGrid {
  #host;
  #onEdit;
  #onRefuse;
  #bricks = [];
  #resting = [];
  #cells = []; // [brick][step]
  #focus = { brick: 0, step: 0 };
  #painting = null; // whether the cells under the pointer come to rest; null: no button is down
  #handled = false; // the click that ends this press has been dealt with

  /** `onEdit(resting)` after each change; `onRefuse(step)` if it would leave a step without bricks. */
  constructor(host, { onEdit, onRefuse }) {
    this.#host = host;
    this.#onEdit = onEdit;
    this.#onRefuse = onRefuse;
    host.addEventListener('pointerdown', (event) => this.#press(event));
    host.addEventListener('pointerover', (event) => this.#paint(event));
    host.addEventListener('click', (event) => this.#click(event));
    host.addEventListener('keydown', (event) => this.#key(event));
    window.addEventListener('pointerup', () => { this.#painting = null; });
  }

  /** bricks: of the model's card; resting: a set per step; done: steps that have run, -1 if nothing
   *  is under way. */
  show(bricks, resting, done = -1) {
    const rebuilt = bricks !== this.#bricks || resting.length !== this.#resting.length;
    this.#resting = [...resting];
    if (rebuilt)
      this.#build(bricks);
    for (const [brick, row] of this.#cells.entries()) {
      for (const [step, cell] of row.entries()) {
        const runs = !(this.#resting[step] & (1 << brick));
        cell.classList.toggle('runs', runs);
        cell.classList.toggle('ahead', done >= 0 && step >= done);
        cell.classList.toggle('now', step === done);
        cell.setAttribute('aria-selected', String(runs));
        cell.setAttribute('aria-label', `Step ${step + 1}, brick ${brick} ${runs ? 'runs' : 'rests'}`);
      }
    }
  }

  #build(bricks) {
    const hadFocus = this.#host.contains(document.activeElement);
    const steps = this.#resting.length;
    const every = steps <= 12 ? 1 : steps <= 32 ? 5 : steps <= 100 ? 10 : 50;
    const label = (n) => (n === 1 || n === steps || (n % every === 0 && steps - n >= every / 2) ? n : '');
    this.#bricks = bricks;
    this.#cells = bricks.map((_, brick) => Array.from({ length: steps }, (_, step) =>
      el('div', { className: 'cell', role: 'gridcell', tabIndex: -1, dataset: { brick, step } })));
    const rows = bricks.map((card, brick) => el('div', { className: 'grid-row', role: 'row' },
      el('div', { className: 'brick-name', role: 'rowheader' },
        el('b', {}, `Brick ${brick}`), el('span', {}, `${card.size} px tiles`)),
      this.#cells[brick]));
    const axis = el('div', { className: 'grid-row axis', 'aria-hidden': 'true' },
      el('div', { className: 'brick-name' }, 'Step'),
      Array.from({ length: steps }, (_, step) => el('div', { className: 'tick' }, String(label(step + 1)))));
    this.#host.replaceChildren(el('div', {
      className: 'grid', role: 'grid', 'aria-label': 'Which bricks run at which step',
      'aria-multiselectable': 'true',
    }, rows), axis);
    this.#moveTo(Math.min(this.#focus.brick, bricks.length - 1), Math.min(this.#focus.step, steps - 1), hadFocus);
  }

  #moveTo(brick, step, focus = true) {
    const old = this.#cells[this.#focus.brick]?.[this.#focus.step];
    if (old)
      old.tabIndex = -1;
    this.#focus = { brick, step };
    const cell = this.#cells[brick][step];
    cell.tabIndex = 0;
    if (focus)
      cell.focus();
  }

  #at(event) {
    const cell = event.target.closest?.('[role=gridcell]');
    return cell && { brick: Number(cell.dataset.brick), step: Number(cell.dataset.step) };
  }

  #rests({ brick, step }) {
    return Boolean(this.#resting[step] & (1 << brick));
  }

  #set(at, rests) {
    if (this.#rests(at) === rests)
      return;
    const changed = withBrick(this.#resting[at.step], at.brick, rests, this.#bricks.length);
    if (changed === null) {
      this.#onRefuse(at.step);
      return;
    }
    this.#resting[at.step] = changed;
    this.#onEdit([...this.#resting]);
  }

  /** A mouse paints; a finger scrolls, or taps, which comes as a click. */
  #press(event) {
    const at = this.#at(event);
    this.#handled = Boolean(at) && event.pointerType !== 'touch' && event.button === 0;
    if (!this.#handled)
      return;
    event.preventDefault();
    this.#moveTo(at.brick, at.step);
    this.#painting = !this.#rests(at);
    this.#set(at, this.#painting);
  }

  #paint(event) {
    const at = this.#at(event);
    if (at && this.#painting !== null)
      this.#set(at, this.#painting);
  }

  #click(event) {
    const at = this.#at(event);
    if (at && !this.#handled) {
      this.#moveTo(at.brick, at.step);
      this.#set(at, !this.#rests(at));
    }
    this.#handled = false;
  }

  #key(event) {
    const at = this.#at(event);
    if (!at || event.ctrlKey || event.altKey || event.metaKey)
      return;
    const last = { brick: this.#bricks.length - 1, step: this.#resting.length - 1 };
    const moves = {
      ArrowLeft: [at.brick, at.step - 1], ArrowRight: [at.brick, at.step + 1],
      ArrowUp: [at.brick - 1, at.step], ArrowDown: [at.brick + 1, at.step],
      Home: [at.brick, 0], End: [at.brick, last.step],
    };
    if (event.key === ' ' || event.key === 'Enter')
      this.#set(at, !this.#rests(at));
    else if (moves[event.key])
      this.#moveTo(Math.max(0, Math.min(moves[event.key][0], last.brick)),
        Math.max(0, Math.min(moves[event.key][1], last.step)));
    else
      return;
    event.preventDefault();
  }
}
