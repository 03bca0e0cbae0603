// A request as code that people can take with them.
import { key, root } from "./api.js";
import { button, dialog, h, toast } from "./dom.js";

const server = () => location.origin + root;

const WRITERS = {
  curl: (path, body) => {
    const auth = key() ? " \\\n     -H \"Authorization: Bearer $COOPSERVE_KEY\"" : "";
    return `curl -s ${server()}${path} \\\n     -H 'Content-Type: application/json' -H 'Prefer: wait=60'${auth} \\\n     -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
  },
  Python: (path, body) => `import os

import httpx

server = httpx.Client(base_url="${server()}", timeout=90${key() ? `,
                      headers={"Authorization": f"Bearer {os.environ['COOPSERVE_KEY']}"}` : ""})
body = ${python(body)}
job = server.post("${path}", json=body, headers={"Prefer": "wait=60"}).raise_for_status().json()
for k, output in enumerate(job.get("outputs", [])):
    print(output["seed"], output["energy"], output["extras"])
    if output["url"]:
        with open(f"{k}.png", "wb") as file:
            file.write(server.get(output["url"]).raise_for_status().content)
`.replace(key() ? "" : "import os\n\n", ""),
  JavaScript: (path, body) => `const headers = { "Content-Type": "application/json", Prefer: "wait=60"${key() ? ', Authorization: `Bearer ${KEY}`' : ""} };
const body = ${JSON.stringify(body, null, 2)};
const answer = await fetch("${server()}${path}", { method: "POST", headers, body: JSON.stringify(body) });
if (!answer.ok) throw new Error((await answer.json()).detail);
const job = await answer.json();
for (const output of job.outputs) console.log(output.url && new URL(output.url, "${location.origin}").href, output.energy, output.extras);
`,
};

function python(value, indent = 0) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map((one) => python(one, indent)).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, indent)}`).join(", ")}}`;
  return JSON.stringify(value);
}

export function showCode(path, body) {
  dialog("The same by code", () => {
    const text = h("code", {});
    const tabs = Object.keys(WRITERS).map((name) => h("button", { type: "button", class: "chip", onclick: () => choose(name) }, name));
    const choose = (name) => {
      text.textContent = WRITERS[name](path, body);
      tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.textContent === name)));
    };
    choose("curl");
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(text.textContent);
        toast("Copied.");
      } catch {
        getSelection().selectAllChildren(text);
        toast("Select all is done; copy with your keyboard.");
      }
    };
    return h("div", {}, h("div", { class: "row chips" }, tabs, button("Copy", { icon: "code", class: "primary end" }, copy)), h("pre", { tabindex: "0", "aria-label": "Code" }, text));
  }, "wide");
}
