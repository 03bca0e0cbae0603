// Curves as SVG.
import { h, s, short } from "./dom.js";

const W = 320, H = 140, LEFT = 46, BOTTOM = 20, TOP = 8, RIGHT = 8;

/**
 * A chart of lines. `lines`: [{points: [[x, y], ...], kind: "main" | "faint" | ""}], `at`: where a marker stands.
 * It tells its extremes in words to those who do not see it.
 */
export function chart({ title, unit = "step", lines, at = null, onpick = null }) {
  const points = lines.flatMap((line) => line.points).filter(([, y]) => Number.isFinite(y));
  if (!points.length) return h("p", { class: "hint" }, "Nothing is known yet.");
  const [x0, x1] = range(points.map(([x]) => x));
  const [y0, y1] = range(points.map(([, y]) => y));
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
  const py = (y) => TOP + (1 - (y - y0) / (y1 - y0)) * (H - TOP - BOTTOM);
  const main = lines.find((line) => line.kind === "main") || lines[0];
  const ends = [main.points[0], main.points.at(-1)];
  const label = `${title}: ${short(ends[0][1])} at ${unit} ${ends[0][0]}, ${short(ends[1][1])} at ${unit} ${ends[1][0]}`;
  const svg = s("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    const y = y0 + share * (y1 - y0);
    svg.append(s("path", { class: "rule", d: `M${LEFT} ${py(y)}H${W - RIGHT}` }), text(LEFT - 6, py(y) + 3.5, short(rounded(y, y1 - y0)), "end"));
  }
  svg.append(text(LEFT, H - 5, short(x0), "start"), text(W - RIGHT, H - 5, short(x1), "end"), text((LEFT + W) / 2, H - 5, unit, "middle"));
  for (const line of [...lines].sort((a, b) => (a.kind === "main") - (b.kind === "main"))) {
    const path = line.points.filter(([, y]) => Number.isFinite(y)).map(([x, y], k) => `${k ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    svg.append(s("path", { class: `line ${line.kind || ""}`, d: path }));
  }
  if (at !== null && at >= x0 && at <= x1) {
    const near = main.points.reduce((best, p) => (Math.abs(p[0] - at) < Math.abs(best[0] - at) ? p : best));
    svg.append(s("path", { class: "at", d: `M${px(at)} ${TOP}V${H - BOTTOM}` }), s("circle", { class: "dot", cx: px(near[0]), cy: py(near[1]), r: 3.5 }));
  }
  if (onpick) {
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      onpick(x0 + ((((event.clientX - box.left) / box.width) * W - LEFT) / (W - LEFT - RIGHT)) * (x1 - x0));
    });
  }
  return svg;
}

const text = (x, y, value, anchor) => s("text", { x, y, "text-anchor": anchor }, value);
const rounded = (value, span) => Number(value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(span)))));

function range(values) {
  const low = Math.min(...values), high = Math.max(...values);
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}
