// The list of the caller's runs, newest first.
//
// Rule 1: the newest page is read again and again, more often while something is under way; older pages only when they
// are asked for.
// Rule 2: rows are kept and changed in place, so that the focus and the place in the list stay.

import { el, say, styled, timeOf } from "../js/elements/dom.js";
import { isFinished } from "../js/state.js";
import { byId } from "./page.js";

/** @typedef {import("../js/state.js").RunState} RunState */
/** @typedef {Pick<RunState, "id" | "pipeline" | "status" | "created_at" | "progress">} Entry */

const PAGE = 30;
const EVERY_MS = 5_000;
const EVERY_MS_UNDER_WAY = 1_500;

export class RunsList {
  /** @type {Map<string, Entry>} */
  #entries = new Map();
  /** @type {Map<string, HTMLElement>} */
  #rows = new Map();
  /** @type {string | null} */
  #next = null;
  #olderLoaded = false;
  /** @type {string | null} */
  #selected = null;
  #fetch;
  #failed;
  #refreshing = false;
  /** What was read is of another filter now. */
  #era = 0;
  #heard = "";
  #timer = 0;
  #parts = {
    list: byId("runs"),
    empty: byId("runs-empty"),
    older: byId("older", HTMLButtonElement),
    note: byId("runs-note"),
    status: byId("runs-status", HTMLSelectElement),
    pipeline: byId("runs-pipeline", HTMLSelectElement),
  };

  /**
   * @param {{fetch: import("../js/client.js").Client["runs"], failed: (error: Error) => void}} options
   */
  constructor({ fetch, failed }) {
    this.#fetch = fetch;
    this.#failed = failed;
    const { older, status, pipeline } = this.#parts;
    older.addEventListener("click", () => this.#older());
    for (const filter of [status, pipeline]) filter.addEventListener("change", () => this.#again());
    document.addEventListener("visibilitychange", () => !document.hidden && this.refresh());
  }

  /** The pipelines that can be filtered by. @param {readonly string[]} names */
  offer(names) {
    this.#parts.pipeline.append(...names.map((name) => el("option", {}, name)));
  }

  /** A change that makes the list worth reading again. @param {string} change */
  heard(change) {
    if (change !== this.#heard) this.refresh();
    this.#heard = change;
  }

  /** @param {string | null} id */
  select(id) {
    this.#selected = id;
    this.#draw();
  }

  /** What is known better from the run's own stream. @param {Entry} state */
  update({ id, pipeline, status, created_at, progress }) {
    if (!this.#entries.has(id)) return;
    this.#entries.set(id, { id, pipeline, status, created_at, progress });
    this.#draw();
  }

  /** @param {string} id */
  remove(id) {
    this.#entries.delete(id);
    this.#draw();
  }

  /** Read the newest page. */
  async refresh() {
    if (this.#refreshing) return;
    this.#refreshing = true;
    clearTimeout(this.#timer);
    const era = this.#era;
    try {
      const { runs, next } = await this.#fetch({ limit: PAGE, ...this.#filter });
      if (era !== this.#era) return;
      this.#keepOlderThan(runs.at(-1)?.id, next);
      for (const run of runs) this.#entries.set(run.id, run);
      if (!this.#olderLoaded) this.#next = next;
      say(this.#parts.note, "");
      this.#draw();
    } catch {
      // It is tried again soon; until then the list is what it was, and says so.
      say(this.#parts.note, "The list could not be refreshed.");
    } finally {
      this.#refreshing = false;
      if (era !== this.#era) this.refresh();
      else this.#timer = window.setTimeout(() => !document.hidden && this.refresh(), this.#paceMs);
    }
  }

  get #filter() {
    const { status, pipeline } = this.#parts;
    return /** @type {any} */ ({
      ...(status.value && { status: status.value }),
      ...(pipeline.value && { pipeline: pipeline.value }),
    });
  }

  get #paceMs() {
    const underWay = [...this.#entries.values()].some(({ status }) => !isFinished(status));
    return underWay ? EVERY_MS_UNDER_WAY : EVERY_MS;
  }

  #again() {
    this.#era++;
    this.#entries.clear();
    this.#next = null;
    this.#olderLoaded = false;
    this.refresh();
  }

  /**
   * Ids grow with time, so what the fresh page should have named and did not is gone.
   * @param {string | undefined} last
   * @param {string | null} next
   */
  #keepOlderThan(last, next) {
    for (const id of this.#entries.keys()) {
      if (!next || last === undefined || id >= last) this.#entries.delete(id);
    }
  }

  async #older() {
    try {
      const { runs, next } = await this.#fetch({ limit: PAGE, before: this.#next ?? "", ...this.#filter });
      for (const run of runs) this.#entries.set(run.id, run);
      this.#next = next;
      this.#olderLoaded = true;
      this.#draw();
    } catch (error) {
      this.#failed(/** @type {Error} */ (error));
    }
  }

  #draw() {
    const { list, empty, older } = this.#parts;
    const ids = [...this.#entries.keys()].sort().reverse();
    for (const [id, row] of this.#rows) {
      if (!this.#entries.has(id)) {
        row.remove();
        this.#rows.delete(id);
      }
    }
    ids.forEach((id, place) => {
      const row = this.#rows.get(id) ?? newRow(id);
      this.#rows.set(id, row);
      fill(row, /** @type {Entry} */ (this.#entries.get(id)), id === this.#selected);
      if (list.children[place] !== row) list.insertBefore(row, list.children[place] ?? null);
    });
    empty.hidden = ids.length > 0;
    const filtered = Object.keys(this.#filter).length > 0;
    say(empty, filtered ? "No run is like that." : "No runs yet: fill in the form and press Start.");
    older.hidden = !this.#next;
  }
}

/** @param {string} id */
function newRow(id) {
  return el(
    "li",
    {},
    el(
      "a",
      { href: `#run=${encodeURIComponent(id)}`, class: "run-row" },
      el("span", { class: "name" }),
      el("span", { class: "pill" }),
      el("time"),
      el("span", { class: "percent" }),
      el("span", { class: "thin-bar" }),
    ),
  );
}

/** @param {HTMLElement} row @param {Entry} entry @param {boolean} selected */
function fill(row, { pipeline, status, created_at, progress }, selected) {
  const [link] = row.children;
  const [name, pill, time, percent, bar] = link?.children ?? [];
  if (!(link && name && pill && time && percent && bar instanceof HTMLElement)) return;
  const done = status === "completed" ? 100 : Math.round(progress ?? 0);
  say(name, pipeline);
  say(pill, status);
  pill.setAttribute("data-status", status);
  say(time, timeOf(created_at));
  say(percent, isFinished(status) ? "" : `${done} %`);
  bar.hidden = isFinished(status);
  bar.setAttribute("data-status", status);
  styled(bar, { value: `${done}%` });
  if (selected) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}
