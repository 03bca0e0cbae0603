// One job: its progress, its results as they come, its refinement, and what can be done with it.
import { TERMINAL, follow, get, loaded, once, post, request, root, save, show } from "./api.js";
import { chart } from "./chart.js";
import { showCode } from "./code.js";
import { ago, button, dialog, h, seconds, short, titled, toast, words } from "./dom.js";
import { Film, Refinement } from "./refinement.js";

const FROM_THE_PICTURE = ["score", "denoise"]; // whose refinement starts from what was given

/** The request that a record holds, without what the server has filled in by itself. */
export function asked(record) {
  const body = {};
  for (const [name, value] of Object.entries(record.params)) {
    const plain = value !== null && !(name === "options" && !Object.keys(value).length) && !["priority", "webhook", "output_format"].includes(name);
    if (plain && value !== false) body[name] = value;
  }
  return record.params.refine === false ? { ...body, refine: false } : body;
}

export const recipeLink = (record) => `#/create/${record.model}/${record.task}?job=${record.id}`;

/** The view of a job; `stop()` ends what it follows. `onuse(blob)`: where a result can be taken as an input. */
export class JobView {
  constructor(record, { onended = () => {}, onuse = null } = {}) {
    Object.assign(this, { record, onended, onuse });
    this.film = new Film();
    this.refinement = new Refinement(this.film);
    this.leaving = new AbortController();
    this.status = h("div", { class: "status", role: "status" });
    this.meter = h("progress", { max: 1, "aria-label": "Progress" });
    this.grid = h("div", { class: "results" });
    this.about = h("div", {});
    this.actions = h("div", { class: "row wrap actions" });
    this.element = h("article", { class: "job" },
      h("header", {}, h("div", { class: "row wrap" }, h("h2", {}, titled(record.task)), h("span", { class: "tag" }, record.model), this.status), this.meter, this.actions),
      this.grid, this.refinement.element, this.about);
    once(`/v1/models/${record.model}`).then((card) => this.refinement.call(FROM_THE_PICTURE.includes(record.task) ? "Given" : card.tasks[record.task]?.limits.proposal === false ? "Start" : "Proposal"), () => {});
    this.draw();
    this.followed = this.follow();
  }

  stop() {
    this.leaving.abort();
  }

  get ended() {
    return TERMINAL.includes(this.record.status);
  }

  async follow() {
    const slow = setInterval(() => !this.ended && this.read().catch(() => {}), 3000); // for what events do not tell: the wait
    try {
      await follow(this.record.links.events, (name, data) => this.seen(name, data), this.leaving.signal);
      if (!this.leaving.signal.aborted) await this.read();
    } catch (error) {
      toast(error.message, "error");
    } finally {
      clearInterval(slow);
    }
  }

  async read() {
    const record = await get(`/v1/jobs/${this.record.id}`);
    if (this.leaving.signal.aborted) return;
    const ends = !this.finished && TERMINAL.includes(record.status);
    this.record = record;
    if (ends) await this.end();
    this.draw();
    if (ends) this.onended(record);
  }

  async seen(name, data) {
    if (name === "status") Object.assign(this.record, data);
    if (name === "progress") this.record.progress = data;
    if (name === "preview") {
      await this.film.add(data);
      if (this.leaving.signal.aborted) return;
      this.refinement.update();
      this.unfinished(data);
    }
    if (!this.finished) this.draw();
  }

  async end() {
    this.finished = true;
    const { steps, refine } = this.record.params;
    const shown = Math.max(refine === false ? 0 : steps || 0, ...this.film.frames.keys());
    await Promise.all(this.record.outputs.map(async (output, row) => {
      if (!output.url) return;
      const img = await loaded(output.url).catch(() => null);
      if (img) this.film.ends.set(row, { img, energy: output.energy });
    }));
    this.refinement.total = shown;
    this.refinement.update();
  }

