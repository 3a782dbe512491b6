// The box to try a model: one or two inputs, each a text or a picture.

import { count, draw, find, make, ms, put } from "./format.js";
import { authorized } from "./stream.js";

const SHOWN = 96;
const STAGES = [["prep", "prep"], ["wait", "wait"], ["device", "device"], ["rest", "rest"]];

class Refused extends Error {}

class Input {
  constructor(element) {
    this.element = element;
    this.text = element.querySelector("textarea");
    this.file = element.querySelector("input[type=file]");
    this.answer = element.querySelector(".answer");
    this.picture = null;
    this.file.addEventListener("change", () => this.file.files[0] && this.take(this.file.files[0]));
    element.querySelector(".remove").addEventListener("click", () => this.remove());
    element.addEventListener("dragover", (event) => {
      event.preventDefault();
      element.classList.add("over");
    });
    element.addEventListener("dragleave", () => element.classList.remove("over"));
    element.addEventListener("drop", (event) => {
      event.preventDefault();
      element.classList.remove("over");
      if (event.dataTransfer.files[0]) this.take(event.dataTransfer.files[0]);
    });
    this.text.addEventListener("paste", (event) => {
      const [pasted] = event.clipboardData.files;
      if (pasted) {
        event.preventDefault();
        this.take(pasted);
      }
    });
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("try").requestSubmit();
    });
  }

  serve(kinds) {
    this.kinds = kinds;
    this.arrange();
  }

  take(file) {
    this.picture = file;
    const image = this.element.querySelector("img");
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file);
    image.alt = `Preview of ${file.name}`;
    put(this.element.querySelector(".file"), file.name);
    this.arrange();
  }

  remove() {
    this.picture = null;
    this.file.value = "";
    this.arrange();
    (this.kinds.has("text") ? this.text : this.file).focus();
  }

  arrange() {
    this.element.querySelector(".picture").hidden = !this.picture;
    this.element.querySelector(".words").hidden = Boolean(this.picture) || !this.kinds.has("text");
    this.element.querySelector(".choose").hidden = Boolean(this.picture) || !this.kinds.has("image");
  }

  get isEmpty() {
    return !this.picture && !this.text.value;
  }

  async embed(model) {
    this.answer.replaceChildren();
    try {
      const body = this.picture ? { images: [await dataUrl(this.picture)] } : { texts: [this.text.value] };
      const found = await embed({ ...body, ...(model ? { model } : {}) });
      this.answer.replaceChildren(...described(found));
      return found;
    } catch (error) {
      const said = error instanceof Refused ? error.message : `The worker could not be reached: ${error.message}`;
      this.answer.replaceChildren(make("p", { class: "problem" }, said));
      return null;
    }
  }
}

const inputs = [...document.querySelectorAll(".input")].map((element) => new Input(element));

export function offer(figures) {
  find("try-part").hidden = !figures.embeds || !figures.models.length;
  const kinds = new Set(figures.models.map((model) => model.kind));
  const names = [...new Set(figures.models.map((model) => model.model))];
  const select = find("model");
  const known = [...kinds, ...names].join("\n");
  if (select.dataset.known === known) return;
  select.dataset.known = known;
  inputs.forEach((input) => input.serve(kinds));
  find("model-label").hidden = names.length < 2;
  select.replaceChildren(make("option", { value: "" }, "default"), ...names.map((name) => make("option", { value: name }, name)));
}

find("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const filled = inputs.filter((input) => !input.isEmpty);
  const button = find("embed");
  if (button.getAttribute("aria-disabled")) return;
  inputs.forEach((input) => input.answer.replaceChildren());
  if (!filled.length) {
    put(find("similarity"), "Enter a text or choose a picture first.");
    return;
  }
  button.setAttribute("aria-disabled", "true");
  put(find("similarity"), "");
  const found = await Promise.all(filled.map((input) => input.embed(find("model").value)));
  button.removeAttribute("aria-disabled");
  if (found.length === 2 && found.every(Boolean)) compare(...found);
  else if (found.every(Boolean)) put(find("similarity"), "Fill in both to compare them.");
});

async function embed(body) {
  const began = performance.now();
  const response = await fetch("embed", {
    method: "POST",
    headers: authorized({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  const total = performance.now() - began;
  if (!response.ok) throw new Refused(answer.detail);
  const timing = response.headers.get("Server-Timing") ?? "";
  const stages = Object.fromEntries([...timing.matchAll(/(\w+);dur=([\d.]+)/g)].map(([, name, dur]) => [name, Number(dur)]));
  const known = Object.values(stages).reduce((sum, each) => sum + each, 0);
  return { model: answer.model, vector: answer.dense_vecs[0], stages: { ...stages, rest: Math.max(0, total - known) }, total };
}

function described({ model, vector, stages, total }) {
  const times = make("ul", { class: "times" }, make("li", {}, `${ms(total)} in all`));
  const bar = make("div", { class: "stages", "aria-hidden": "true" });
  for (const [name, title] of STAGES) {
    const part = make("span", { "data-stage": name });
    part.style.flexGrow = stages[name] ?? 0;
    bar.append(part);
    times.append(make("li", { "data-stage": name }, `${title} ${ms(stages[name] ?? 0)}`));
  }
  return [
    make("p", { class: "shape" }, make("strong", {}, `${count(vector.length)} dimensions`), ` from ${model}`),
    fingerprint(vector),
    bar,
    times,
  ];
}

function fingerprint(vector) {
  const values = vector.slice(0, SHOWN);
  const most = Math.max(...values.map(Math.abs)) || 1;
  const svg = draw("svg", {
    class: "fingerprint", role: "img", viewBox: `0 0 ${values.length} 24`, preserveAspectRatio: "none",
    "aria-label": `The first ${values.length} values; it begins with ${values.slice(0, 3).map((value) => value.toFixed(3)).join(", ")}`,
  });
  values.forEach((value, place) => {
    const height = Math.max(0.5, (11 * Math.abs(value)) / most);
    svg.append(draw("rect", { x: place + 0.15, width: 0.7, y: value > 0 ? 12 - height : 12, height }));
  });
  return svg;
}

function compare(first, second) {
  if (first.model !== second.model || first.vector.length !== second.vector.length) {
    put(find("similarity"), "Vectors of two models cannot be compared.");
    return;
  }
  const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
  const cosine = dot(first.vector, second.vector) / Math.sqrt(dot(first.vector, first.vector) * dot(second.vector, second.vector));
  find("similarity").replaceChildren("Similarity ", make("strong", {}, cosine.toFixed(3)), make("span", { class: "bar" }), make("span", { class: "unseen" }, "cosine"));
  find("similarity").querySelector(".bar").style.setProperty("--part", Math.max(0, cosine));
}

function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.replace(/^data:[^,]*?(;base64)?,/, "data:image/*;base64,")));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}
