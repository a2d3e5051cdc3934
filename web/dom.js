// Small things both pages need.

export const $ = (id) => document.getElementById(id);

/** An element with properties (or attributes, where the name has a dash or there is no such
 *  property) and children; null children are left out. */
export function el(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'dataset')
      Object.assign(node.dataset, value);
    else if (name in node && !name.includes('-'))
      node[name] = value;
    else
      node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** The last call within `ms` wins. */
export function debounce(ms, fn) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(fn, ms, ...args);
  };
}

export const duration = (ms) =>
  ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)}\u00a0s`;

export const percent = (share) => {
  const value = share * 100;
  return value > 0 && value < 10 ? `${value.toFixed(1)}\u00a0%` : `${Math.round(value)}\u00a0%`;
};

/** Copy, and say so on the button for a moment. */
export async function copyFrom(button, text) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
  } catch {
    window.prompt('Copy this:', text); // no clipboard outside secure contexts
    return;
  }
  setTimeout(() => { button.textContent = label; }, 1500);
}