  draw() {
    const { record } = this;
    const { status, progress } = record;
    this.element.dataset.status = status;
    const wait = record.wait_seconds === null || record.wait_seconds === undefined ? "" : `, about ${seconds(record.wait_seconds)}`;
    const ahead = record.queue_position ? `${record.queue_position} ahead${wait}` : `starts soon${wait}`;
    const took = record.finished_at && record.started_at ? ` in ${seconds((new Date(record.finished_at) - new Date(record.started_at)) / 1000)}` : "";
    const says = {
      queued: `Queued: ${ahead}`,
      running: record.cancel_requested ? "Stopping" : progress ? `${titled(progress.stage)} ${progress.step} of ${progress.steps}` : "Running",
      succeeded: `Done${took}`, failed: "Failed", cancelled: "Cancelled",
    }[status];
    const line = `${status} ${says}`;
    if (this.said !== line) this.status.replaceChildren(h("span", { class: `badge ${status}` }, says));
    this.said = line;
    this.meter.hidden = this.ended;
    if (progress?.steps && status === "running") this.meter.value = progress.step / progress.steps;
    else this.meter.removeAttribute("value");
    const key = `${status} ${record.cancel_requested}`;
    if (this.acts === key && !this.ended) return;
    this.acts = key;
    this.actions.replaceChildren(...this.deeds());
    if (!this.ended) return this.waiting();
    this.results();
    this.details();
  }

  deeds() {
    const { record } = this;
    const name = record.id;
    const take = async (accept, ending) => save(await (await request("GET", `/v1/jobs/${name}`, { headers: { Accept: accept } })).blob(), `${name}.${ending}`);
    const many = record.outputs.filter((output) => output.url).length;
    const careful = (deed) => () => deed().catch((error) => toast(error.message, "error"));
    return [
      this.ended ? null : button("Cancel", { icon: "stop", disabled: record.cancel_requested }, careful(async () => ((this.record = await post(record.links.cancel)), this.draw()))),
      h("a", { class: "button", href: recipeLink(record) }, "Again with these settings"),
      button("Code", { icon: "code", label: "Copy as code" }, () => showCode(`/v1/${record.task}`, asked(record))),
      many > 1 ? button("All", { icon: "save", label: "Download all as ZIP" }, careful(() => take("application/zip", "zip"))) : null,
      many > 1 ? button("Sheet", { icon: "grid", label: "Download a contact sheet" }, careful(() => take("image/png", "png"))) : null,
      this.ended ? button("Delete", { icon: "trash", class: "danger" }, careful(async () => {
        await request("DELETE", `/v1/jobs/${name}`);
        toast("Deleted.");
        this.element.dispatchEvent(new CustomEvent("deleted", { bubbles: true }));
      })) : null,
    ].filter(Boolean);
  }

  /** Empty places while nothing is there. */
  waiting() {
    if (this.grid.childElementCount) return;
    const count = Math.min(64, (this.record.params.n || 1) * (this.record.params.labels && this.record.task === "restyle" ? this.record.params.labels.length : 1));
    this.grid.replaceChildren(...Array.from({ length: count }, (_, k) => h("figure", { class: "blank" }, h("canvas", { class: "crisp", width: 1, height: 1, role: "img", "aria-label": `Image ${k + 1}, unfinished` }))));
  }

  unfinished({ step, rows }) {
    if (this.finished) return;
    for (const row of rows) {
      const place = this.grid.children[row];
      const canvas = place?.querySelector("canvas");
      if (canvas && this.film.paint(canvas, step, row)) place.classList.remove("blank");
    }
  }

  results() {
    const { record } = this;
    const shown = record.outputs.map((output, k) => (output.url ? this.figure(output, k) : this.numbers(output, k)));
    if (record.status === "failed") shown.unshift(h("p", { class: "failure", role: "alert" }, h("strong", {}, titled(record.error.kind)), " ", record.error.detail));
    this.grid.replaceChildren(...shown);
    this.grid.dataset.many = String(record.outputs.length > 1);
  }

  figure(output, k) {
    const label = `Result ${k + 1}: seed ${output.seed}`;
    const img = show(h("img", { class: "crisp", alt: label, width: output.width, height: output.height, loading: "lazy" }), output.url);
    const pick = () => {
      this.refinement.select(k);
      enlarged(output, label, this);
    };
    return h("figure", {}, h("button", { type: "button", class: "look", onclick: pick, "aria-label": `Enlarge result ${k + 1}` }, img),
      h("figcaption", {}, h("span", { title: `Seed ${output.seed}` }, output.energy === null ? `#${k + 1}` : `E ${short(output.energy)}`),
        button("", { icon: "save", label: `Download result ${k + 1}`, class: "quiet icon" }, async () => save(await (await request("GET", output.url)).blob(), `${this.record.id}-${k}.${this.record.params.output_format || "png"}`))));
  }

