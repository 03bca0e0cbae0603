// Elements, icons and messages.

/** An element: attributes by name, `on...` listeners, properties after a dot (".value"); children are nodes or texts. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(9).filter(Boolean));
  return element;
}

const PATHS = {
  sun: "M12 7a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM12 1v3M12 20v3M1 12h3M20 12h3M4.2 4.2l2.1 2.1M17.7 17.7l2.1 2.1M4.2 19.8l2.1-2.1M17.7 6.3l2.1-2.1",
  key: "M15 9a6 6 0 1 0-5 5.9L12 17h2v2h2v2h4v-4l-5.2-5.2A6 6 0 0 0 15 9zM7 8h.01",
  play: "M7 4.5v15l12-7.5z",
  stop: "M6 6h12v12H6z",
  again: "M4 12a8 8 0 1 1 2.3 5.6M4 18v-5h5",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
  save: "M12 3v12M7 10l5 5 5-5M4 20h16",
  code: "M8 7l-5 5 5 5M16 7l5 5-5 5",
  pen: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  file: "M4 16v4h16v-4M12 16V4M7 9l5-5 5 5",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M9 15h.01M15 15h.01M12 12h.01",
  close: "M6 6l12 12M18 6L6 18",
  undo: "M8 5L3 10l5 5M3 10h11a6 6 0 0 1 0 12h-3",
  erase: "M4 16l9-9 7 7-6 6H8zM9 11l7 7",
  input: "M4 12h11M11 7l5 5-5 5M20 4v16",
};

export function icon(name) {
  return s("svg", { viewBox: "0 0 24 24", class: "i", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
}

/** A button with an icon and perhaps a text; without a text it needs a label. */
export function button(text, { icon: name, label, ...attributes } = {}, onclick = undefined) {
  const attrs = { type: "button", onclick, "aria-label": label, title: label, ...attributes };
  return h("button", attrs, name ? icon(name) : null, text ? h("span", {}, text) : null);
}

export function toast(message, kind = "note") {
  const note = h("div", { class: `toast ${kind}` }, message);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "error" ? 9000 : 4000);
}

/** A dialog of the page's; it is removed when it closes. `build(close)` gives its content. */
export function dialog(title, build, kind = "") {
  const id = `d${Math.random().toString(36).slice(2)}`;
  const element = h("dialog", { class: kind, "aria-labelledby": id });
  const close = () => element.close();
  const head = h("header", {}, h("h2", { id }, title), button("", { icon: "close", label: "Close", class: "quiet icon" }, close));
  element.append(head, build(close));
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}

export const debounce = (ms, call) => {
  let timer;
  return (...args) => (clearTimeout(timer), (timer = setTimeout(call, ms, ...args)));
};

/** A number in few characters. */
export function short(value) {
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || (size && size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(size >= 100 ? 5 : 4)));
}

export const words = (name) => name.replaceAll("_", " ");
export const titled = (name) => words(name).replace(/^./, (letter) => letter.toUpperCase());

export function ago(time) {
  const seconds = (Date.now() - new Date(time)) / 1000;
  for (const [span, unit] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (seconds >= span) return new Intl.RelativeTimeFormat("en", { style: "narrow" }).format(-Math.floor(seconds / span), unit);
  }
  return "just now";
}

export function seconds(value) {
  if (value < 1) return "less than a second";
  return value < 90 ? `${Math.round(value)} s` : value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}
