// Choose a model and a task, fill in the form, watch the job.
import { get, json, once, post, request, show } from "./api.js";
import { showCode } from "./code.js";
import { button, h, s, titled, toast, words } from "./dom.js";
import { Form, samplesOnce } from "./form.js";
import { JobView } from "./job.js";
import { recipeIn } from "./pictures.js";

const LAST = "coopserve.last";
const ORDER = ["generate", "translate", "inpaint", "upscale", "colorize", "denoise", "restyle", "interpolate", "reconstruct", "score", "embed"];

export class Create {
  constructor() {
    this.models = h("div", { class: "models", role: "group", "aria-label": "Models" });
    this.tasks = h("div", { class: "tasks", role: "group", "aria-label": "Tasks" });
    this.place = h("div", {});
    this.about = h("p", { class: "hint" });
    this.settings = h("fieldset", { class: "plain" }, this.tasks, this.about, this.place);
    this.turn = 0; // of the last choice: an earlier one whose card comes later changes nothing
    this.error = h("p", { class: "failure", role: "alert", hidden: true });
    this.run = button("Run", { icon: "play", class: "primary run", disabled: true }, () => this.submit());
    const file = h("input", { type: "file", accept: "image/png", class: "hidden-file", tabindex: "-1", "aria-label": "A picture of this server to repeat", onchange: () => this.repeat(file.files[0]) });
    this.form = null;
    this.stage = h("section", { class: "stage-panel", "aria-label": "Results" }, this.welcome());
    this.element = h("div", { class: "create" },
      h("h1", { class: "hidden" }, "Create"), this.models,
      h("div", { class: "columns" },
        h("section", { class: "side", "aria-label": "Settings" }, this.settings, this.error,
          h("div", { class: "go" }, this.run, button("Code", { icon: "code", label: "Copy as curl, Python or JavaScript" }, () => this.code()),
            button("Repeat", { icon: "again", label: "Repeat a picture of this server: choose its file, or drop it on the page" }, () => file.click()), file)),
        this.stage));
    this.element.addEventListener("deleted", () => (sessionStorage.removeItem(LAST), this.view.stop(), this.stage.replaceChildren(this.welcome())));
    this.element.addEventListener("keydown", (event) => event.key === "Enter" && (event.ctrlKey || event.metaKey) && this.submit());
  }

  welcome() {
    const cells = Array.from({ length: 49 }, (_, k) => s("rect", { x: k % 7, y: Math.floor(k / 7), width: 0.9, height: 0.9, rx: 0.15, class: `c${(k * 37 + ((k * k) % 11)) % 5}` }));
    return h("div", { class: "welcome" }, s("svg", { viewBox: "0 0 7 7", "aria-hidden": "true" }, cells), h("h2", {}, "Propose, then refine"),
      h("p", {}, "Choose a model, press Run, and watch how a quick proposal is refined step by step. Drop a picture that this server has made anywhere on the page to make it again."));
  }

  async open([ref, task], query) {
    const listed = await json("GET", "/v1/models?view=summary");
    this.list = listed.items.filter((model) => model.available);
    this.cards();
    if (!this.list.length) return this.about.replaceChildren("This server has no models yet: train one.");
    const first = this.list.find((model) => model.tasks.includes("generate")) || this.list[0];
    const before = JSON.parse(sessionStorage.getItem("coopserve.choice") || "null");
    const wanted = ref || before?.ref;
    const model = this.list.find((one) => one.ref === wanted || one.ref.split("@")[0] === wanted) || first;
    const chosen = await this.choose(model.ref, ref ? task : before?.task);
    const again = query.get("job");
    if (again && chosen) await this.again(again);
    const last = again || sessionStorage.getItem(LAST);
    if (last) await get(`/v1/jobs/${last}`).then((record) => this.watch(record), () => sessionStorage.removeItem(LAST));
  }

  close() {
    this.turn += 1;
    this.view?.stop();
  }

