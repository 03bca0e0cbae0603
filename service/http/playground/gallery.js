// All jobs, newest first; and one of them in full.
import { TERMINAL, get, post, request, show } from "./api.js";
import { ago, button, h, titled, toast } from "./dom.js";
import { JobView, recipeLink } from "./job.js";

export class Gallery {
  constructor() {
    this.cards = new Map();
    this.grid = h("div", { class: "gallery" });
    this.empty = h("p", { class: "hint", hidden: true }, "Nothing yet. What you run is kept here until it expires.");
    this.more = button("Older jobs", { hidden: true }, () => this.load(this.next));
    const all = ["", "running", "queued", "succeeded", "failed", "cancelled"];
    this.filter = h("div", { class: "chips", role: "group", "aria-label": "Which jobs" }, all.map((status) => h("button", { type: "button", class: "chip", "data-status": status, "aria-pressed": String(!status), onclick: () => this.only(status) }, status ? titled(status) : "All")));
    this.status = "";
    this.element = h("div", { class: "page" }, h("div", { class: "row wrap" }, h("h1", {}, "Jobs"), this.filter), this.empty, this.grid, this.more);
  }

  async open() {
    await this.load();
    this.timer = setInterval(() => this.refresh().catch(() => {}), 2000);
  }

  close() {
    clearInterval(this.timer);
  }

  only(status) {
    this.status = status;
    for (const chip of this.filter.children) chip.setAttribute("aria-pressed", String(chip.dataset.status === status));
    this.cards.clear();
    this.grid.replaceChildren();
    this.load();
  }

  async page(cursor) {
    const query = new URLSearchParams({ limit: 24, ...(this.status ? { status: this.status } : {}), ...(cursor ? { cursor } : {}) });
    return get(`/v1/jobs?${query}`);
  }

  async load(cursor = null) {
    const { items, next } = await this.page(cursor);
    items.forEach((record) => this.put(record, false));
    Object.assign(this, { next });
    this.more.hidden = !next;
    this.empty.hidden = this.cards.size > 0;
  }

  /** New jobs, and news of those that have not ended. */
  async refresh() {
    const { items } = await this.page(null);
    [...items].reverse().forEach((record) => this.put(record, true));
    this.empty.hidden = this.cards.size > 0;
  }

  put(record, first) {
    const old = this.cards.get(record.id);
    const state = `${record.status} ${record.progress?.step} ${record.queue_position} ${record.cancel_requested}`;
    if (old?.state === state) return;
    const element = this.card(record);
    if (old) old.element.replaceWith(element);
    else if (first) this.grid.prepend(element);
    else this.grid.append(element);
    this.cards.set(record.id, { state, element });
  }

  card(record) {
    const ended = TERMINAL.includes(record.status);
    const pictures = record.outputs.filter((output) => output.url).slice(0, 4);
    const number = record.outputs[0]?.energy;
    const inside = pictures.length
      ? pictures.map((output) => show(h("img", { class: "crisp", alt: "", loading: "lazy" }), output.url))
      : h("span", { class: "none" }, number !== undefined && number !== null ? String(Math.round(number * 100) / 100) : { queued: "waiting", running: "working", failed: "failed", cancelled: "cancelled" }[record.status] || "numbers");
    const careful = (deed) => () => deed().catch((error) => toast(error.message, "error"));
    const what = `${titled(record.task)}, ${record.model}`;
    const progress = record.progress?.steps ? record.progress.step / record.progress.steps : null;
    const card = h("article", { class: "card", "data-status": record.status },
      h("a", { class: "mosaic", "data-count": pictures.length, href: `#/jobs/${record.id}`, "aria-label": `Open ${what}` }, inside),
      h("div", { class: "words" }, h("strong", {}, titled(record.task)), h("small", {}, record.model),
        h("div", { class: "row" }, h("span", { class: `badge ${record.status}` }, titled(record.status)), h("small", {}, ago(record.created_at)))),
      record.status === "running" ? h("progress", { max: 1, value: progress, "aria-label": "Progress" }) : null,
      h("div", { class: "row deeds" },
        h("a", { class: "button quiet", href: recipeLink(record), "aria-label": `Again: ${what}` }, "Again"),
        ended ? null : button("Cancel", { class: "quiet", disabled: record.cancel_requested }, careful(async () => this.put(await post(record.links.cancel), false))),
        ended ? button("", { icon: "trash", class: "quiet icon", label: `Delete ${what}` }, careful(async () => {
          await request("DELETE", `/v1/jobs/${record.id}`);
          this.cards.delete(record.id);
          card.remove();
        })) : null));
    return card;
  }
}

export class OneJob {
  constructor() {
    this.element = h("div", { class: "page" }, h("a", { class: "back", href: "#/jobs" }, "All jobs"));
    this.element.addEventListener("deleted", () => (location.hash = "#/jobs"));
  }

  async open([id]) {
    this.view = new JobView(await get(`/v1/jobs/${id}`));
    this.element.append(h("h1", { class: "hidden" }, "Job"), this.view.element);
  }

  close() {
    this.view?.stop();
  }
}
