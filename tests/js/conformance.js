// The cases in clients/conformance, as the tests read them.

import { readFileSync } from "node:fs";

/** @param {string} name @returns {any[]} */
export function casesOf(name) {
  return JSON.parse(readFileSync(new URL(`../../clients/conformance/${name}.json`, import.meta.url), "utf8"));
}

/** Frames as an event stream. @param {readonly object[]} frames */
export function streamOf(frames) {
  return frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join("");
}
