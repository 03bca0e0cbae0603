// Trainings: started from a form or from uploaded data, watched by their curves and sheets.
import { TERMINAL, follow, get, json, loaded, post, request, root } from "./api.js";
import { chart } from "./chart.js";
import { showCode } from "./code.js";
import { ago, button, h, short, titled, toast, words } from "./dom.js";
import { line, number, select } from "./form.js";

const careful = (deed) => (...args) => deed(...args).catch((error) => toast(error.message, "error"));

export class Train {
  constructor() {
    this.list = h("div", { class: "rows" });
    this.place = h("div", { class: "stack" });
    this.element = h("div", { class: "page" }, h("h1", {}, "Train"), h("div", { class: "columns" }, h("section", { class: "side", "aria-label": "A new training" }, this.place), h("section", { "aria-label": "Trainings" }, h("h2", {}, "Trainings"), this.list)));
  }

  async open() {
    const [data, presets] = await Promise.all([json("GET", "/v1/datasets"), json("GET", "/v1/presets")]);
    Object.assign(this, { data: data.items, presets: presets.items });
    this.build();
    await this.refresh();
    this.timer = setInterval(() => this.refresh().catch(() => {}), 3000);
  }

  close() {
    clearInterval(this.timer);
  }

  build() {
    const usable = this.data.filter((one) => one.available);
    const systems = [...new Set(this.presets.map((one) => one.system))];
    const fields = {
      data: select("Data", "", usable.map((one) => one.name), usable.find((one) => one.source === "uploaded")?.name || usable[0]?.name),
      system: select("Method", "", systems, systems[0]),
      preset: select("Preset", "", ["small"], "small"),
      name: line("Name of the model", "Small letters, digits and hyphens.", "my-model", { required: true }),
      iterations: number({ label: "Updates", hint: "Empty: as the preset says.", low: 1, high: 100_000_000, step: 1 }),
      batch_size: number({ label: "Images an update", low: 1, high: 65536, step: 1 }),
      image_size: number({ label: "Resize to a side of", hint: "Empty: images stay as they are.", low: 1, high: 4096, step: 1 }),
      channels: select("Colours", "", ["1", "3"]),
      seed: number({ label: "Seed", low: 0, step: 1 }),
    };
    Object.entries(fields).forEach(([name, field]) => (field.element.dataset.field = name));
    fields.channels.input.options[1].text = "grey";
    fields.channels.input.options[2].text = "colour";
    const about = h("p", { class: "hint" });
    const describe = () => {
      const data = this.data.find((one) => one.name === fields.data.read());
      const preset = this.presets.find((one) => one.system === fields.system.read() && one.preset === fields.preset.read());
      const shape = data?.width ? `${data.width}x${data.height} ${data.channels === 1 ? "grey" : "colour"}` : "";
      const needs = preset ? `The preset takes ${preset.needs_pairs ? "pairs" : preset.kind === "domains" ? "two domains" : preset.needs_classes ? "images with classes" : "images"}, ${preset.sizes.least === preset.sizes.greatest ? preset.sizes.least : `${preset.sizes.least} to ${preset.sizes.greatest}`} pixels a side, ${preset.channels.map((c) => (c === 1 ? "grey" : "colour")).join(" or ")}.` : "";
      about.textContent = `${data ? `${data.images ?? "?"} images${data.classes ? ` in ${Object.keys(data.classes).length} classes` : ""} ${shape}. ` : ""}${needs}`;
    };
    const offer = () => {
      const names = this.presets.filter((one) => one.system === fields.system.read()).map((one) => one.preset);
      fields.preset.input.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      describe();
    };
    [fields.data, fields.preset].forEach((field) => field.input.addEventListener("change", describe));
    fields.system.input.addEventListener("change", offer);
    const settings = h("textarea", { rows: 2, placeholder: "refinement.steps=10", "aria-label": "Settings of the method, one NAME=VALUE a line" });
    const error = h("p", { class: "failure", role: "alert", hidden: true });
    const file = h("input", { type: "file", accept: ".zip,.npz", class: "hidden-file", tabindex: "-1", "aria-label": "A data set as zip or npz", onchange: careful(() => this.upload(file.files[0])) });
    const body = () => {
      const given = Object.entries(fields).map(([name, field]) => [name, name === "channels" && field.read() ? Number(field.read()) : field.read()]);
      const overrides = Object.fromEntries(settings.value.split("\n").filter((one) => one.includes("=")).map((one) => [one.split("=")[0].trim(), parsed(one.slice(one.indexOf("=") + 1).trim())]));
      return { ...Object.fromEntries(given.filter(([, value]) => value !== null)), ...(Object.keys(overrides).length ? { overrides } : {}) };
    };
    const start = async () => {
      error.hidden = true;
      try {
        const record = await post("/v1/trainings", body(), { "Idempotency-Key": crypto.randomUUID?.() || String(Math.random()) });
        location.hash = `#/train/${record.id}`;
      } catch (problem) {
        error.hidden = false;
        error.textContent = problem.message;
      }
    };
    offer();
    this.place.replaceChildren(h("h2", {}, "New training"), fields.data.element,
      h("div", { class: "row wrap small" }, button("Upload data", { icon: "file", label: "Upload a zip of folders of pictures, or an npz archive" }, () => file.click()), file),
      fields.system.element, fields.preset.element, about, fields.name.element, fields.iterations.element,
      h("details", {}, h("summary", {}, "More settings"), fields.batch_size.element, fields.image_size.element, fields.channels.element, fields.seed.element, h("div", { class: "field" }, h("div", { class: "label" }, "Settings of the method"), settings)),
      error, h("div", { class: "go" }, button("Start training", { icon: "play", class: "primary run" }, start), button("Code", { icon: "code" }, () => showCode("/v1/trainings", body()))));
  }

