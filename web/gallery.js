// Recent pictures with what made them: in IndexedDB where there is one, else as long as the page
// is open.

import { el } from './dom.js';

const KEEP = 48; // pictures

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

class Store {
  #db = null;

  async open() {
    try {
      const opening = indexedDB.open('brickwork', 1);
      opening.onupgradeneeded = () =>
        opening.result.createObjectStore('pictures', { keyPath: 'id', autoIncrement: true });
      this.#db = await settled(opening);
      return await settled(this.#pictures('readonly').getAll());
    } catch {
      this.#db = null;
      return [];
    }
  }

  #pictures(mode) {
    return this.#db.transaction('pictures', mode).objectStore('pictures');
  }

  /** What cannot be kept is lost with the page, no more. */
  async #attempt(change) {
    try {
      return this.#db && await settled(change(this.#pictures('readwrite')));
    } catch {
      return null;
    }
  }

  add(record) {
    return this.#attempt((pictures) => pictures.add(record));
  }

  remove(id) {
    return this.#attempt((pictures) => pictures.delete(id));
  }

  clear() {
    return this.#attempt((pictures) => pictures.clear());
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
    for (const record of await this.#store.open())
      this.#show(record);
    this.#trim();
  }

  async add(record) {
    const item = this.#show(record);
    const id = await this.#store.add(record);
    if (id)
      item.record.id = id;
    this.#trim();
  }

  #show(record) {
    const { class: subject, seed, size } = record.request;
    const name = `${subject ?? 'no subject'}, ${size.replace('x', ' by ')}, seed ${seed}`;
    const image = el('img', { src: URL.createObjectURL(record.blob), alt: '' });
    const item = { record: { ...record } };
    const button = el('button', { type: 'button', title: name, 'aria-label': `Bring back: ${name}` }, image);
    button.addEventListener('click', () => this.#onChoose(item.record));
    item.node = el('li', {}, button);
    this.#items.unshift(item);
    this.#parts.list.prepend(item.node);
    this.#showState();
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
    this.#showState();
  }

  #showState() {
    this.#parts.clear.hidden = this.#items.length === 0;
    this.#parts.empty.hidden = this.#items.length > 0;
  }
}
