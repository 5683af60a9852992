// <run-log>: every event that was heard, to look through; as rows, or as the frames that came over the wire.
//
// Rule 1: only the rows in sight are on the page, so a run of any length costs the same.
// Rule 2: a list box: one row is current; arrows, Home, End and Page keys move it; what it holds is laid out beside it.
// Rule 3: at its end the list follows the run; whoever moves away from there is left alone.

import { el, lengthOf, patch, say, styled } from "./dom.js";
import { RunElement } from "./element.js";
import { journalOf } from "./journal.js";

/** @typedef {import("../state.js").RunEvent} RunEvent */
/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../run.js").Run} Run */

const ROW_PX = 30;
const AROUND = 6;
let lists = 0;

export class RunLog extends RunElement {
  #id = `log-${++lists}`;
  /** @type {RunEvent[]} */
  #found = [];
  /** What was looked through for `#found`. */
  #seen = { heard: 0, era: 0, sought: "" };
  /** @type {string | null} The id of the current row's event. */
  #current = null;
  #following = true;
  #type = el(
    "select",
    { class: "small", "aria-label": "Type of event", onchange: () => this.changed() },
    el("option", { value: "" }, "All types"),
  );
  #types = new Set();
  /** The filter whose outcome was said. */
  #filter = "";
  #words = el("input", {
    class: "small",
    type: "search",
    placeholder: "Search",
    "aria-label": "Search in events",
    oninput: () => this.changed(),
  });
  #raw = el(
    "button",
    { type: "button", role: "switch", "aria-checked": "false", onclick: () => this.#toggleRaw() },
    "Frames",
  );
  #count = el("span", { class: "count faint" });
  /** What a filter has left, said once for each filter. */
  #aloud = el("p", { class: "unseen", role: "status" });
  #rows = el("div", { class: "log-rows" });
  #list = el(
    "div",
    {
      part: "list",
      class: "log-list",
      role: "listbox",
      tabindex: 0,
      "aria-label": "Events, newest last",
      onscroll: () => this.#scrolled(),
    },
    this.#rows,
  );
  #detail = el("pre", {
    part: "detail",
    class: "log-detail",
    tabindex: 0,
    role: "region",
    "aria-label": "The chosen event",
    hidden: true,
  });
  #none = el("p", { class: "empty" }, "No events yet.");

  constructor() {
    super();
    const tools = el(
      "div",
      { class: "log-tools", role: "group", "aria-label": "Filter" },
      this.#type,
      this.#words,
      this.#raw,
      this.#count,
      this.#aloud,
    );
    this.box.append(tools, this.#none, this.#list, this.#detail);
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("click", (event) => {
      const row = /** @type {Element} */ (event.target).closest("[data-key]");
      if (row) this.#choose(row.getAttribute("data-key"));
    });
    new ResizeObserver(() => this.changed()).observe(this.#list);
  }

  /** @override */
  begin() {
    this.#found = [];
    this.#seen = { heard: 0, era: 0, sought: "" };
    this.#current = null;
    this.#following = true;
    this.#types.clear();
    this.#type.replaceChildren(el("option", { value: "" }, "All types"));
    this.#detail.hidden = true;
  }

  /** @override @param {RunState | null} _state @param {Run | null} run */
  draw(_state, run) {
    if (run) this.#look(journalOf(run));
    const total = this.#found.length;
    const heard = run ? journalOf(run).events.length : 0;
    say(
      this.#count,
      total === heard
        ? `${total.toLocaleString()} events`
        : `${total.toLocaleString()} of ${heard.toLocaleString()} events`,
    );
    if (this.#filter !== this.#seen.sought) {
      this.#filter = this.#seen.sought;
      say(this.#aloud, this.#filter.trim() ? `${total} of ${heard} events` : "");
    }
    this.#none.hidden = total > 0;
    say(this.#none, heard > 0 ? "No event is like that." : "No events yet.");
    this.#list.hidden = total === 0;
    styled(this.#rows, { height: `${total * ROW_PX}px` });
    if (this.#following) this.#list.scrollTop = this.#list.scrollHeight;
    this.#drawRows();
  }

  /**
   * Look through what is new, or through all of it when something else is sought.
   * @param {import("./journal.js").Journal} journal
   */
  #look(journal) {
    const sought = `${this.#type.value} ${this.#words.value.toLowerCase()}`;
    const { events, heard, era } = journal;
    const anew = era !== this.#seen.era || sought !== this.#seen.sought;
    const fresh = anew ? events : events.slice(Math.max(0, events.length - (heard - this.#seen.heard)));
    if (anew) this.#found = [];
    for (const { type } of fresh) {
      if (this.#types.has(type)) continue;
      this.#types.add(type);
      const names = [...this.#type.options].map((option) => option.value);
      const place = names.findIndex((name) => name > type);
      this.#type.add(el("option", { value: type }, type), place < 0 ? null : place);
    }
    this.#found.push(...fresh.filter((event) => this.#wanted(event)));
    const oldest = events[0];
    if (oldest && this.#found.length > events.length) this.#found.splice(0, this.#found.length - events.length);
    this.#seen = { heard, era, sought };
  }

  /** @param {RunEvent} event */
  #wanted(event) {
    if (this.#type.value && event.type !== this.#type.value) return false;
    const words = this.#words.value.trim().toLowerCase();
    return !words || JSON.stringify(event).toLowerCase().includes(words);
  }

  #drawRows() {
    const { scrollTop, clientHeight } = this.#list;
    const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - AROUND);
    const last = Math.min(this.#found.length, Math.ceil((scrollTop + clientHeight) / ROW_PX) + AROUND);
    styled(this.#rows, { before: `${first * ROW_PX}px` });
    const raw = this.#raw.getAttribute("aria-checked") === "true";
    const rows = this.#found.slice(first, last).map((event, place) => this.#row(event, first + place, raw));
    patch(this.#rows, rows);
    const shown = this.#current !== null && rows.some((row) => row.getAttribute("data-key") === this.#current);
    if (shown) this.#list.setAttribute("aria-activedescendant", this.#rowId(this.#current ?? ""));
    else this.#list.removeAttribute("aria-activedescendant");
  }

  /** @param {RunEvent} event @param {number} place @param {boolean} raw */
  #row(event, place, raw) {
    const parts = raw
      ? [el("span", { class: "wire" }, frameOf(event).replaceAll("\n", "  "))]
      : [
          el("span", { class: "offset" }, event.id.split("-")[1] ?? ""),
          el("span", { class: "clock" }, clock(event.ts)),
          el("span", { class: "type" }, event.type),
          el("span", { class: "gist" }, gist(event)),
        ];
    const chosen = event.id === this.#current;
    return el(
      "div",
      {
        id: this.#rowId(event.id),
        class: raw ? "log-row raw" : "log-row",
        role: "option",
        "data-key": event.id,
        "data-type": event.type,
        "aria-selected": String(chosen),
        "aria-posinset": place + 1,
        "aria-setsize": this.#found.length,
      },
      ...parts,
    );
  }

  /** @param {string} event */
  #rowId(event) {
    return `${this.#id}-${event}`;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#list;
    this.#following = scrollHeight - scrollTop - clientHeight < ROW_PX;
    this.#drawRows();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const at = this.#found.findIndex(({ id }) => id === this.#current);
    const page = Math.max(1, Math.floor(this.#list.clientHeight / ROW_PX) - 1);
    const last = this.#found.length - 1;
    const start = at < 0 ? last + 1 : at;
    /** @type {Record<string, number>} */
    const to = {
      ArrowDown: at < 0 ? 0 : at + 1,
      ArrowUp: start - 1,
      PageDown: at + page,
      PageUp: start - page,
      Home: 0,
      End: last,
    };
    if (event.key === "Escape") return this.#choose(null);
    const place = to[event.key];
    if (place === undefined || last < 0) return;
    event.preventDefault();
    const next = Math.min(last, Math.max(0, place));
    this.#choose(this.#found[next]?.id ?? null);
    const top = next * ROW_PX;
    const { scrollTop, clientHeight } = this.#list;
    if (top < scrollTop) this.#list.scrollTop = top;
    else if (top + ROW_PX > scrollTop + clientHeight) this.#list.scrollTop = top + ROW_PX - clientHeight;
    this.#drawRows();
  }

  /** @param {string | null} id */
  #choose(id) {
    this.#current = id;
    const event = this.#found.find((one) => one.id === id);
    this.#detail.hidden = !event;
    const raw = this.#raw.getAttribute("aria-checked") === "true";
    say(this.#detail, event ? (raw ? frameOf(event) : JSON.stringify(event, null, 2)) : "");
    this.#drawRows();
  }

  #toggleRaw() {
    this.#raw.setAttribute("aria-checked", String(this.#raw.getAttribute("aria-checked") !== "true"));
    this.#choose(this.#current);
  }
}

/** The event as it stands on an SSE stream. @param {RunEvent} event */
function frameOf(event) {
  return `id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}`;
}

/** @param {number} ms */
function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

/** What an event says, in a line. @param {RunEvent} event */
function gist(event) {
  const { type, run, id, ts, ...own } = event;
  if (type === "run.completed") return `in ${lengthOf(own["duration_ms"])}`;
  const said =
    own["error"]?.message ??
    own["message"] ??
    own["delta"] ??
    own["draft"] ??
    own["prompt"] ??
    own["stage"] ??
    own["tool"] ??
    own["model"] ??
    own["reason"] ??
    own["pipeline"];
  const text = typeof said === "string" ? said : Object.keys(own).length > 0 ? JSON.stringify(own) : "";
  const line = text.slice(0, 200).replace(/\s+/g, " ");
  return type === "progress" ? `${own["progress"]} % ${line}` : line;
}
