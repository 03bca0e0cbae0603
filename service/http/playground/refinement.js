// The refinement of a job: a film strip with a slider over the steps, the energy beside it, and what it has changed.
import { loaded } from "./api.js";
import { chart } from "./chart.js";
import { h, short } from "./dom.js";

/** All previews of one job: pictures side by side in one file for each step, and the energy of each image. */
export class Film {
  constructor() {
    this.frames = new Map(); // step -> row -> {strip, place, energy}
    this.ends = new Map(); // row -> {img, energy}
  }

  /** Take a `preview` event. */
  async add({ step, rows, url, energies = [] }) {
    const strip = await loaded(url).catch(() => null);
    if (!strip) return;
    const frame = this.frames.get(step) || this.frames.set(step, new Map()).get(step);
    rows.forEach((row, place) => frame.set(row, { strip, place, count: rows.length, energy: energies[place] ?? null }));
  }

  steps(row) {
    return [...this.frames.keys()].filter((step) => this.frames.get(step).has(row)).sort((a, b) => a - b);
  }

  get rows() {
    return [...new Set([...this.frames.values()].flatMap((frame) => [...frame.keys()]))].sort((a, b) => a - b);
  }

  /** Paint an image of a step on a canvas, which gets its size. */
  paint(canvas, step, row) {
    const found = this.frames.get(step)?.get(row);
    if (!found) return false;
    const width = found.strip.naturalWidth / found.count, height = found.strip.naturalHeight;
    Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(found.strip, found.place * width, 0, width, height, 0, 0, width, height);
    return true;
  }
}

const picture = (label) => h("canvas", { class: "crisp", ...(label ? { role: "img", "aria-label": label } : { "aria-hidden": "true" }), width: 1, height: 1 });

