// The form of a task: built from the model's card and from the API's own document of the task.
import { json } from "./api.js";
import { PictureField, earlier } from "./pictures.js";
import { button, h, titled, words } from "./dom.js";

const OF_THE_CARD = ["n", "refine", "steps", "step_size", "noise"];
const ASIDE = ["seed", "fit", "restore", "output_format", "priority", "max_queue_seconds"];
const OF_PICTURES = ["fit", "restore"];
const NEVER = ["model", "options", "webhook", "preview_every"];

/** Whether a model with this card can be told a field of a task. */
const APPLIES = {
  image: (card) => !card.surface,
  surface: (card) => card.surface,
  label: (card) => card.classes,
  labels: (card) => card.classes,
  seeds: (card) => !card.classes && !card.condition,
  images: (card) => card.condition || !card.classes,
  mix: (card) => card.condition,
  condition: (card) => card.condition,
  mask: (card, task) => task !== "score" || (card.tasks.inpaint && !card.tasks.generate),
};

export class Form {
  /** `schema`: of the task's request; `roles`: which fields are pictures; `samples`: pictures that the server has. */
  constructor({ card, task, schema, roles, samples }) {
    Object.assign(this, { card, task, ability: card.tasks[task], schema, roles, samples });
    this.fields = {};
    this.pictures = {};
    this.options = {};
    const own = Object.entries(schema.properties).filter(([name, field]) => this.told(name, field));
    const rank = (name) => (name in roles ? 0 : name.startsWith("label") ? 1 : 2);
    const main = own.filter(([name]) => !OF_THE_CARD.includes(name) && !ASIDE.includes(name)).sort(([a], [b]) => rank(a) - rank(b));
    this.element = h("div", { class: "fields" },
      main.map(([name, field]) => this.row(name, field)),
      this.limited("n", "How many"),
      this.refinement(),
      this.method(),
      h("details", {}, h("summary", {}, "More settings"),
        own.filter(([name]) => ASIDE.includes(name) && (!OF_PICTURES.includes(name) || Object.keys(this.pictures).length)).map(([name, field]) => this.row(name, field)),
        this.put("watch", toggle("Watch the refinement", "Show the unfinished images while the job runs.", true))));
  }

  told(name, field) {
    return !field.deprecated && !NEVER.includes(name) && (!(name in APPLIES) || Boolean(APPLIES[name](this.card, this.task)));
  }

  put(name, field) {
    this.fields[name] = field;
    field.element.dataset.field = name;
    return field.element;
  }

  row(name, field) {
    if (name in this.roles) return this.pictureRow(name, field);
    const kind = plain(field);
    const hint = sentence(field.description);
    const label = titled(name);
    if (name === "label") return this.put(name, classes(this.card.classes, label, hint, { must: plain(field)["x-chosen"] }));
    if (name === "labels") return this.put(name, kind.minItems === 2 ? pair(label, (k) => picker(this.card.classes, `${k ? "To" : "From"}`)) : classes(this.card.classes, label, hint, { list: true }));
    if (/data URI/.test(field.description)) return this.put(name, attached(label, hint));
    if (kind.type === "array") return this.put(name, pair(label, (k) => number({ label: k ? "To" : "From", hint: "", low: kind.items.minimum, high: kind.items.maximum, step: 1 })));
    if (kind.enum) return this.put(name, select(label, hint, kind.enum, field.default));
    if (kind.type === "boolean") return this.put(name, toggle(label, hint, Boolean(field.default)));
    if (name === "seed") return this.put(name, seed(hint));
    if (kind.type === "integer" || kind.type === "number") {
      return this.put(name, { ...number({ label, hint, low: kind.minimum, high: kind.maximum, step: kind.type === "integer" ? 1 : "any", value: field.default }), absent: field.default });
    }
    return this.put(name, line(label, hint, field.default));
  }

  pictureRow(name, field) {
    const role = this.roles[name];
    const many = plain(field).type === "array" ? plain(field).minItems || 1 : 1;
    const hint = sentence(field.description);
    const optional = !(this.schema.required || []).includes(name);
    const list = Array.from({ length: many }, (_, k) => new PictureField({
      name: many > 1 ? `${name} ${k + 1}` : name, role, hint: many > 1 || role === "mask" ? "" : hint, optional, samples: this.samples,
      shape: () => this.shape(role), over: role === "mask" ? this.pictures.image?.list[0] : null,
    }));
    this.pictures[name] = { list, many: plain(field).type === "array" };
    return h("div", { class: many > 1 ? "two" : "" }, list.map((one) => one.element));
  }

