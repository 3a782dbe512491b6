// The figures of one event, put where they belong.

import { count, duration, find, gigabytes, make, NONE, percent, put, rate, show } from "./format.js";
import * as spark from "./spark.js";

const STATES = {
  running: ["good", "Running"],
  degraded: ["fair", "Degraded"],
  unhealthy: ["bad", "Unhealthy"],
  starting: ["fair", "Starting: the models are being loaded"],
  stopping: ["fair", "Stopping: what was accepted is finished"],
};

const LAST = 5;

export function verdict(tone, said, causes = []) {
  find("verdict").dataset.tone = tone;
  put(find("state"), said);
  show(find("causes"), causes.map(sentence), (cause) => cause, () => make("li"), put);
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function announce(said) {
  put(find("announcement"), said);
}

export function render(figures) {
  headline(figures);
  flow(figures);
  models(figures);
  errors(figures);
  group(figures);
  put(find("version"), `legit_embedding ${figures.version}`);
  find("docs").hidden = !figures.embeds;
}

function headline(figures) {
  const [tone, said] = STATES[figures.state] ?? ["fair", figures.state];
  verdict(tone, said, [...figures.problems, ...figures.notices]);
  announce(`${figures.worker}: ${said}`);
  document.title = `${said.split(":")[0]} · ${figures.worker}`;
  put(find("worker"), figures.worker);
  put(find("rate"), rate(figures.items_per_s));
  spark.add(figures.items_per_s);
  const device = figures.device;
  put(find("device-name"), device?.device ? `Device ${device.device}` : "Device");
  const memory = device?.memory_used ? `, ${gigabytes(device.memory_used)}` : "";
  put(find("device"), device ? percent(device.busy) + memory : NONE);
  find("device-name").title = device?.name ?? "";
  put(find("empty"), figures.empty_in_s == null ? "unknown" : figures.empty_in_s ? duration(figures.empty_in_s) : "all done");
  put(find("oldest"), figures.oldest_s == null ? "none" : duration(figures.oldest_s));
  const { prep, waiting, device: computing, writing } = figures.stages;
  put(find("in-flight"), count(prep + waiting + computing + writing));
  put(find("embedded"), count(figures.embedded));
  put(find("failed"), count(figures.failed));
}

function flow(figures) {
  const most = Math.max(1, ...Object.values(figures.stages));
  for (const stage of find("flow").children) {
    const items = figures.stages[stage.dataset.stage];
    put(stage.querySelector(".count"), count(items));
    stage.style.setProperty("--part", (items ?? 0) / most);
    stage.classList.toggle("busy", Boolean(items));
  }
  const untouched = figures.state === "running" && !figures.embedded && !figures.failed;
  find("idle").hidden = !untouched;
  if (untouched) {
    const how = figures.embeds ? "Try a model below, POST to /embed" : "Send a Celery task";
    put(find("idle"), `Nothing has come yet. ${how}${figures.group ? ", or add an entry to the task stream" : ""}.`);
  }
}

const METERS = [["batch_fill", "Batch fill"], ["device_share", "Device share"], ["padding_waste", "Padding"]];
const PLAIN = [
  ["batch_size_avg", "Batch size", (number) => (number ? rate(number) : NONE)],
  ["waiting", "Waiting", count],
  ["oldest_s", "Oldest", duration],
];

function models(figures) {
  find("models-part").hidden = !figures.models.length;
  show(find("models"), figures.models, (model) => model.queue, card, (element, model) => {
    const dimension = model.dimension == null ? "" : `, ${model.dimension} dimensions`;
    put(element.querySelector(".kind"), `${model.kind}${dimension}${model.remote ? `, at ${model.remote}` : ""}`);
    put(element.querySelector(".speed"), `${rate(model.items_per_s)}/s`);
    const isUntouched = !model.items && !model.waiting;
    element.querySelector("dl").hidden = isUntouched;
    element.querySelector(".untouched").hidden = !isUntouched;
    put(element.querySelector(".untouched"), model.loaded ? "Nothing has come for it yet." : "It is being loaded.");
    for (const [name] of METERS) {
      const value = model.items ? model[name] : null;
      put(element.querySelector(`[data-name=${name}]`), percent(value));
      element.querySelector(`[data-bar=${name}]`).style.setProperty("--part", value ?? 0);
    }
    for (const [name, , shown] of PLAIN) put(element.querySelector(`[data-name=${name}]`), shown(model[name]));
    const breaker = model.breaker_open ? "The remote is away: its tasks wait." : "";
    put(element.querySelector(".problem"), breaker);
  });
}

function card(model) {
  const fact = (name, title, ...more) =>
    make("div", {}, make("dt", {}, title), make("dd", {}, make("span", { "data-name": name }), ...more));
  const meters = METERS.map(([name, title]) => fact(name, title, make("span", { class: "bar", "data-bar": name })));
  return make(
    "li",
    { class: "card model" },
    make("div", { class: "title" }, make("h3", {}, model.queue), make("span", { class: "speed" })),
    make("p", { class: "kind" }),
    make("dl", {}, ...meters, ...PLAIN.map(([name, title]) => fact(name, title))),
    make("p", { class: "untouched" }),
    make("p", { class: "problem" }),
  );
}

function errors(figures) {
  find("errors-part").hidden = !figures.errors.length;
  show(find("errors"), figures.errors, (each) => `${each.code} ${each.model}`, row(["", "", "number"]), (element, each) =>
    cells(element, [each.code, each.model || NONE, count(each.count)]));
  find("last-title").hidden = !figures.last_errors.length;
  show(find("last"), figures.last_errors.slice(0, LAST), (each) => `${each.at} ${each.task_id}`, last, (element, each) => {
    put(element.querySelector(".when"), `${duration(each.age_s)} ago`);
  });
}

function last(each) {
  const about = make("p", { class: "about" }, make("strong", {}, each.code), make("span", { class: "when" }));
  return make("li", {}, about, make("p", {}, each.detail), make("p", { class: "task" }, `task ${each.task_id}`));
}

function group(figures) {
  const seen = figures.group;
  find("group-part").hidden = !seen?.workers.length;
  find("group-problem").hidden = !figures.group_problem;
  put(find("group-problem"), `The other workers cannot be seen: ${figures.group_problem}`);
  if (!seen) return;
  show(find("group"), seen.workers, (each) => each.worker, row(["", "", "number", "number wide", "number", "number wide"]), (element, each) => {
    cells(element, [
      each.worker, each.problem ? `${each.state}: ${each.problem}` : each.state, rate(each.items_per_s),
      count(each.in_flight), percent(each.device_busy), `${duration(each.heartbeat_age_s)} ago`,
    ]);
    element.children[1].dataset.tone = (STATES[each.state] ?? ["fair"])[0];
  });
  find("lost").hidden = !seen.lost.length;
  put(find("lost"), `Not seen lately: ${seen.lost.join(", ")}`);
}

function row(classes) {
  const cell = (name, place) => (place ? make("td", { class: name }) : make("th", { scope: "row" }));
  return () => make("tr", {}, ...classes.map(cell));
}

function cells(element, texts) {
  texts.forEach((text, place) => put(element.children[place], text));
}