  cards() {
    const newest = this.list.filter((model, k) => k === this.list.findIndex((other) => other.ref.split("@")[0] === model.ref.split("@")[0]) || model.ref === this.ref);
    this.models.replaceChildren(...newest.map((model) => {
      const [name, version] = model.ref.split("@");
      const face = model.picture ? show(h("img", { class: "crisp", alt: "", width: 72, height: 72, loading: "lazy" }), model.picture) : emblem(name);
      return h("button", { type: "button", class: "model", "data-ref": model.ref, "aria-pressed": "false", onclick: () => this.pick(model.ref) },
        face, h("span", { class: "name" }, name, version === "1" ? null : h("small", {}, ` v${version}`)),
        h("small", {}, `${model.image.width}x${model.image.height} ${model.image.channels === 1 ? "grey" : "colour"}`),
        h("small", { class: "can" }, model.tasks.map(words).join(", ")));
    }));
  }

  /** A card was pressed. The form of the model that is chosen already stays as it is filled in. */
  pick(ref) {
    if (ref !== this.ref) return this.choose(ref).catch((error) => toast(error.message, "error"));
    this.turn += 1;
    this.usable();
  }

  usable() {
    this.settings.disabled = false;
    this.run.disabled = !this.form;
  }

  /** Draw the form of a model. Gives whether it did: a later choice wins. Meanwhile nobody can fill in the form that goes. */
  async choose(ref, task = null) {
    const turn = (this.turn += 1);
    this.settings.disabled = this.run.disabled = true;
    try {
      const [card, document, samples] = await Promise.all([once(`/v1/models/${ref}`), once("/openapi.json"), samplesOnce()]);
      if (turn !== this.turn) return false;
      Object.assign(this, { ref, card, document, samples });
    } finally {
      if (turn === this.turn) this.usable();
    }
    if (!this.models.querySelector(`[data-ref="${CSS.escape(ref)}"]`)) this.cards();
    for (const one of this.models.children) one.setAttribute("aria-pressed", String(one.dataset.ref === ref));
    const chosen = this.models.querySelector("[aria-pressed=true]");
    if (chosen) this.models.scrollLeft = Math.max(0, chosen.offsetLeft + chosen.offsetWidth / 2 - this.models.clientWidth / 2);
    const tasks = Object.keys(this.card.tasks).sort((a, b) => (ORDER.indexOf(a) + 99) % 99 - ((ORDER.indexOf(b) + 99) % 99));
    this.tasks.replaceChildren(...tasks.map((name) => h("button", { type: "button", class: "chip", "data-task": name, onclick: () => name !== this.task && this.build(name) }, titled(name))));
    this.build(tasks.includes(task) ? task : tasks.includes(this.task) ? this.task : tasks[0]);
    return true;
  }

  build(task) {
    this.task = task;
    sessionStorage.setItem("coopserve.choice", JSON.stringify({ ref: this.ref, task }));
    history.replaceState(null, "", `#/create/${this.ref}/${task}`);
    for (const one of this.tasks.children) one.setAttribute("aria-pressed", String(one.dataset.task === task));
    const operation = this.document.paths[`/v1/${task}`].post;
    const schema = this.document.components.schemas[operation.requestBody.content["application/json"].schema.$ref.split("/").pop()];
    this.about.textContent = `${operation.summary.replaceAll("`n`", "several").replaceAll("`", "")}.`;
    this.form = new Form({ card: this.card, task, schema, roles: operation["x-pictures"] || {}, samples: this.samples });
    this.place.replaceChildren(this.form.element);
    this.run.disabled = false;
    this.say("");
  }

  say(message) {
    this.error.hidden = !message;
    this.error.textContent = message;
  }

