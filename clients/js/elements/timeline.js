// <run-timeline>: when what happened: stages, calls of models and tools, questions and pauses as bars over time.
//
// Rule 1: the picture is a pure function of the story; this element adds only pointing, keys and details.
// Rule 2: whatever the picture shows stands in a table, too.

import { isFinished } from "../state.js";
import { costOf, el, lengthOf, patch, say, styled } from "./dom.js";
import { RunElement } from "./element.js";
import { journalOf } from "./journal.js";
import { rowsOf } from "./timeline_rows.js";

/** @typedef {import("./story.js").Story} Story */
/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../run.js").Run} Run */

/** @typedef {import("./timeline_rows.js").Row} Row */

// While it lasts a bar grows without an event.
const TICK_MS = 1_000;

export class RunTimeline extends RunElement {
  /** @override */
  static pace = 150;
  #chart = el("div", { part: "chart", class: "timeline", role: "group" });
  #detail = el("p", { part: "detail", class: "timeline-detail", "aria-hidden": "true" });
  #table = el("table", {});
  #words = el(
    "details",
    { class: "json" },
    el("summary", {}, "As a table"),
    el("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": "Timeline as a table" }, this.#table),
  );
  #none = el("p", { class: "empty" }, "No stages or calls to show.");
  #seen = "";
  /** The bar that the Tab key comes to. */
  #current = "";
  #pointed = false;
  #ticking = 0;

  constructor() {
    super();
    this.box.append(this.#none, this.#chart, this.#detail, this.#words);
    this.#chart.addEventListener("keydown", (event) => this.#key(event));
    for (const type of ["focusin", "pointerover"]) {
      this.#chart.addEventListener(type, (event) => {
        const bar = barAt(event.target);
        this.#pointed = bar !== null;
        if (bar) say(this.#detail, bar.getAttribute("aria-label") ?? "");
        if (bar && type === "focusin") this.#current = bar.getAttribute("data-key") ?? "";
      });
    }
    this.#chart.addEventListener("pointerleave", () => {
      this.#pointed = false;
      this.#again();
    });
    this.#words.addEventListener("toggle", () => this.#again());
  }

  #again() {
    this.#seen = "";
    this.changed();
  }

  /** @override */
  begin() {
    this.#seen = this.#current = "";
    this.#pointed = false;
    say(this.#detail, "");
  }

  /** @override @param {RunState | null} state @param {Run | null} run */
  draw(state, run) {
    const journal = run ? journalOf(run) : null;
    const over = !state || isFinished(state.status);
    const now = over ? (journal?.story.last ?? 0) : Math.max(journal?.story.last ?? 0, Date.now());
    const seen = `${journal?.era} ${journal?.heard} ${state?.status} ${Math.floor(now / TICK_MS)}`;
    clearTimeout(this.#ticking);
    if (!over && this.isConnected) this.#ticking = window.setTimeout(() => this.changed(), TICK_MS);
    if (seen === this.#seen) return;
    this.#seen = seen;
    const rows = journal ? rowsOf(journal.story, now) : [];
    this.#none.hidden = rows.length > 0;
    this.#chart.hidden = this.#words.hidden = this.#detail.hidden = rows.length === 0;
    if (!journal || rows.length === 0) return;
    this.#chart.setAttribute("aria-label", summary(journal.story, now));
    patch(this.#chart, chart(journal.story, rows, now));
    const bars = this.#bars();
    if (!bars.some((bar) => bar.dataset["key"] === this.#current)) this.#current = bars[0]?.dataset["key"] ?? "";
    for (const bar of bars) bar.tabIndex = bar.dataset["key"] === this.#current ? 0 : -1;
    if (!this.#pointed) say(this.#detail, summary(journal.story, now));
    if (this.#words.open) patch(this.#table, table(rows, journal.story, now));
  }

  #bars() {
    return /** @type {HTMLElement[]} */ ([...this.#chart.querySelectorAll("button")]);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const bars = this.#bars();
    const at = bars.findIndex((bar) => bar === this.box.activeElement);
    /** @type {Record<string, number>} */
    const to = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: bars.length - 1,
    };
    const place = to[event.key];
    if (place === undefined || at < 0) return;
    event.preventDefault();
    const next = bars[Math.min(bars.length - 1, Math.max(0, place))];
    for (const bar of bars) bar.tabIndex = bar === next ? 0 : -1;
    next?.focus();
  }
}

/** @param {EventTarget | null} target */
function barAt(target) {
  return target instanceof Element ? target.closest("button") : null;
}

/** @param {Story} story @param {Row[]} rows @param {number} now */
function chart(story, rows, now) {
  const from = story.began ?? 0;
  const length = Math.max(1, (story.ended ?? now) - from);
  const step = stepOf(length);
  const ticks = [];
  for (let at = 0; at <= length; at += step) {
    // The last one needs room for its words.
    if (at > 0 && at > length * 0.9) break;
    ticks.push(
      styled(el("span", { class: "tick" }, at === 0 ? "0" : lengthOf(at).replace(".0 ", " ")), {
        at: percent(at / length),
      }),
    );
  }
  return [
    ...rows.map(({ title, bars }) =>
      el(
        "div",
        { class: "lane" },
        el("span", { class: "lane-title", title }, title),
        el(
          "div",
          { class: "track" },
          ...bars.map(({ key, kind, label, says, began, ended, open }) =>
            styled(
              el(
                "button",
                {
                  type: "button",
                  class: `bar-of ${kind}`,
                  "data-key": key,
                  "data-open": open,
                  "aria-label": says,
                  tabindex: -1,
                },
                el("span", {}, kind.startsWith("stage") ? lengthOf(ended - began) : label),
              ),
              { at: percent((began - from) / length), wide: percent((ended - began) / length) },
            ),
          ),
        ),
      ),
    ),
    el("div", { class: "axis", "aria-hidden": "true" }, ...ticks),
  ];
}

/** @param {Row[]} rows @param {Story} story @param {number} now */
function table(rows, story, now) {
  const heads = ["What", "Kind", "Begins at", "Lasts", "Cost"];
  const from = story.began ?? 0;
  return [
    el("caption", { class: "unseen" }, summary(story, now)),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el(
      "tbody",
      {},
      ...rows.flatMap(({ bars }) =>
        bars.map(({ label, kind, began, ended, open, cost_usd }) =>
          el(
            "tr",
            {},
            ...[
              label,
              kind,
              lengthOf(began - from),
              `${lengthOf(ended - began)}${open ? " so far" : ""}`,
              cost_usd === undefined ? "" : costOf(cost_usd),
            ].map((text) => el("td", {}, text)),
          ),
        ),
      ),
    ),
  ];
}

/** @param {Story} story @param {number} now */
function summary(story, now) {
  const models = story.calls.filter(({ kind }) => kind === "llm").length;
  const tools = story.calls.length - models;
  /** @param {number} count @param {string} what */
  const plural = (count, what) => (count > 0 ? `${count} ${what}${count === 1 ? "" : "s"}` : "");
  const length = (story.ended ?? now) - (story.began ?? now);
  const cost = story.spent_usd > 0 ? ` for ${costOf(story.spent_usd)}` : "";
  const parts = [
    plural(story.stages.length, "stage"),
    plural(models, "model call") + (models ? cost : ""),
    plural(tools, "tool call"),
  ];
  return `${lengthOf(length)}: ${parts.filter(Boolean).join(", ")}`;
}

/** @param {number} share */
function percent(share) {
  return `${(Math.min(1, Math.max(0, share)) * 100).toFixed(3)}%`;
}

/** About five ticks, at round times. @param {number} length ms */
function stepOf(length) {
  const rough = length / 5;
  const round = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000,
    1_800_000,
  ];
  return round.find((step) => step >= rough) ?? Math.ceil(rough / 3_600_000) * 3_600_000;
}
