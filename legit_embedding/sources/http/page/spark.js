// A line of the last minutes, with gaps where nobody looked.

import { draw, find, put, rate } from "./format.js";

const LONGEST_S = 300;
const SHORTEST_S = 60;
const GAP_S = 5;
const WIDTH = 300;
const HEIGHT = 60;

let points = [];

export function remember(history) {
  const now = performance.now() / 1000;
  points = history.map(([age, value]) => ({ at: now - age, value }));
}

export function add(value) {
  if (value == null) return;
  const now = performance.now() / 1000;
  points.push({ at: now, value });
  points = points.filter((point) => now - point.at <= LONGEST_S);
  plot(now, value);
}

function plot(now, current) {
  const span = Math.min(LONGEST_S, Math.max(SHORTEST_S, now - points[0].at));
  const most = Math.max(...points.map((point) => point.value));
  const x = (point) => WIDTH * (1 - (now - point.at) / span);
  const y = (point) => HEIGHT - 2 - (HEIGHT - 6) * (most ? point.value / most : 0);
  const runs = [];
  points.forEach((point, place) => {
    if (!place || point.at - points[place - 1].at > GAP_S) runs.push([]);
    runs.at(-1).push(point);
  });
  const line = (run) => run.map((point) => `${x(point).toFixed(1)} ${y(point).toFixed(1)}`).join("L");
  const areas = runs.map((run) => `M${x(run[0]).toFixed(1)} ${HEIGHT}L${line(run)}L${x(run.at(-1)).toFixed(1)} ${HEIGHT}Z`);
  find("spark").replaceChildren(
    draw("path", { class: "area", d: areas.join("") }),
    draw("path", { class: "line", d: runs.map((run) => `M${line(run)}`).join("") }),
  );
  const minutes = Math.max(1, Math.round(span / 60));
  put(find("since"), minutes === 1 ? "last minute" : `last ${minutes} minutes`);
  put(find("most"), `most ${rate(most)}/s`);
  find("spark").setAttribute("aria-label", `Items per second, ${find("since").textContent}: now ${rate(current)}, most ${rate(most)}`);
}
