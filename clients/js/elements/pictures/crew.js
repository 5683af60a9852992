// The picture of `crew`: the tasks as a graph, each with its agent and where it stands.
//
// Rule 1: a task stands in the row below the last of those that it waits for; a line leads from each of them.

import { el, styled, svg, titleOf } from "../dom.js";
import { icon } from "../icons.js";

/** @typedef {import("../../state.js").RunState} RunState */
/** @typedef {import("../story.js").Story} Story */
/** @typedef {import("../icons.js").Icon} Icon */
/**
 * `after`: the tasks that it waits for.
 * @typedef {{id: string, agent: string, action: string, status: string, attempt: number, error: string,
 *   after: string[]}} Task
 */

/** `x` in percent, `y` in pixels. @typedef {{x: number, y: number}} Place */

const ROW_PX = 104;
const CARD_PX = 72;

/** @type {Readonly<Record<string, {words: string, icon: Icon, tone: string}>>} */
const STATES = {
  waiting: { words: "Queued", icon: "wait", tone: "queued" },
  running: { words: "Running", icon: "play", tone: "running" },
  retrying: { words: "Retrying", icon: "again", tone: "retrying" },
  done: { words: "Done", icon: "check", tone: "completed" },
  failed: { words: "Failed", icon: "cross", tone: "failed" },
  skipped: { words: "Skipped", icon: "skip", tone: "cancelled" },
};

/** @type {import("../picture.js").Picture} */
export const crew = { label: "Tasks of the crew", covers: "", draw };

/** @param {RunState} _state @param {Story} story */
function draw(_state, story) {
  const tasks = tasksOf(story);
  return tasks.size === 0 ? [] : [graph(tasks)];
}

/** @param {Story} story @returns {Map<string, Task>} */
export function tasksOf(story) {
  /** @type {Map<string, Task>} */
  const tasks = new Map();
  for (const { type, task, agent, action, status, attempt, error, depends_on } of story.custom) {
    if (type !== "x.crew.task") continue;
    const before = tasks.get(task);
    const after = depends_on ?? before?.after ?? [];
    tasks.set(task, {
      id: task,
      agent,
      action,
      status,
      attempt: attempt ?? before?.attempt ?? 0,
      error: error ?? "",
      after,
    });
  }
  return tasks;
}

/** @param {Map<string, Task>} tasks */
function graph(tasks) {
  /** @type {Map<string, number>} */
  const depths = new Map();
  /** @param {string} id @param {ReadonlySet<string>} above @returns {number} */
  const depthOf = (id, above) => {
    const known = depths.get(id);
    if (known !== undefined) return known;
    const waits = (tasks.get(id)?.after ?? []).filter((one) => tasks.has(one) && !above.has(one));
    const depth = Math.max(-1, ...waits.map((one) => depthOf(one, new Set([...above, id])))) + 1;
    depths.set(id, depth);
    return depth;
  };
  /** @type {Task[][]} */
  const rows = [];
  for (const task of tasks.values()) (rows[depthOf(task.id, new Set())] ??= []).push(task);
  const wide = Math.max(...rows.map((row) => row.length));
  /** @type {Map<string, Place>} */
  const places = new Map();
  rows.forEach((row, y) =>
    row.forEach((task, x) => places.set(task.id, { x: ((x + 0.5) / row.length) * 100, y: y * ROW_PX })),
  );
  const height = (rows.length - 1) * ROW_PX + CARD_PX;
  const lines = [...tasks.values()].flatMap((task) =>
    task.after.map((one) => line(places.get(one), places.get(task.id), tasks.get(one))),
  );
  return el(
    "div",
    { class: "graph-scrolls", tabindex: 0, role: "group", "aria-label": "Graph of the tasks" },
    styled(
      el(
        "div",
        { class: "graph" },
        svg("svg", { viewBox: `0 0 100 ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...lines),
        el("ol", {}, ...[...tasks.values()].map((task) => node(task, places.get(task.id) ?? { x: 0, y: 0 }, wide))),
      ),
      { height: `${height}px`, least: `${wide * 8.6}rem` },
    ),
  );
}

/** @param {Place | undefined} from @param {Place | undefined} to @param {Task | undefined} task */
function line(from, to, task) {
  if (!from || !to) return null;
  const top = from.y + CARD_PX;
  const middle = top + (ROW_PX - CARD_PX) / 2;
  const d = `M${from.x} ${top}C${from.x} ${middle + 8} ${to.x} ${to.y - 24} ${to.x} ${to.y}`;
  return svg("path", {
    d,
    class: "edge",
    "data-status": STATES[task?.status ?? ""]?.tone ?? "queued",
    "vector-effect": "non-scaling-stroke",
  });
}

/** @param {Task} task @param {Place} place @param {number} wide */
function node({ id, agent, action, status, attempt, error, after }, { x, y }, wide) {
  const known = STATES[status] ?? { words: titleOf(status), icon: /** @type {Icon} */ ("dot"), tone: "queued" };
  const tries = attempt > 1 ? `, try ${attempt}` : "";
  const waits = status === "waiting" && after.length > 0 ? `, waits for ${after.join(" and ")}` : "";
  return styled(
    el(
      "li",
      { class: "node", "data-key": id, "data-status": known.tone, title: error || null },
      el("span", { class: "disc" }, icon(known.icon)),
      el("b", {}, titleOf(id)),
      el("span", { class: "faint" }, `${agent} · ${action}`),
      el("span", { class: "state" }, `${known.words}${tries}`),
      el("span", { class: "unseen" }, `${waits}${error ? `: ${error}` : ""}`),
    ),
    { x: `${x}%`, y: `${y}px`, share: `${100 / wide}%` },
  );
}