  shape(role) {
    const { image, condition } = this.card;
    if (role === "condition") return condition || image;
    if (role !== "small") return image;
    const factor = Number(this.options.factor?.read() || 2);
    return { ...image, width: Math.max(1, Math.floor(image.width / factor)), height: Math.max(1, Math.floor(image.height / factor)) };
  }

  /** A field whose default and range the card tells; nothing where there is nothing to choose. */
  limited(name, label) {
    const { defaults, limits } = this.ability;
    const [low, high] = { n: [1, limits.chance === false ? 1 : limits.max_n], steps: [0, limits.max_steps], step_size: limits.step_size, noise: limits.noise }[name];
    const least = plain(this.schema.properties[name] || {}).minimum ?? low;
    if (!(name in this.schema.properties) || low >= high) return null;
    const hint = name === "steps" && limits.trained_steps ? `Trained with ${limits.trained_steps}.` : name === "noise" ? "What each step adds; pixels run from -1 to 1." : "";
    const value = name === "n" && this.task !== "interpolate" ? Math.max(defaults.n, Math.min(4, high)) : defaults[name];
    const step = name === "n" || name === "steps" ? 1 : (high - low) / 100;
    return this.put(name, { ...number({ label, hint, low: Math.max(low, least), high, step, value, slide: true }), absent: defaults[name] });
  }

  refinement() {
    const { limits, defaults } = this.ability;
    if (!limits.max_steps) return null;
    const refine = limits.proposal && "refine" in this.schema.properties && this.task !== "score"
      ? this.put("refine", toggle("Refine", "Off: the proposal of the fast network as it is.", defaults.refine)) : null;
    const steps = this.limited("steps", "Steps");
    const finer = [this.limited("step_size", "Step size"), this.limited("noise", "Noise")].filter(Boolean);
    const numbers = h("div", { class: "stack" }, steps, finer.length ? h("details", {}, h("summary", {}, "Step size and noise"), finer) : null);
    this.fields.refine?.element.addEventListener("change", () => (numbers.hidden = !this.fields.refine.read()));
    return h("fieldset", {}, h("legend", {}, "Refinement"), refine, numbers);
  }

  method() {
    const entries = Object.entries(this.ability.options || {});
    if (!entries.length) return null;
    const rows = entries.map(([name, option]) => {
      const hint = option.description.replaceAll("`", ""), label = titled(name);
      const field = option.type === "boolean" ? toggle(label, hint, option.default)
        : option.type === "string" ? select(label, hint, option.choices, option.default)
        : number({ label, hint, low: option.range[0], high: option.range[1], step: option.type === "integer" ? 1 : "any", value: option.default, slide: option.range[1] - option.range[0] <= 1000 });
      this.options[name] = field;
      field.element.dataset.field = `options.${name}`;
      return field.element;
    });
    const few = rows.length <= 3;
    return few ? h("fieldset", {}, h("legend", {}, "Method"), rows) : h("details", {}, h("summary", {}, `Method: ${rows.length} options`), rows);
  }

  /** How many steps will be shown: the refinement's, or those that the options cost. */
  shownSteps() {
    const steps = this.fields.refine?.read() === false ? 0 : Number(this.fields.steps?.read() ?? this.ability.defaults.steps);
    const value = (name) => Number(this.options[name].read());
    const costs = Object.entries(this.ability.options || {}).filter(([, option]) => option.cost);
    const own = costs.map(([name, { cost }]) => (cost.weight ?? 1) * ((cost.start ?? 0) + value(name)) * (cost.factors || []).reduce((all, factor) => all * value(factor), 1));
    return Math.max(steps, ...own, 0);
  }

  /** The body of the request; uploads pictures. */
  async body() {
    const body = { model: `${this.card.name}@${this.card.version}` };
    for (const [name, { list, many }] of Object.entries(this.pictures)) {
      const refs = (await Promise.all(list.map((one) => one.ref()))).filter(Boolean);
      if (refs.length) body[name] = many ? refs : refs[0];
    }
    for (const [name, field] of Object.entries(this.fields)) {
      const value = field.read();
      if (name !== "watch" && value !== null && value !== undefined && value !== "" && value !== field.absent) body[name] = value;
    }
    const options = {};
    for (const [name, field] of Object.entries(this.options)) {
      if (field.read() !== this.ability.options[name].default && field.read() !== null) options[name] = field.read();
    }
    if (Object.keys(options).length) body.options = options;
    if (this.fields.watch.read() && this.shownSteps()) body.preview_every = Math.max(1, Math.ceil(this.shownSteps() / 16));
    return body;
  }

