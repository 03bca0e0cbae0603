// The page: its addresses, the key, light and dark, and what is dropped or pasted anywhere.
import { forgetAll, key, onUnauthenticated, request, setKey } from "./api.js";
import { Create } from "./create.js";
import { button, dialog, h, icon, toast } from "./dom.js";
import { Gallery, OneJob } from "./gallery.js";
import { OneTraining, Train } from "./train.js";

const main = document.getElementById("main");
let view = null;

const VIEWS = {
  create: () => new Create(),
  jobs: (rest) => (rest.length ? new OneJob() : new Gallery()),
  train: (rest) => (rest.length ? new OneTraining() : new Train()),
};

async function route() {
  const [path, search] = location.hash.slice(2).split("?");
  const [name, ...rest] = path.split("/").filter(Boolean).map(decodeURIComponent);
  const page = VIEWS[name] ? name : "create";
  view?.close();
  const own = (view = VIEWS[page](rest));
  document.title = `${{ create: "Create", jobs: "Jobs", train: "Train" }[page]} · coopserve`;
  for (const link of document.querySelectorAll("nav a")) link.toggleAttribute("aria-current", link.hash === `#/${page}`);
  for (const link of document.querySelectorAll("nav a[aria-current]")) link.setAttribute("aria-current", "page");
  main.replaceChildren(own.element);
  try {
    await own.open(rest, new URLSearchParams(search));
  } catch (error) {
    if (error.status === 401) return;
    own.element.append(h("p", { class: "failure", role: "alert" }, error.message, " ", error.remedy || ""));
  }
}

let asking = false;
function askForKey(problem = null) {
  if (asking) return;
  asking = true;
  const input = h("input", { type: "password", id: "api-key", autocomplete: "off", spellcheck: "false", ".value": key(), placeholder: "csk_..." });
  const box = dialog("API key", (close) => h("form", { method: "dialog", onsubmit: (event) => (event.preventDefault(), setKey(input.value.trim()), close(), forgetAll(), route(), health()) },
    h("p", { class: problem && key() ? "failure" : "hint" }, problem ? (key() ? problem.message : "This server asks for a key. The operator makes one with: coopserve keys add NAME") : "Kept in this tab until you close it, and sent to this server alone."),
    h("div", { class: "field" }, h("label", { for: "api-key" }, "Key"), input),
    h("footer", { class: "row end" }, button("Forget it", { class: "quiet" }, () => (setKey(""), close(), route())), h("button", { class: "primary" }, "Use this key"))));
  box.addEventListener("close", () => (asking = false));
  input.focus();
}

async function health() {
  const place = document.getElementById("health");
  const say = (kind, text) => place.textContent === text || (place.replaceChildren(text), (place.dataset.kind = kind));
  try {
    const { workers } = await (await request("GET", "/v2/health/ready")).json();
    say("good", `Ready${workers.training ? "" : ", no trainer"}`);
  } catch (error) {
    say("bad", error.status ? "No worker is ready" : "Server away");
  }
}

function theme(next) {
  if (next) localStorage.setItem("coopserve.theme", next);
  const chosen = localStorage.getItem("coopserve.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}

const dark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
theme();
const lamp = document.getElementById("theme");
lamp.append(icon("sun"));
lamp.addEventListener("click", () => theme(dark() ? "light" : "dark"));
const lock = document.getElementById("key");
lock.append(icon("key"));
lock.addEventListener("click", () => askForKey());

onUnauthenticated(askForKey);
addEventListener("hashchange", route);
const typing = (target) => target.closest?.("input:not([type=file]), textarea");
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
  if (file && !typing(event.target)) view?.paste?.(file);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", async (event) => {
  event.preventDefault();
  const file = event.dataTransfer?.files[0];
  if (!file) return;
  if (!view?.repeat) {
    history.pushState(null, "", "#/create");
    await route();
  }
  view.repeat(file).catch((error) => toast(error.message, "error"));
});
setInterval(health, 15_000);
health();
route();