/** The panel for one job. `update()` after each preview; `total`: how many steps there will be. */
export class Refinement {
  constructor(film) {
    this.film = film;
    this.row = 0;
    this.first = "Start";
    this.following = true;
    this.total = null;
    this.slider = h("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": "Step of the refinement" });
    this.slider.addEventListener("input", () => ((this.following = this.slider.value === this.slider.max), this.render()));
    this.strip = h("div", { class: "strip", role: "group", "aria-label": "Steps" });
    this.curve = h("div", { class: "curve" });
    this.where = h("output", {}, "");
    this.big = picture("The image at this step");
    this.trio = h("div", { class: "trio" });
    this.who = h("div", { class: "chips small" });
    this.element = h("section", { class: "panel refinement", hidden: true },
      h("header", { class: "row" }, h("h3", {}, "Refinement"), this.who),
      h("div", { class: "watch" }, h("div", { class: "stage" }, this.big, this.where), h("figure", {}, this.curve)),
      this.slider, this.strip, this.trio);
  }

  /** What this model begins with: a proposal, or a start that is none. */
  call(name) {
    this.first = name;
    this.compared = null;
    this.update();
  }

  select(row) {
    this.row = row;
    this.render();
  }

  get steps() {
    const steps = this.film.steps(this.row);
    return this.film.ends.has(this.row) && this.total !== null ? [...steps, "end"] : steps;
  }

  update() {
    const rows = this.film.rows;
    this.element.hidden = !rows.length;
    if (!rows.length) return;
    if (!rows.includes(this.row)) this.row = rows[0];
    this.slider.max = this.steps.length - 1;
    if (this.following) this.slider.value = this.slider.max;
    this.who.replaceChildren(...(rows.length > 1 ? rows.slice(0, 64).map((row) => h("button", { type: "button", class: "chip", "aria-pressed": String(row === this.row), "aria-label": `Image ${row + 1}`, onclick: () => this.select(row) }, String(row + 1))) : []));
    this.render();
  }

  render() {
    const steps = this.steps;
    if (!steps.length) return;
    this.who.querySelectorAll("button").forEach((chip) => chip.setAttribute("aria-pressed", String(Number(chip.textContent) === this.row + 1)));
    const k = Math.min(Number(this.slider.value), steps.length - 1);
    const step = steps[k];
    this.paint(this.big, step);
    const energy = this.energy(step);
    this.where.textContent = `${step === "end" ? "Result" : step === 0 ? "Start" : `Step ${step}`}${energy === null ? "" : ` · energy ${short(energy)}`}`;
    this.slider.setAttribute("aria-valuetext", this.where.textContent);
    this.big.setAttribute("aria-label", this.where.textContent);
    this.frames(steps, k);
    this.energies(step);
    this.compare(steps);
  }

  paint(canvas, step) {
    if (step !== "end") return this.film.paint(canvas, step, this.row);
    const { img } = this.film.ends.get(this.row);
    Object.assign(canvas, { width: img.naturalWidth, height: img.naturalHeight });
    canvas.getContext("2d").drawImage(img, 0, 0);
    return true;
  }

  energy(step) {
    return step === "end" ? this.film.ends.get(this.row).energy : this.film.frames.get(step).get(this.row).energy;
  }

  frames(steps, k) {
    const key = `${this.row} ${steps.join()}`;
    if (this.key !== key) {
      this.key = key;
      this.strip.replaceChildren(...steps.map((step, place) => {
        const canvas = picture("");
        this.paint(canvas, step);
        const go = () => ((this.slider.value = place), (this.following = place === steps.length - 1), this.render());
        return h("button", { type: "button", onclick: go, "aria-label": step === "end" ? "Result" : `Step ${step}` }, canvas, h("small", {}, step === "end" ? "end" : String(step)));
      }));
    }
    [...this.strip.children].forEach((frame, place) => frame.setAttribute("aria-pressed", String(place === k)));
    const now = this.strip.children[k];
    this.strip.scrollLeft = now.offsetLeft - this.strip.clientWidth / 2 + now.clientWidth / 2;
  }

  points(row) {
    const points = this.film.steps(row).map((step) => [step, this.film.frames.get(step).get(row).energy]);
    const end = this.film.ends.get(row);
    if (end && this.total !== null && end.energy !== null) points.push([this.total, end.energy]);
    return points.filter(([, energy]) => energy !== null);
  }

  energies(step) {
    const main = this.points(this.row);
    this.curve.parentElement.hidden = main.length < 2;
    if (main.length < 2) return;
    const others = this.film.rows.filter((row) => row !== this.row).slice(0, 15).map((row) => ({ points: this.points(row), kind: "faint" }));
    const pick = (x) => {
      const near = this.steps.map((one) => Math.abs((one === "end" ? this.total : one) - x));
      this.slider.value = near.indexOf(Math.min(...near));
      this.render();
    };
    this.curve.replaceChildren(h("figcaption", {}, "Energy", h("small", {}, " lower is more typical")), chart({ title: "Energy", lines: [{ points: main, kind: "main" }, ...others], at: step === "end" ? this.total : step, onpick: pick }));
  }

  /** Where it began, where it is, and how far they are apart. */
  compare(steps) {
    if (steps.length < 2 || steps[0] !== 0) return this.trio.replaceChildren();
    const key = `${this.row} ${steps.at(-1)}`;
    if (this.compared === key) return;
    this.compared = key;
    const [before, after, apart] = [picture("What the refinement starts from"), picture("Refined"), picture("Where they differ")];
    this.paint(before, 0);
    this.paint(after, steps.at(-1));
    if (before.width !== after.width || before.height !== after.height) this.paint(after, this.film.steps(this.row).at(-1));
    const most = difference(before, after, apart);
    const share = most === 0 ? "the same" : `up to ${Math.max(1, Math.round((most / 255) * 100))} % of the range`;
    this.trio.replaceChildren(...[[this.first, before, ""], ["Refined", after, ""], ["Difference", apart, share]].map(([name, canvas, note]) => h("figure", {}, canvas, h("figcaption", {}, name, note ? h("small", {}, note) : null))));
  }
}

/** Paint how far two pictures are apart, brightened so that the greatest difference is white; gives the greatest. */
function difference(a, b, out) {
  const read = (canvas) => canvas.getContext("2d").getImageData(0, 0, a.width, a.height).data;
  const [one, two] = [read(a), read(b)];
  Object.assign(out, { width: a.width, height: a.height });
  const pen = out.getContext("2d");
  const image = pen.createImageData(a.width, a.height);
  const apart = new Float32Array(a.width * a.height);
  for (let k = 0; k < apart.length; k++) {
    for (let c = 0; c < 3; c++) apart[k] = Math.max(apart[k], Math.abs(one[4 * k + c] - two[4 * k + c]));
  }
  const most = apart.reduce((high, value) => Math.max(high, value), 0);
  for (let k = 0; k < apart.length; k++) {
    const value = most ? apart[k] / most : 0;
    image.data.set([255 * Math.min(1, value * 1.6), 255 * Math.max(0, value * 1.5 - 0.35), 255 * (0.12 + 0.5 * value * (1 - value)), 255], 4 * k);
  }
  pen.putImageData(image, 0, 0);
  return most;
}