  /** Fill in an earlier request. `kept(name)`: where a job keeps the picture of a field. Gives what could not be had. */
  async fill(params, kept = () => null) {
    const missing = [];
    const given = Object.entries(params).filter(([, value]) => value !== null);
    for (const [name, value] of given) { // all at once: what is typed while pictures come stays
      if (name === "options") Object.entries(value).forEach(([key, one]) => this.options[key]?.write(one));
      else this.fields[name]?.write(value);
    }
    this.fields.refine?.element.dispatchEvent(new Event("change"));
    for (const [name, value] of given.filter(([name, value]) => this.pictures[name] && value)) {
      const { list, many } = this.pictures[name];
      for (const [k, ref] of [value].flat().entries()) {
        const found = await earlier(ref, kept(many ? `${name}.${k}` : name));
        if (found) list[k]?.set(found);
        else missing.push(words(name));
      }
    }
    return missing;
  }

  /** Show what the server says is wrong, at the fields; gives what belongs to none. */
  wrong(problem) {
    this.element.querySelectorAll(".wrong").forEach((line) => ((line.hidden = true), (line.textContent = "")));
    if (!problem) return "";
    const rest = [];
    let first = null;
    for (const error of problem.errors) {
      const path = error.loc.filter((part) => part !== "body");
      const place = [path.slice(0, 2).join("."), String(path[0])].map((name) => this.element.querySelector(`[data-field="${CSS.escape(name)}"] .wrong, [data-field^="${CSS.escape(name)} "] .wrong`)).find(Boolean);
      if (!place) rest.push(error.msg);
      else {
        place.hidden = false;
        place.textContent = error.msg;
        for (let up = place.closest("details"); up; up = up.parentElement.closest("details")) up.open = true;
        first ??= place;
      }
    }
    first?.scrollIntoView({ block: "center" });
    return problem.errors.length ? rest.join(" ") : problem.message;
  }
}

// ---- the kinds of field: each has an element, read() and write(value)

let ids = 0;

function frame(label, hint, control, extra = null) {
  const id = `f${++ids}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}h`);
  return h("div", { class: "field" }, h("label", { for: id }, label), h("div", { class: "control" }, control, extra), hint ? h("p", { class: "hint", id: `${id}h` }, hint) : null, wrongLine());
}

const wrongLine = () => h("p", { class: "wrong", role: "alert", hidden: true });

export function number({ label, hint = "", low, high, step, value = null, slide = false }) {
  const range = { min: low, max: high };
  const input = h("input", { type: "number", inputmode: "decimal", step: step === 1 ? 1 : "any", ...range, ".value": value ?? "", placeholder: value === null || value === undefined ? "automatic" : undefined });
  const slider = slide ? h("input", { type: "range", ...range, step, ".value": value ?? low, "aria-label": label, oninput: () => (input.value = Number(Number(slider.value).toPrecision(6))) }) : null;
  input.addEventListener("input", () => slider && (slider.value = input.value));
  const write = (next) => ((input.value = next ?? ""), slider && (slider.value = next));
  return { element: frame(label, hint, input, slider), read: () => (input.value === "" ? null : Number(input.value)), write };
}

export function select(label, hint, choices, value) {
  const input = h("select", {}, value === undefined || value === null ? h("option", { value: "" }, "automatic") : null, choices.map((choice) => h("option", { value: choice, selected: choice === value }, words(String(choice)))));
  return { element: frame(label, hint, input), read: () => input.value || null, write: (next) => (input.value = next ?? ""), input, absent: value };
}

export function toggle(label, hint, value) {
  const input = h("input", { type: "checkbox", role: "switch", ".checked": Boolean(value) });
  const id = (input.id = `f${++ids}`);
  const element = h("div", { class: "field switch" }, input, h("label", { for: id }, label), hint ? h("p", { class: "hint" }, hint) : null, wrongLine());
  return { element, read: () => input.checked, write: (next) => (input.checked = Boolean(next)), absent: Boolean(value) };
}

export function line(label, hint, value, attributes = {}) {
  const input = h("input", { type: "text", ".value": value ?? "", autocomplete: "off", ...attributes });
  return { element: frame(label, hint, input), read: () => input.value.trim() || null, write: (next) => (input.value = next ?? ""), input };
}

