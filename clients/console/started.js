// What this tab has started runs with: the gateway keeps it, but tells nobody.
//
// Rule 1: for this tab and no longer (sessionStorage), the newest few; without it everything works, with less comfort.

/** @typedef {{input: any, options: any}} Started */

const KEY = "runcast.started";
const MOST = 8;

/** @returns {[string, Started][]} */
function all() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]");
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

/** @param {string} id @param {Started | string} what or the run that was started with the same */
export function remember(id, what) {
  const started = typeof what === "string" ? recalled(what) : what;
  if (!started) return;
  const kept = [/** @type {[string, Started]} */ ([id, started]), ...all()].slice(0, MOST);
  while (kept.length > 0) {
    try {
      return sessionStorage.setItem(KEY, JSON.stringify(kept));
    } catch {
      kept.pop(); // there is only so much room
    }
  }
}

/** @param {string} id @returns {Started | null} */
export function recalled(id) {
  return all().find(([other]) => other === id)?.[1] ?? null;
}
