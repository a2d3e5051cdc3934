// The little of Markdown that descriptions use: paragraphs, lists, `code`, **bold** and [links](to).

import { el } from './dom.js';

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\((https?:[^)\s]+|[/#][^)\s]*)\)/g;

/** Nodes for one run of text. */
export function inline(text) {
  const nodes = [];
  let end = 0;
  for (const match of text.matchAll(INLINE)) {
    const [all, code, bold, label, href] = match;
    nodes.push(text.slice(end, match.index));
    nodes.push(code ? el('code', {}, code) : bold ? el('strong', {}, bold) : el('a', { href }, label));
    end = match.index + all.length;
  }
  return [...nodes, text.slice(end)];
}

/** Blocks for a description. */
export function blocks(text = '') {
  return text.trim().split(/\n\s*\n/).filter(Boolean).map((block) => {
    const lines = block.split('\n');
    if (!lines.every((line) => /^(- |\s)/.test(line)))
      return el('p', {}, inline(lines.join(' ')));
    const items = block.split(/^- /m).filter((item) => item.trim());
    return el('ul', {}, items.map((item) => el('li', {}, inline(item.trim().replace(/\s*\n\s*/g, ' ')))));
  });
}