function seed(hint) {
  const field = number({ label: "Seed", hint, low: 0, step: 1 });
  field.element.querySelector(".control").append(button("", { icon: "dice", label: "Another seed", class: "icon" }, () => field.write(Math.floor(Math.random() * 2 ** 32))));
  return field;
}

/** Any other file, sent as a data URI; or an id. */
function attached(label, hint) {
  const field = line(label, hint);
  const input = h("input", { type: "file", "aria-label": `File for ${label}` });
  input.addEventListener("change", () => {
    const reader = new FileReader();
    reader.onload = () => field.write(reader.result);
    if (input.files[0]) reader.readAsDataURL(input.files[0]);
  });
  field.element.querySelector(".control").append(input);
  return field;
}

const picker = (names, label) => {
  const field = select(label, "", names, label === "To" ? names.at(-1) : names[0]);
  return { ...field, write: (next) => field.write(heaviest(next)) };
};
const heaviest = (label) => (label && typeof label === "object" ? Object.entries(label).sort((a, b) => b[1] - a[1])[0][0] : label);

function pair(label, make) {
  const ends = [make(0), make(1)];
  const read = () => (ends.some((end) => end.read() === null) ? null : ends.map((end) => end.read()));
  return { element: h("div", { class: "field", role: "group", "aria-label": label }, h("div", { class: "label" }, label), h("div", { class: "two" }, ends.map((end) => end.element)), wrongLine()), read, write: (next) => next.forEach((one, k) => ends[k].write(one)) };
}

/** Classes by name. One, or several: as a mix with weights, or with `list` one after another. With `must` none is no choice. */
function classes(names, label, hint, { list = false, must = false } = {}) {
  const weights = new Map();
  const chips = h("div", { class: "chips", role: "group", "aria-label": label });
  const bars = h("div", { class: "mix" });
  const drawAll = () => {
    chips.querySelectorAll("button").forEach((chip) => chip.setAttribute("aria-pressed", String(weights.has(chip.textContent))));
    if (!must) chips.firstElementChild.setAttribute("aria-pressed", String(!weights.size));
    const mixed = !list && weights.size > 1;
    bars.replaceChildren(...(mixed ? [...weights].map(([name, weight]) => h("label", {}, name, h("input", { type: "range", min: 0.05, max: 1, step: 0.05, ".value": weight, "aria-label": `Weight of ${name}`, oninput: (event) => weights.set(name, Number(event.target.value)) }))) : []));
  };
  chips.append(
    ...(must ? [] : [h("button", { type: "button", class: "chip", onclick: () => (weights.clear(), drawAll()) }, list ? "All" : "Any")]),
    ...names.map((name) => h("button", { type: "button", class: "chip", onclick: () => (weights.has(name) ? weights.delete(name) : weights.set(name, 1), drawAll()) }, name)));
  drawAll();
  const read = () => (!weights.size ? null : list ? [...weights.keys()] : weights.size === 1 ? [...weights.keys()][0] : Object.fromEntries(weights));
  const write = (next) => {
    weights.clear();
    const given = list ? next.map((one) => [heaviest(one), 1]) : Object.entries(typeof next === "object" && next ? next : { [next]: 1 });
    given.forEach(([name, weight]) => names.includes(name) && weights.set(name, weight));
    if (list && weights.size === names.length) weights.clear();
    drawAll();
  };
  const note = list ? hint : "Choose one, or several for a mix.";
  return { element: h("div", { class: "field" }, h("div", { class: "label" }, label), chips, bars, h("p", { class: "hint" }, note), wrongLine()), read, write };
}

// ---- schemas

/** The schema of a value that may also be null. */
export const plain = (field) => (field.anyOf ? { ...field, ...(field.anyOf.find((one) => one.type && one.type !== "null") || {}) } : field);

/** The first sentences of a description, without what the page shows by itself. */
function sentence(text = "") {
  const end = text.replace(/ ?The id of an image that was uploaded.*$/s, "").replaceAll("`", "");
  if (end.length < 20) return "";
  return end.length > 150 ? end.split(/(?<=\.) (?=[A-Z])/)[0] : end;
}

export const samplesOnce = (() => {
  let kept = null;
  return () => (kept ??= json("GET", "/v1/images").then((list) => list.items).catch(() => ((kept = null), [])));
})();
