// Cursors: where in a run's stream a client is (PROTOCOL section 1).
//
// Rule 1: offsets of two epochs are never compared; they count different logs.

const CURSOR = /^([a-z0-9]{1,13})-([1-9][0-9]{0,14})$/;

/** @typedef {{epoch: string, offset: number}} Cursor */

/**
 * Null when the text is not a cursor.
 * @param {unknown} text
 * @returns {Cursor | null}
 */
export function parseCursor(text) {
  const match = typeof text === "string" ? CURSOR.exec(text) : null;
  return match ? { epoch: /** @type {string} */ (match[1]), offset: Number(match[2]) } : null;
}

/**
 * Whether an event may follow what a client has (PROTOCOL section 9, rule 5). `last` is null at the start and after
 * a gap: then any epoch may come.
 * @param {string | null} last
 * @param {string} id
 */
export function follows(last, id) {
  const next = parseCursor(id);
  if (!next) return false;
  const before = parseCursor(last);
  return !before || (next.epoch === before.epoch && next.offset > before.offset);
}
