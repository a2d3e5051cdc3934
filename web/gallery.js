// Recent pictures with what made them: in IndexedDB where there is one, else as long as the page
// is open.

import { el } from './dom.js';

const KEEP = 48; // pictures

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

async function openDatabase() {
  const opening = indexedDB.open('brickwork', 1);
  opening.onupgradeneeded = () =>
    opening.result.createObjectStore('pictures', { keyPath: 'id', autoIncrement: true });
  return settled(opening);
}

class Store {
  #database = null; // a promise: a picture may be finished before it is open

  /** All records, the oldest first. */
  async open() {
    this.#database = openDatabase();
    return await this.#attempt('readonly', (pictures) => pictures.getAll()) ?? [];
  }

  /** What cannot be kept is lost with the page, no more. */
  async #attempt(mode, change) {
    try {
      const database = await this.#database;
      return await settled(change(database.transaction('pictures', mode).objectStore('pictures')));
    } catch {
      return null;
    }
  }

  add(record) {
    return this.#attempt('readwrite', (pictures) => pictures.add(record));
  }

  remove(id) {
    return this.#attempt('readwrite', (pictures) => pictures.delete(id));
  }

  clear() {
    return this.#attempt('readwrite', (pictures) => pictures.clear());
  }
}

export class Gallery {
  #store = new Store();
  #items = []; // { record, node }, the newest first
  #parts;
  #onChoose;

  /** parts: { list, empty, clear }, elements. A record is { request, blob, ... }: one picture and the
   *  request that gives it again. */
  constructor(parts, onChoose) {
    this.#parts = parts;
    this.#onChoose = onChoose;
    parts.clear.addEventListener('click', () => this.#clear());
  }

  async load() {
    const kept = await this.#store.open();
    for (const record of kept.reverse())
      this.#items.push(this.#show(record, 'append'));
    this.#trim();
  }

  async add(record) {
    const item = this.#show(record, 'prepend');
    this.#items.unshift(item);
    const id = await this.#store.add(record);
    if (id)
      item.record.id = id;
    this.#trim();
  }

  #show(record, place) {
    const { class: subject, seed, size } = record.request;
    const name = `${subject ?? 'no subject'}, ${size.replace('x', ' by ')}, seed ${seed}`;
    const image = el('img', { src: URL.createObjectURL(record.blob), alt: '' });
    const item = { record: { ...record } };
    const button = el('button', { type: 'button', title: name, 'aria-label': `Bring back: ${name}` }, image);
    button.addEventListener('click', () => this.#onChoose(item.record));
    item.node = el('li', {}, button);
    this.#parts.list[place](item.node);
    this.#parts.clear.hidden = false;
    this.#parts.empty.hidden = true;
    return item;
  }

  #drop(item) {
    URL.revokeObjectURL(item.node.querySelector('img').src);
    item.node.remove();
  }

  #trim() {
    for (const item of this.#items.splice(KEEP)) {
      this.#drop(item);
      if (item.record.id)
        this.#store.remove(item.record.id);
    }
  }

  #clear() {
    this.#items.splice(0).forEach((item) => this.#drop(item));
    this.#store.clear();
    this.#parts.clear.hidden = true;
    this.#parts.empty.hidden = false;
  }
}
