// The console: puts its parts together and follows the address.
//
// Rule 1: the page's address says which run is shown (`#run=<id>`); everything else follows from that.
// Rule 2: drawing is gathered: however many events arrive, the page is drawn a few times a second.

import { createApi } from "../js/api.js";
import { isFinished } from "../js/state.js";
import { byId, toast } from "./dom.js";
import { EventLog } from "./event_log.js";
import { DraftBox, drawQuestions, OutputBox } from "./output.js";
import { drawRun } from "./run_view.js";
import { RunsList } from "./runs_list.js";
import { StartForm } from "./start.js";
import { confirmed, TokenSource } from "./token.js";
import { Watch } from "./watch.js";

const DRAW_EVERY_MS = 50;
const CHOICE_KEY = "runcast.transport";

const tokens = new TokenSource();
const call = createApi({ getToken: tokens.get });
const draft = new DraftBox();
const output = new OutputBox();
const log = new EventLog({ list: byId("events"), count: byId("events-count") });

const watch = new Watch({
  call,
  getToken: tokens.get,
  changed: () => draw(),
  logged(events, fresh) {
    if (fresh) {
      log.clear();
      draft.clear();
    }
    log.add(events);
  },
});

const list = new RunsList({
  call,
  failed: (error) => toast(/** @type {Error} */ (error).message),
  parts: {
    list: byId("runs"),
    empty: byId("runs-empty"),
    older: byId("older", HTMLButtonElement),
    note: byId("runs-note"),
  },
});

const start = new StartForm({
  call,
  started(id) {
    location.hash = `run=${id}`;
    list.refresh();
  },
});

let drawing = 0;
let listed = "";

function draw() {
  drawing ||= window.setTimeout(() => {
    drawing = 0;
    const { state } = watch;
    drawRun(watch);
    log.draw();
    output.draw(state);
    if (!state) return;
    draft.draw(state);
    drawQuestions(state, (input_id, value) => watch.answer(input_id, value));
    list.update(state);
    const now = `${state.id} ${state.status}`;
    if (now !== listed) list.refresh();
    listed = now;
  }, DRAW_EVERY_MS);
}

// The length of a run under way grows without an event.
setInterval(() => watch.state && !isFinished(watch.state.status) && draw(), 1_000);

function followAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("run") || null;
  if (id !== watch.id) {
    byId("draft-panel", HTMLDetailsElement).open = true;
    watch.open(id);
  }
  list.select(id);
  show(id ? "run" : "new");
}

/** On a narrow page one panel is shown at a time. @param {string} panel */
function show(panel) {
  document.body.dataset["panel"] = panel;
  for (const tab of document.querySelectorAll("[data-shows-panel]")) {
    const current = tab.getAttribute("data-shows-panel") === panel;
    tab.setAttribute("aria-current", String(current));
  }
}

/**
 * A button that asks something of the run: once at a time, and failures are told.
 * @param {string} id
 * @param {() => Promise<unknown>} ask
 */
function onPress(id, ask) {
  const button = byId(id, HTMLButtonElement);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await ask();
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
    } finally {
      button.disabled = false;
      draw();
    }
  });
}

onPress("cancel", () => watch.cancel());
byId("reconnect").addEventListener("click", () => watch.reconnect());
byId("missing-again").addEventListener("click", () => watch.open(watch.id));
onPress("retry", async () => {
  location.hash = `run=${await watch.retry()}`;
});
onPress("delete", async () => {
  const { id } = watch;
  if (!id || !(await confirmed("Delete this run and all its events? This cannot be undone.", "Delete"))) return;
  await watch.erase();
  list.remove(id);
  history.replaceState(null, "", location.pathname);
  followAddress();
  toast("The run was deleted.", "good");
});

for (const tab of document.querySelectorAll("[data-shows-panel]")) {
  tab.addEventListener("click", () => show(tab.getAttribute("data-shows-panel") ?? "new"));
}

byId("skip").addEventListener("click", (event) => {
  // As a plain link it would take the run out of the address.
  event.preventDefault();
  byId("run-panel").focus();
});

// Choosing the run that is open already changes no address.
byId("runs").addEventListener("click", () => watch.id && show("run"));

const choice = byId("transport-choice", HTMLSelectElement);
choice.value = localStorage.getItem(CHOICE_KEY) ?? "auto";
if (choice.selectedIndex < 0) choice.value = "auto";
watch.choice = /** @type {typeof watch.choice} */ (choice.value);
choice.addEventListener("change", () => {
  localStorage.setItem(CHOICE_KEY, choice.value);
  watch.choice = /** @type {typeof watch.choice} */ (choice.value);
  watch.reconnect();
});

window.addEventListener("hashchange", followAddress);
followAddress();
draw();
await Promise.all([start.load(), list.refresh()]);