  async submit() {
    if (this.run.disabled) return;
    const { form, task } = this; // while pictures are sent, another may be chosen
    this.run.disabled = true;
    form.wrong(null);
    this.say("");
    try {
      const record = await post(`/v1/${task}`, await form.body(), { "Idempotency-Key": crypto.randomUUID?.() || String(Math.random()) });
      this.watch(record);
      if (matchMedia("(max-width: 900px)").matches) this.stage.scrollIntoView({ behavior: "smooth" });
    } catch (error) {
      this.say(form.wrong({ errors: [], ...error, message: error.message }));
      if (error.kind !== "unauthenticated" && !error.errors?.length) toast(error.message, "error");
    } finally {
      this.run.disabled = false;
    }
  }

  async code() {
    try {
      showCode(`/v1/${this.task}`, await this.form.body());
    } catch (error) {
      this.say(this.form.wrong({ errors: [], ...error, message: error.message }));
    }
  }

  watch(record) {
    this.view?.stop();
    sessionStorage.setItem(LAST, record.id);
    this.view = new JobView(record, { onuse: (blob) => this.use(blob) });
    this.stage.replaceChildren(this.view.element);
  }

  /** Take a result as the picture of this form, or of the first task that takes one. */
  use(blob) {
    const free = () => Object.values(this.form.pictures)[0]?.list[0];
    if (!free()) {
      const task = Object.keys(this.card.tasks).find((name) => this.document.paths[`/v1/${name}`].post["x-pictures"]);
      if (!task) return toast("No task of this model takes a picture; save it and choose another model.");
      this.build(task);
    }
    free().set({ blob, name: "result.png" });
    toast("It is the picture of the form now.");
  }

  async again(id) {
    const record = await get(`/v1/jobs/${id}`);
    await this.fill(record.params, (name) => `/v1/jobs/${id}/inputs/${name}`);
  }

  async fill(params, kept) {
    const { model, ...rest } = params;
    const missing = await this.form.fill(rest, kept);
    if (missing.length) toast(`Not in the file, so give it again: ${missing.join(", ")}.`);
  }

  /** A file dropped on the page: the request that made it is filled in, else it is the picture of the form. */
  async repeat(file) {
    if (!file) return;
    const recipe = await recipeIn(file);
    if (!recipe) {
      const free = Object.values(this.form?.pictures || {})[0]?.list.find((one) => !one.value);
      return free ? free.file(file) : toast("This file does not say how it was made: only PNG files of this server do.", "error");
    }
    const { task, ...params } = recipe;
    const there = this.list.find((model) => model.ref === params.model) || this.list.find((model) => model.ref.split("@")[0] === params.model.split("@")[0]);
    if (!there?.tasks.includes(task)) return toast(`This server has no model ${params.model} for ${task}.`, "error");
    if (!(await this.choose(there.ref, task))) return;
    await this.fill(params);
    toast(there.ref === params.model ? "Filled in as it was made. Press Run to make it again." : `Filled in, for ${there.ref}: ${params.model} is not here any more.`);
  }

  paste(file) {
    const free = Object.values(this.form?.pictures || {}).flatMap(({ list }) => list).find((one) => !one.value) || Object.values(this.form?.pictures || {})[0]?.list[0];
    if (free) free.file(file);
    else this.repeat(file);
  }
}

/** A picture for a model that has none, always the same for its name. */
export function emblem(name) {
  let seed = [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, 7);
  const next = () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 32;
  const hue = Math.floor(next() * 360);
  const cells = [];
  for (let y = 0; y < 6; y++) for (let x = 0; x < 3; x++) {
    if (next() < 0.5) continue;
    for (const at of [x, 5 - x]) cells.push(s("rect", { x: at + 1, y: y + 1, width: 1.02, height: 1.02, fill: `hsl(${hue + y * 14} 60% ${45 + y * 4}%)` }));
  }
  return s("svg", { viewBox: "0 0 8 8", class: "emblem", "aria-hidden": "true" }, s("rect", { width: 8, height: 8, fill: `hsl(${hue} 45% 90%)` }), cells);
}
