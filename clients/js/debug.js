// What happens inside, for whoever asks: `localStorage.debug = "runcast:*"`, in Node `DEBUG=runcast:*`.
//
// Rule 1: no token and no event's content is ever said.

/** @typedef {(...words: unknown[]) => void} Say */

/**
 * A function that writes to the console, or one that does nothing.
 * @param {string} topic
 * @returns {Say}
 */
export function debug(topic) {
  const name = `runcast:${topic}`;
  let asked = "";
  try {
    asked = globalThis.localStorage?.["debug"] ?? globalThis.process?.env?.["DEBUG"] ?? "";
  } catch {
    // A page may be forbidden to look.
  }
  const wanted = asked.split(/[\s,]+/).some((one) => one === name || (one.endsWith("*") && name.startsWith(one.slice(0, -1))));
  return wanted ? console.debug.bind(console, name) : () => {};
}
