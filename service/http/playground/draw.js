// Drawing: lines on paper, colours, single pixels, or a mask over a picture.
import { button, dialog, h } from "./dom.js";

const INKS = ["#000000", "#ffffff", "#7f7f7f", "#d7263d", "#f46036", "#f6c945", "#2e933c", "#1b998b", "#2d6cdf", "#6a4c93", "#e58fb1", "#8d5524"];
const GREYS = ["#000000", "#404040", "#808080", "#bfbfbf", "#ffffff"];
const HOW = {
  line: { paper: "#ffffff", inks: ["#000000"], brush: 2.2, help: "Draw in black on white, as a pencil would." },
  paint: { paper: "#ffffff", inks: INKS, brush: 6, help: "Paint with the colours below." },
  grey: { paper: "#000000", inks: GREYS, brush: 8, help: "Light shapes on black, as the model's own images are." },
  pixels: { paper: "#ffffff", inks: INKS, brush: 0, help: "Each square is a pixel of the small picture." },
  mask: { paper: null, inks: ["#ff3d81"], brush: 14, help: "Paint over what is to be filled in." },
};

/**
 * Let a person draw. Resolves to a PNG, or to null if they closed the dialog.
 * `mode`: a key of HOW; `width`, `height`: of the picture; `under`: the address of what a mask is painted over;
 * `from`: a picture to go on with.
 */