  async upload(file) {
    if (!file) return;
    const form = new FormData();
    form.append("file", file, file.name);
    const found = await json("POST", "/v1/datasets", { form });
    toast(`${found.name}: ${found.images} images${found.left_out.length ? `. ${found.left_out.join(" ")}` : ""}`);
    this.data = (await json("GET", "/v1/datasets")).items;
    this.build();
    const chosen = this.place.querySelector("[data-field=data] select");
    chosen.value = found.name;
    chosen.dispatchEvent(new Event("change"));
  }

  async refresh() {
    const { items } = await get("/v1/trainings?limit=50");
    const key = JSON.stringify(items.map((one) => [one.id, one.status, one.progress?.step, one.samples.length]));
    if (key === this.key) return;
    this.key = key;
    if (!items.length) return this.list.replaceChildren(h("p", { class: "hint" }, "None yet. A new model appears among the models as soon as its training has ended."));
    this.list.replaceChildren(...items.map((record) => {
      const { progress } = record;
      return h("a", { class: "training", href: `#/train/${record.id}` }, h("strong", {}, record.params.name), h("small", {}, `${record.params.system}, ${record.params.preset} on ${record.params.data}`),
        h("span", { class: `badge ${record.status}` }, titled(record.status)), h("small", {}, progress ? `${progress.step} of ${progress.steps}` : ago(record.created_at)),
        record.status === "running" && progress ? h("progress", { max: progress.steps, value: progress.step, "aria-label": "Progress" }) : null);
    }));
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

export class OneTraining {
  constructor() {
    this.leaving = new AbortController();
    this.head = h("header", {});
    this.curves = h("div", { class: "curves" });
    this.sheet = h("img", { alt: "", class: "sheet" });
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Sheet of samples", oninput: () => this.show() });
    this.where = h("output", {});
    this.samples = h("section", { class: "panel", hidden: true }, h("div", { class: "row" }, h("h3", {}, "Samples"), this.where), this.slider, this.sheet);
    this.notes = h("ul", { class: "warnings", hidden: true });
    this.element = h("div", { class: "page" }, h("a", { class: "back", href: "#/train" }, "All trainings"), h("article", { class: "job" }, this.head, this.notes, this.samples, this.curves));
    this.points = new Map();
  }

  async open([id]) {
    this.id = id;
    await this.read();
    follow(this.record.links.events, (name, data) => this.seen(name, data), this.leaving.signal).then(() => !this.leaving.signal.aborted && this.read(), (error) => toast(error.message, "error"));
  }

  close() {
    this.leaving.abort();
  }

  async read() {
    const [record, history] = await Promise.all([get(`/v1/trainings/${this.id}`), json("GET", `/v1/trainings/${this.id}/metrics`)]);
    this.record = record;
    this.sheets = [...record.samples];
    this.points.clear();
    history.items.forEach(({ iteration, metrics }) => this.note(iteration, metrics));
    this.draw();
    this.plot();
    this.show(true);
  }

  note(iteration, metrics) {
    for (const [name, value] of Object.entries(metrics)) {
      if (typeof value !== "number" || ["seconds", "iteration"].includes(name)) continue;
      const points = this.points.get(name) || this.points.set(name, []).get(name);
      if (!points.length || points.at(-1)[0] < iteration) points.push([iteration, value]);
    }
  }

  seen(name, data) {
    if (name === "status") Object.assign(this.record, data);
    if (name === "progress") this.record.progress = data;
    if (name === "metrics") this.note(data.iteration ?? this.record.progress?.step ?? 0, data), this.plot();
    if (name === "warning" && !this.record.warnings.includes(data.message)) this.record.warnings.push(data.message);
    if (name === "sample" && !this.sheets.some((url) => url.split("?")[0] === data.url.split("?")[0])) this.sheets.push(data.url), this.show(true);
    this.draw();
  }

  draw() {
    const { record } = this;
    const { status, progress, params } = record;
    const ended = TERMINAL.includes(status);
    const cancel = careful(async () => ((this.record = await post(record.links.cancel)), this.draw()));
    this.head.replaceChildren(h("div", { class: "row wrap" }, h("h1", {}, params.name), h("span", { class: "tag" }, `${params.system}, ${params.preset} on ${params.data}`), h("span", { class: `badge ${status}`, role: "status" }, progress && !ended ? `${titled(status)}: ${progress.step} of ${progress.steps}` : titled(status))),
      ended ? "" : h("progress", { "aria-label": "Progress", max: progress?.steps || 1, value: progress?.step }),
      h("div", { class: "row wrap actions" }, ended ? null : button("Cancel", { icon: "stop", disabled: record.cancel_requested }, cancel),
        record.model ? h("a", { class: "button primary", href: `#/create/${record.model}` }, `Use ${record.model}`) : null,
        button("Code", { icon: "code" }, () => showCode("/v1/trainings", Object.fromEntries(Object.entries(params).filter(([, value]) => value !== null && !(typeof value === "object" && !Object.keys(value).length))))),
        record.figure ? h("a", { class: "button", href: record.figure, target: "_blank", rel: "noopener" }, "Figure") : null),
      record.error ? h("p", { class: "failure", role: "alert" }, record.error.detail) : "");
    this.notes.hidden = !record.warnings.length;
    this.notes.replaceChildren(...record.warnings.map((warning) => h("li", {}, warning)));
  }

  plot() {
    const shown = [...this.points].filter(([, points]) => points.length > 1).slice(0, 12);
    this.curves.replaceChildren(...shown.map(([name, points]) => h("figure", { class: "panel" }, h("figcaption", {}, titled(words(name)), h("small", {}, ` ${short(points.at(-1)[1])}`)), chart({ title: words(name), unit: "update", lines: [{ points: thinned(points), kind: "main" }] }))));
  }

  async show(newest = false) {
    this.samples.hidden = !this.sheets.length;
    if (!this.sheets.length) return;
    const follows = newest && Number(this.slider.value) >= Number(this.slider.max);
    this.slider.max = this.sheets.length - 1;
    this.slider.hidden = this.sheets.length < 2;
    if (follows) this.slider.value = this.slider.max;
    const url = this.sheets[Number(this.slider.value)];
    const after = url.split("?")[0].split("/").pop();
    this.where.textContent = `after ${after} updates`;
    this.slider.setAttribute("aria-valuetext", this.where.textContent);
    const img = await loaded(url).catch(() => null);
    if (img && url === this.sheets[Number(this.slider.value)]) Object.assign(this.sheet, { src: img.src, alt: `Samples ${this.where.textContent}` });
  }
}

const thinned = (points) => (points.length <= 400 ? points : points.filter((_, k) => k % Math.ceil(points.length / 400) === 0 || k === points.length - 1));