  /** An output without a picture: the numbers of `score`, of `embed`, or of an image that was lost. */
  numbers(output, k) {
    const rows = Object.entries({ energy: output.energy, ...output.extras }).filter(([, value]) => value !== null);
    if (!rows.length) return h("figure", { class: "lost" }, h("span", {}, "This one diverged."));
    return h("section", { class: "panel numbers", "aria-label": `Numbers of result ${k + 1}` }, rows.map(([name, value]) => extra(name, value)));
  }

  details() {
    const { record } = this;
    const inputs = Object.entries(record.params).flatMap(([name, value]) => (isPicture(value) ? [name] : Array.isArray(value) && value.every(isPicture) ? value.map((_, k) => `${name}.${k}`) : []));
    if (record.task === "inpaint" && !record.params.mask) inputs.push("mask"); // it was the picture's transparency
    const given = inputs.map((name) => {
      const figure = h("figure", {}, show(h("img", { class: "crisp", alt: `Given: ${name}`, loading: "lazy", onerror: () => figure.remove() }), `${root}/v1/jobs/${record.id}/inputs/${name}`), h("figcaption", {}, titled(name)));
      return figure;
    });
    const extras = record.outputs.filter((output) => output.url).flatMap((output, k) => Object.entries(output.extras).map(([name, value]) => [k, name, value]));
    this.about.replaceChildren(
      record.warnings.length ? h("ul", { class: "warnings" }, record.warnings.map((warning) => h("li", {}, warning))) : "",
      given.length ? h("section", { class: "panel" }, h("h3", {}, "Given"), h("div", { class: "given" }, given)) : "",
      extras.length ? h("details", { class: "panel", open: extras.length <= 8 }, h("summary", {}, "Further results"), h("div", { class: "extras" }, extras.map(([k, name, value]) => extra(record.outputs.length > 1 ? `${name}, ${k + 1}` : name, value)))) : "",
      h("details", { class: "panel" }, h("summary", {}, "Settings"), h("dl", {}, Object.entries({ ...record.params, ...record.params.options, created: ago(record.created_at), job: record.id }).filter(([name, value]) => value !== null && name !== "options").map(([name, value]) => [h("dt", {}, words(name)), h("dd", {}, told(value))]))));
  }
}

const isPicture = (value) => typeof value === "string" && /^(img_|sha256:|sample-)/.test(value);
const told = (value) => (typeof value === "object" ? Object.entries(value).map(([name, one]) => (Array.isArray(value) ? told(one) : one === 1 ? name : `${name} ${short(one)}`)).join(", ") : String(value));

/** A number, a curve, a picture or a file that a method gives beside its images. */
function extra(name, value) {
  if (typeof value === "string" && value.startsWith(`${root}/v1/`)) {
    const figure = h("figure", {}, show(h("img", { class: "crisp", alt: titled(name), loading: "lazy" }), value), h("figcaption", {}, titled(name)));
    figure.querySelector("img").addEventListener("error", () => figure.replaceChildren(h("a", { href: value, download: "" }, `Download ${words(name)}`)));
    return figure;
  }
  if (Array.isArray(value) && value.length > 2 && value.every((one) => typeof one === "number")) {
    return h("figure", { class: "wide" }, chart({ title: titled(name), unit: name.startsWith("trace") ? "step" : "place", lines: [{ points: value.map((one, k) => [k, one]), kind: "main" }] }), h("figcaption", {}, titled(name)));
  }
  return h("div", { class: "number" }, h("small", {}, titled(name)), h("strong", {}, typeof value === "object" ? told(value) : short(value)));
}

function enlarged(output, label, view) {
  dialog(label, (close) => h("div", { class: "enlarged" }, show(h("img", { class: "crisp", alt: label, width: output.width, height: output.height }), output.url),
    h("p", { class: "hint" }, `${output.width} x ${output.height} pixels · seed ${output.seed}${output.energy === null ? "" : ` · energy ${short(output.energy)}`}`),
    h("div", { class: "row end" }, view.onuse ? button("Use as input", { icon: "input" }, async () => (view.onuse(await (await request("GET", output.url)).blob()), close())) : null,
      button("Download", { icon: "save", class: "primary" }, async () => save(await (await request("GET", output.url)).blob(), `${view.record.id}.png`)))), "wide");
}