export function draw({ title, mode, width, height, grey = false, under = null, from = null }) {
  const how = { ...HOW[mode], ...(grey && mode !== "line" && mode !== "mask" ? { inks: GREYS } : {}) };
  const scale = mode === "pixels" || mode === "mask" ? 1 : Math.max(1, Math.round(512 / Math.max(width, height)));
  if (grey && mode === "pixels") how.paper = HOW.grey.paper;
  const canvas = h("canvas", {
    width: width * scale, height: height * scale, tabindex: "0", role: "application", class: `paper ${mode}`,
    "aria-label": "Drawing area. Arrow keys move the pen, the space bar puts it down and lifts it.",
  });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const state = { ink: how.inks.at(mode === "line" || mode === "mask" ? 0 : -1), brush: how.brush, erase: false, down: false, x: 0.5, y: 0.5, past: [] };
  if (how.paper === "#ffffff") state.ink = "#000000";
  const blank = () => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (how.paper) (pen.fillStyle = how.paper), pen.fillRect(0, 0, canvas.width, canvas.height);
  };
  blank();
  if (from) pen.drawImage(from, 0, 0, canvas.width, canvas.height);
  const keep = () => {
    state.past.push(pen.getImageData(0, 0, canvas.width, canvas.height));
    if (state.past.length > 30) state.past.shift();
  };
  const stroke = (x, y) => {
    const [px, py, qx, qy] = [state.x * canvas.width, state.y * canvas.height, x * canvas.width, y * canvas.height];
    pen.globalCompositeOperation = state.erase && !how.paper ? "destination-out" : "source-over";
    pen.fillStyle = pen.strokeStyle = state.erase ? how.paper || "#000" : state.ink;
    if (mode === "pixels") {
      const steps = Math.max(1, Math.ceil(Math.hypot(qx - px, qy - py)));
      for (let k = 0; k <= steps; k++) pen.fillRect(Math.floor(px + ((qx - px) * k) / steps), Math.floor(py + ((qy - py) * k) / steps), 1, 1);
    } else {
      pen.lineCap = pen.lineJoin = "round";
      pen.lineWidth = Math.max(1, (state.brush / 100) * canvas.width * (state.erase ? 2 : 1));
      pen.beginPath();
      pen.moveTo(px, py);
      pen.lineTo(qx, qy);
      pen.stroke();
    }
    [state.x, state.y] = [x, y];
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus();
    canvas.setPointerCapture(event.pointerId);
    keep();
    state.down = true;
    [state.x, state.y] = at(event);
    stroke(state.x, state.y);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (state.down) for (const one of event.getCoalescedEvents?.() || [event]) stroke(...at(one));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (state.down = false));
  const cross = h("span", { class: "cross", hidden: true });
  let put = false;
  canvas.addEventListener("keydown", (event) => {
    const step = mode === "pixels" ? [1 / width, 1 / height] : [0.02, 0.02];
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] || [0, 0];
    if (event.key === " ") {
      put = !put;
      if (put) keep(), stroke(state.x, state.y);
    } else if (dx || dy) {
      const [x, y] = [Math.min(0.999, Math.max(0, state.x + dx * step[0])), Math.min(0.999, Math.max(0, state.y + dy * step[1]))];
      if (put) stroke(x, y);
      else [state.x, state.y] = [x, y];
    } else return;
    event.preventDefault();
    cross.hidden = false;
    cross.classList.toggle("put", put);
    cross.style.left = `${state.x * 100}%`;
    cross.style.top = `${state.y * 100}%`;
  });
  canvas.addEventListener("blur", () => ((cross.hidden = true), (put = false)));
  const undo = () => state.past.length && pen.putImageData(state.past.pop(), 0, 0);

  return new Promise((resolve) => {
    const box = dialog(title, (close) => {
      const inks = how.inks.map((ink) => {
        const choose = () => {
          Object.assign(state, { ink, erase: false });
          refresh();
        };
        const one = h("button", { type: "button", class: "ink", "aria-label": `Colour ${ink}`, "aria-pressed": "false", onclick: choose });
        one.style.background = ink;
        return one;
      });
      const eraser = button("Eraser", { icon: "erase", "aria-pressed": "false" }, () => ((state.erase = !state.erase), refresh()));
      const refresh = () => {
        inks.forEach((one, k) => one.setAttribute("aria-pressed", String(how.inks[k] === state.ink && !state.erase)));
        eraser.setAttribute("aria-pressed", String(state.erase));
      };
      const size = h("input", { type: "range", min: 1, max: 40, step: 0.5, value: state.brush, "aria-label": "Size of the brush", oninput: () => (state.brush = Number(size.value)) });
      const done = () => { // at once: what a person does next is done to the page, not lost in a dialog that is about to go
        resolve(exported(canvas, mode));
        close();
      };
      refresh();
      return h("div", { class: "draw" },
        h("p", { class: "hint" }, how.help),
        h("div", { class: mode === "pixels" ? "easel grid" : "easel" }, under ? h("img", { src: under, alt: "" }) : null, canvas, cross),
        h("div", { class: "row wrap" },
          how.inks.length > 1 ? h("div", { class: "inks", role: "group", "aria-label": "Colours" }, inks) : null,
          mode === "pixels" ? null : h("label", { class: "row" }, "Brush", size),
          eraser,
          button("Undo", { icon: "undo" }, undo),
          button("Clear", { icon: "trash" }, () => (keep(), blank()))),
        h("footer", { class: "row end" }, button("Cancel", { class: "quiet" }, close), button("Use the drawing", { class: "primary" }, done)));
    }, "wide");
    box.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z") event.preventDefault(), undo();
    });
    box.addEventListener("close", () => resolve(null));
    const easel = box.querySelector(".easel");
    easel.style.setProperty("--across", `${100 / width}%`);
    easel.style.setProperty("--down", `${100 / height}%`);
    canvas.focus();
  });
}

/** The drawing as PNG; of a mask, white where it was painted and black elsewhere. */
function exported(canvas, mode) {
  let source = canvas;
  if (mode === "mask") {
    source = h("canvas", { width: canvas.width, height: canvas.height });
    const pen = source.getContext("2d");
    const from = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let k = 0; k < from.data.length; k += 4) {
      const white = from.data[k + 3] > 127 ? 255 : 0;
      from.data.set([white, white, white, 255], k);
    }
    pen.putImageData(from, 0, 0);
  }
  const bytes = atob(source.toDataURL("image/png").split(",")[1]);
  return new Blob([Uint8Array.from(bytes, (letter) => letter.charCodeAt(0))], { type: "image/png" });
}
