// A picture of a request: dropped, pasted, chosen, drawn, or one of the samples. And the request that a file holds.
import { loaded, request, show, upload } from "./api.js";
import { draw } from "./draw.js";
import { button, dialog, h, titled, toast } from "./dom.js";

const WORDS = {
  image: "The picture", condition: "The picture to start from", mask: "What to fill in (white)", grey: "A grey picture", small: "A small picture",
};

/**
 * The field of a picture. `role`: what it is to the model; `shape()`: in which shape the model takes it;
 * `over()`: the picture that a mask lies over. `changed` is called after each change.
 */
export class PictureField {
  constructor({ name, hint, role, shape, samples, optional, over = null, changed = () => {} }) {
    Object.assign(this, { name, role, shape, samples, optional, over, changed, value: null });
    this.thumb = h("img", { alt: "", hidden: true, class: "crisp" });
    this.clear = button("", { icon: "close", label: `Remove ${name}`, class: "quiet icon clear", hidden: true }, () => this.set(null));
    const input = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", "aria-label": `File for ${name}`, class: "hidden-file", tabindex: "-1", onchange: () => this.file(input.files[0]) });
    this.empty = h("span", { class: "empty" }, WORDS[role] || titled(name), h("small", {}, "drop or paste it here"));
    this.place = h("div", { class: "place" }, this.thumb, this.empty, this.clear);
    this.element = h("div", { class: "picture", role: "group", "aria-label": titled(name), "data-field": name },
      h("div", { class: "label" }, titled(name), optional ? h("small", {}, " optional") : null),
      this.place,
      h("div", { class: "row wrap small" },
        button("File", { icon: "file" }, () => input.click()),
        button(role === "mask" ? "Paint" : "Draw", { icon: "pen" }, () => this.draw()),
        role === "mask" ? null : button("Sample", { icon: "grid" }, () => this.choose()),
        input),
      hint ? h("p", { class: "hint" }, hint) : null,
      h("p", { class: "wrong", role: "alert", hidden: true }));
    this.element.addEventListener("dragover", (event) => (event.preventDefault(), this.place.classList.add("over")));
    this.element.addEventListener("dragleave", () => this.place.classList.remove("over"));
    this.element.addEventListener("drop", (event) => {
      this.place.classList.remove("over");
      const file = [...event.dataTransfer.files][0];
      if (file) event.preventDefault(), event.stopPropagation(), this.file(file);
    });
  }

  file(file) {
    if (file && !/^image\/(png|jpeg|webp)$/.test(file.type)) return toast("Use a PNG, JPEG or WebP picture.", "error");
    if (file) this.set({ blob: file, name: file.name });
  }

  /** Take `{blob}` or `{ref, url}`, or nothing. */
  set(value) {
    this.value = value;
    this.thumb.hidden = this.clear.hidden = !value;
    this.empty.hidden = Boolean(value);
    if (value?.blob) this.thumb.src = value.url = URL.createObjectURL(value.blob);
    else if (value) show(this.thumb, value.url);
    this.thumb.alt = value ? `${titled(this.name)}: ${value.name || value.ref || "drawing"}` : "";
    this.changed();
  }

  async draw() {
    const { width, height, channels } = this.shape();
    if (this.role === "mask") {
      const below = this.over?.value;
      if (!below) return toast("Give the picture first: the mask is painted over it.", "error");
      const img = await loaded(below.url);
      const own = { title: "What is to be filled in", mode: "mask", width: img.naturalWidth, height: img.naturalHeight, under: img.src };
      return this.drawn(await draw(own));
    }
    const mode = this.role === "small" ? "pixels" : this.role === "condition" && channels === 1 ? "line" : channels === 1 ? "grey" : "paint";
    this.drawn(await draw({ title: WORDS[this.role] || "A drawing", mode, width, height, grey: channels === 1 }));
  }

  drawn(blob) {
    if (blob) this.set({ blob, name: "drawing.png" });
  }

  choose() {
    dialog("Sample pictures", (close) => h("div", { class: "samples" }, this.samples.map((sample) =>
      h("button", { type: "button", onclick: () => (this.set({ ref: sample.id, url: sample.url, name: sample.title }), close()) },
        show(h("img", { alt: "", class: "crisp", width: 96, height: 96 }), sample.url), h("span", {}, sample.title)))));
  }

  /** What the request calls the picture; uploads it if need be. */
  async ref() {
    if (!this.value) return null;
    if (!this.value.ref) this.value.ref = (await upload(this.value.blob, this.value.name || "picture.png")).id;
    return this.value.ref;
  }

  wrong(message) {
    const line = this.element.querySelector(".wrong");
    line.hidden = !message;
    line.textContent = message || "";
  }
}

/** A picture that an earlier request named: a sample, an upload that is still there, or what the job has kept of it. */
export async function earlier(ref, kept) {
  if (ref.startsWith("sample-") || ref.startsWith("img_")) {
    const url = `/v1/images/${ref}`;
    if (await request("HEAD", url).catch(() => null)) return { ref, url, name: ref };
  }
  if (!kept) return null;
  const blob = await request("GET", kept).then((answer) => answer.blob()).catch(() => null);
  return blob && { blob, name: "picture.png" };
}

/** The request that made a PNG file of this server's; null if it holds none. */
export async function recipeIn(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const view = new DataView(bytes.buffer);
  if (bytes.length < 8 || view.getUint32(0) !== 0x89504e47) return null;
  const latin = new TextDecoder("latin1");
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = latin.decode(bytes.subarray(at + 4, at + 8));
    if (type === "tEXt") {
      const [keyword, ...text] = latin.decode(bytes.subarray(at + 8, at + 8 + length)).split("\0");
      if (keyword === "coopserve") {
        try {
          return JSON.parse(text.join("\0"));
        } catch {
          return null;
        }
      }
    }
    at += 12 + length;
  }
  return null;
}
