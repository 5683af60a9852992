// Small pictures for stages, calls and states.
//
// Rule 1: they say nothing that is not also said in words: all are hidden from screen readers.

import { svg } from "./dom.js";

/** Paths on a 16 × 16 grid, drawn as lines. */
const PATHS = {
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10Zm3.6-1.4L14 14",
  list: "M6 4h8M6 8h8M6 12h8M2.5 4h.01M2.5 8h.01M2.5 12h.01",
  pen: "M3 13l.6-2.8L10.8 3a1.6 1.6 0 0 1 2.2 2.2L5.8 12.4 3 13Z",
  shield: "M8 1.8l5 1.8v4c0 3.2-2.1 5.4-5 6.6-2.9-1.2-5-3.4-5-6.6v-4l5-1.8ZM5.8 7.8l1.6 1.6 2.9-3",
  people:
    "M6 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5ZM1.5 13.5c0-2.5 2-4 4.5-4s4.5 1.5 4.5 4M11 3a2.3 2.3 0 0 1 0 4.4M12.5 10l2 3.5",
  idea: "M5.5 10.5C4.2 9.7 3.5 8.4 3.5 6.8a4.5 4.5 0 0 1 9 0c0 1.6-.7 2.9-2 3.7v1.5h-5v-1.5ZM6.5 14h3",
  layers: "M8 2l6 3-6 3-6-3 6-3ZM2.5 8L8 10.8 13.5 8M2.5 11L8 13.8 13.5 11",
  tool: "M9.5 6.5L3 13M10 2.5a3.5 3.5 0 0 0-.2 4A3.5 3.5 0 0 0 13.5 6L11.5 4.5 10 2.5Z",
  flag: "M3.5 14V2.5M3.5 3h8l-1.5 2.8L11.5 8.5h-8",
  chart: "M2.5 13.5h11M4.5 11V7.5M8 11V3.5M11.5 11V6",
  chip: "M5 5h6v6H5zM3 6.5h2M3 9.5h2M11 6.5h2M11 9.5h2M6.5 3v2M9.5 3v2M6.5 11v2M9.5 11v2",
  dot: "M8 10.5A2.5 2.5 0 1 0 8 5.5a2.5 2.5 0 0 0 0 5Z",
  check: "M3 8.5l3.2 3L13 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3l8 5-8 5V3Z",
  stop: "M4 4h8v8H4z",
  again: "M13 3v3.5H9.5M12.7 6.3A5.2 5.2 0 1 0 13.2 9",
  skip: "M3 8h10M10 5l3 3-3 3",
  wait: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12ZM8 4.5V8l2.3 1.5",
  warn: "M8 2.5l6 11H2l6-11ZM8 6.5v3.5M8 12v.01",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  download: "M8 2.5v8M4.5 7.5L8 11l3.5-3.5M3 13.5h10",
};

/** @typedef {keyof typeof PATHS} Icon */

/** Words that stages are named with, and what they look like. @type {readonly (readonly [RegExp, Icon])[]} */
const STAGES = [
  [/review|verif|check|valid|critiq|critic|qualit/i, "shield"],
  [/research|search|find|retriev|fetch|read|gather/i, "search"],
  [/audience|people|persona/i, "people"],
  [/concept|idea|strateg/i, "idea"],
  [/plan|outline|prepare|load|queue/i, "list"],
  [/analy|compar|stat|figure|measur/i, "chart"],
  [/act|tool|call|exec/i, "tool"],
  [/assemble|format|merge|layout|render|build/i, "layers"],
  [/writ|generat|copy|draft|answer|report|compos|edit/i, "pen"],
  [/done|finish|final|publish|deliver/i, "flag"],
];

/** @param {Icon} name */
export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}

/** @param {string} stage @returns {Icon} */
export function stageIcon(stage) {
  return STAGES.find(([words]) => words.test(stage))?.[1] ?? "dot";
}
