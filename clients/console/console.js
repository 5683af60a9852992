// The console: puts its parts together and follows the address.
//
// Rule 1: the page's address says which run is shown (`#run=<id>`); everything else follows from that.

import { Client } from "../js/client.js";
import "../js/elements/index.js";
import { TRANSPORTS } from "../js/policy.js";
import { follow } from "./actions.js";
import { byId, confirmed, toast } from "./page.js";
import { RunPage } from "./run_page.js";
import { RunsList } from "./runs_list.js";
import { StartForm } from "./start.js";
import { remember } from "./started.js";
import { TokenSource } from "./token.js";

/** @typedef {import("../js/policy.js").Transport} Transport */

const CHOICE_KEY = "runcast.transport";

const tokens = new TokenSource();
const choice = byId("transport-choice", HTMLSelectElement);
choice.value = localStorage.getItem(CHOICE_KEY) ?? "auto";
if (choice.selectedIndex < 0) choice.value = "auto";
let client = clientFor(choice.value);

/** @param {string} chosen */
function clientFor(chosen) {
  return new Client({
    getToken: tokens.get,
    transports: chosen === "auto" ? TRANSPORTS : [/** @type {Transport} */ (chosen)],
  });
}

/** @param {string} pipeline @param {unknown} input @param {object} options @param {string} [key] */
async function start(pipeline, input, options, key) {
  const { id } = await client.start(pipeline, input, { ...options, key });
  remember(id, { input, options });
  location.hash = `run=${id}`;
  list.refresh();
}

const page = new RunPage({
  changed(state) {
    list.update(state);
    if (state.id !== "") list.heard(`${state.id} ${state.status}`);
  },
});
const list = new RunsList({ fetch: (filter) => client.runs(filter), failed: (error) => toast(error.message) });
const form = new StartForm({ read: () => client.call("GET", "/pipelines"), start });

function followAddress() {
  const id = new URLSearchParams(location.hash.slice(1)).get("run") || null;
  if (id !== page.id) page.open(id ? client.run(id) : null);
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

choice.addEventListener("change", () => {
  localStorage.setItem(CHOICE_KEY, choice.value);
  const { id } = page;
  page.open(null);
  client.closeAll();
  client = clientFor(choice.value);
  if (id) page.open(client.run(id));
});

// Until now nobody would have heard a choice.
choice.disabled = false;

const panel = byId("panel");
panel.addEventListener("run-retried", (event) => {
  // The address leads there.
  event.preventDefault();
  const { run, before } = /** @type {CustomEvent} */ (event).detail;
  remember(run.id, before.id);
  location.hash = `run=${run.id}`;
  list.refresh();
});
panel.addEventListener("run-action", async (event) => {
  const { run, action, argument } = /** @type {CustomEvent} */ (event).detail;
  try {
    await follow(run, action, argument, start);
  } catch (error) {
    toast(/** @type {Error} */ (error).message);
  }
});

byId("delete").addEventListener("click", async () => {
  const { id } = page;
  if (!id || !(await confirmed("Delete this run and all its events? This cannot be undone.", "Delete"))) return;
  try {
    await client.call("DELETE", `/runs/${encodeURIComponent(id)}`);
  } catch (error) {
    return toast(/** @type {Error} */ (error).message);
  }
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
byId("runs").addEventListener("click", () => page.id && show("run"));

window.addEventListener("hashchange", followAddress);
followAddress();
await Promise.all([form.load().then((names) => list.offer(names)), list.refresh()]);
