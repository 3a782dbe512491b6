// Numbers, durations and small DOM helpers. Text is only ever set as text: figures may quote what producers sent.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

export const NONE = "–";

export const count = (number) => (number == null ? NONE : whole.format(number));
export const rate = (number) => (number == null ? NONE : (number < 100 ? tenths : whole).format(number));
export const percent = (part) => (part == null ? NONE : `${Math.round(part * 100)} %`);
export const gigabytes = (bytes) => `${tenths.format(bytes / 1e9)} GB`;
export const ms = (number) => (number < 1 ? "<1 ms" : `${whole.format(number)} ms`);

export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds > 0 && seconds < 1) return "<1 s";
  let rest = Math.round(seconds);
  const parts = [];
  for (const [size, unit] of UNITS) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount || parts.length) parts.push([amount, unit]);
    if (parts.length === 2) break;
  }
  return parts.filter(([amount]) => amount).map(([amount, unit]) => `${amount} ${unit}`).join(" ") || "0 s";
}

export const find = (id) => document.getElementById(id);

export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function draw(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Shows one child per item, in their order; a child is made once and then updated, so that nothing flickers.
export function show(parent, items, key, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const name = key(item);
    let child = known.get(name);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = name;
    }
    known.delete(name);
    update(child, item);
    if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
  });
  for (const child of known.values()) child.remove();
}
