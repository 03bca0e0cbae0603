// How the page talks to the server: requests, events, uploads, and pictures under keys.

/** The path under which a proxy shows the server; '' at the root. Addresses in answers begin with it already. */
export const root = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
export const SIGNED = 3600;
export const TERMINAL = ["succeeded", "failed", "cancelled"];

let asked = null; // what to do when a key is needed
export const onUnauthenticated = (call) => (asked = call);

export const key = () => sessionStorage.getItem("coopserve.key") || "";
export function setKey(value) {
  if (value) sessionStorage.setItem("coopserve.key", value);
  else sessionStorage.removeItem("coopserve.key");
}

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `The server answered ${status}.`);
    Object.assign(this, { status, kind: (document.type || "").split("/").pop(), remedy: document.remedy, errors: document.errors || [] });
  }
}

const full = (path) => (path.startsWith("/v1/") || path.startsWith("/v2/") || path === "/openapi.json" ? root + path : path);
const auth = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

export async function request(method, path, { body, form, headers = {}, signal } = {}) {
  const typed = body === undefined ? {} : { "Content-Type": "application/json" };
  const sent = { method, signal, headers: { ...auth(), ...typed, ...headers }, body: form ?? (body === undefined ? undefined : JSON.stringify(body)) };
  let answer;
  try {
    answer = await fetch(full(path), sent);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server can't be reached." });
  }
  if (answer.ok) return answer;
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  if (answer.status === 401 && asked) asked(problem);
  throw problem;
}

export const json = async (method, path, options) => (await request(method, path, options)).json();
const mark = (path) => (path.includes("?") ? "&" : "?");
/** Read a record or list; under a key its pictures' addresses come signed. */
export const get = (path, options) => json("GET", key() ? `${path}${mark(path)}signed=${SIGNED}` : path, options);
export const post = (path, body, headers) => json("POST", path, { body, headers });

export async function upload(blob, name = "picture.png") {
  const form = new FormData();
  form.append("file", blob, name);
  return json("POST", "/v1/images", { form });
}

/** Follow a record's events to its end. A stream that breaks is resumed after the last event that came. */
export async function follow(path, seen, signal) {
  let last = "";
  let wait = 300;
  while (!signal.aborted) {
    try {
      const query = key() ? `${mark(path)}signed=${SIGNED}` : "";
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const answer = await request("GET", path + query, { headers, signal });
      if (answer.status === 204) return;
      for await (const event of eventsOf(answer.body)) {
        wait = 300;
        if (event.id) last = event.id;
        const data = JSON.parse(event.data);
        seen(event.name, data);
        if (event.name === "status" && TERMINAL.includes(data.status)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status >= 400 && error.status < 500 && error.status !== 429) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(wait * 2, 5000);
  }
}

async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", data: "", id: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      if (!line) {
        if (event.data) yield event;
        event = { name: "message", data: "", id: "" };
        continue;
      }
      const [, field, text] = /^([^:]*):? ?(.*)$/.exec(line);
      if (field === "event") event.name = text;
      else if (field === "data") event.data += text;
      else if (field === "id") event.id = text;
    }
  }
}

const blobs = new Map(); // address without its query -> address of a copy in the page

/** An address that an <img> can show: under a key, a copy of what only requests with the key may see. */
export async function shown(url) {
  if (!url || !key() || /[?&]signature=/.test(url) || !url.startsWith("/")) return full(url);
  if (!blobs.has(url)) {
    const copy = request("GET", url).then((answer) => answer.blob()).then((blob) => URL.createObjectURL(blob));
    blobs.set(url, copy);
    copy.catch(() => blobs.delete(url));
  }
  return blobs.get(url);
}

/** Show a picture of the server's in an <img>. */
export function show(img, url) {
  shown(url).then((address) => (img.src = address), () => img.dispatchEvent(new Event("error")));
  return img;
}

export async function loaded(url) {
  const img = new Image();
  img.src = await shown(url);
  await img.decode();
  return img;
}

export async function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const kept = new Map();
/** What changes rarely, asked for once: a card, the document of the API. */
export function once(path) {
  if (!kept.has(path)) kept.set(path, json("GET", path).catch((error) => (kept.delete(path), Promise.reject(error))));
  return kept.get(path);
}
export const forgetAll = () => kept.clear();
