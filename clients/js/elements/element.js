// What all elements have in common: where their run comes from, when they draw, how they look.
//
// Rule 1: an element shows a run and asks things of it; it keeps none of the run's state itself.
// Rule 2: drawing is gathered: however many events arrive, an element draws a few times a second.
// Rule 3: a run is followed as long as an element on the page shows it, and no longer; nobody has to close anything.

import { Client } from "../client.js";
import { journalOf } from "./journal.js";

/** @typedef {import("../run.js").Run} Run */
/** @typedef {import("../state.js").RunState} RunState */
/** @typedef {import("../api.js").GetToken} GetToken */

/** @param {URL} file */
async function sheet(file) {
  const made = new CSSStyleSheet();
  try {
    const response = await fetch(file);
    if (response.ok) made.replaceSync(await response.text());
  } catch {
    // Without its looks an element still says what it has to say.
  }
  return made;
}

// Before any element is defined, so that none is ever seen without them.
const SHEETS = await Promise.all([
  sheet(new URL("./theme.css", import.meta.url)),
  sheet(new URL("./parts.css", import.meta.url)),
]);

/** Whose token is asked of nobody: the gateway's cookie will do. @type {GetToken} */
const NOBODY = async () => null;

/** One client for all elements of a page that go to the same place as the same person. */
/** @type {WeakMap<GetToken, Map<string, Client>>} */
const clients = new WeakMap();

/** @param {string} url @param {GetToken} getToken */
function clientOf(url, getToken) {
  const theirs = clients.get(getToken) ?? new Map();
  clients.set(getToken, theirs);
  const client = theirs.get(url) ?? new Client({ url, getToken });
  theirs.set(url, client);
  return client;
}

// However costly an element is to draw, the page has this many times as long for everything else.
const RESTS = 5;

export class RunElement extends HTMLElement {
  /** Milliseconds between two drawings; more where drawing costs more. */
  static pace = 60;
  static observedAttributes = ["run-id", "url"];

  /** @type {Run | null} */
  #run = null;
  /** The client that made it for `run-id`, if one did. @type {Client | null} */
  #maker = null;
  /** @type {GetToken | null} */
  #getToken = null;
  /** @type {Client | null} */
  #client = null;
  #leave = () => {};
  #drawing = 0;
  /** Milliseconds that the last drawing took. */
  #cost = 0;
  #finding = 0;

  constructor() {
    super();
    this.box = this.attachShadow({ mode: "open" });
    this.box.adoptedStyleSheets = SHEETS;
  }

  /** The run that is shown. @returns {Run | null} */
  get run() {
    return this.#run;
  }

  set run(run) {
    this.#take(run ?? null, null);
  }

  /** Where the token comes from, when the run is named by `run-id`: as a Client's `getToken`. */
  get getToken() {
    return this.#getToken;
  }

  set getToken(getToken) {
    this.#getToken = getToken;
    this.#find();
  }

  /** A client instead of `url` and `getToken`. */
  get client() {
    return this.#client;
  }

  set client(client) {
    this.#client = client;
    this.#find();
  }

  connectedCallback() {
    // What was set before the element was defined.
    for (const name of /** @type {const} */ (["client", "getToken", "run"])) {
      if (!Object.hasOwn(this, name)) continue;
      const value = this[name];
      delete this[name];
      /** @type {any} */ (this)[name] = value;
    }
    if (this.#run) this.#join();
    else this.#find();
    // At once: before it is drawn, everything that it may ever show is in sight.
    this.#draw();
  }

  disconnectedCallback() {
    this.#leave();
    this.#leave = () => {};
    clearTimeout(this.#drawing);
    clearTimeout(this.#finding);
    this.#drawing = this.#finding = 0;
    if (this.#maker) this.#take(null, null);
  }

  /** @param {string} _name */
  attributeChangedCallback(_name) {
    this.#find();
  }

  /** There is something new: draw soon. */
  changed() {
    const { pace } = /** @type {typeof RunElement} */ (this.constructor);
    this.#drawing ||= window.setTimeout(
      () => {
        this.#drawing = 0;
        this.#draw();
      },
      Math.max(pace, this.#cost * RESTS),
    );
  }

  #draw() {
    const began = performance.now();
    this.draw(this.#run?.state ?? null, this.#run);
    this.#cost = performance.now() - began;
  }

  /**
   * Show this; drawing twice changes nothing. Without a run both are null.
   * @param {RunState | null} _state
   * @param {Run | null} _run
   */
  draw(_state, _run) {}

  /** Another run has taken the place of the one before. @param {Run | null} _run */
  begin(_run) {}

  /** Tell the page. @param {string} name @param {unknown} detail @returns {boolean} false: the page takes care of it */
  tell(name, detail) {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable: true }));
  }

  /** Once all that is set together is set. */
  #find() {
    this.#finding ||= window.setTimeout(() => {
      this.#finding = 0;
      const id = this.getAttribute("run-id");
      if (!this.isConnected || (this.#run && !this.#maker)) return;
      if (!id) return this.#take(null, null);
      const client = this.#client ?? clientOf(this.getAttribute("url") ?? "", this.#getToken ?? NOBODY);
      if (this.#run?.id !== id || this.#maker !== client) this.#take(client.run(id), client);
    });
  }

  /** @param {Run | null} run @param {Client | null} maker */
  #take(run, maker) {
    if (run === this.#run) return;
    this.#leave();
    this.#leave = () => {};
    this.#run = run;
    this.#maker = maker;
    this.begin(run);
    if (this.isConnected) this.#join();
    this.changed();
  }

  #join() {
    this.#leave();
    this.#leave = this.#run ? journalOf(this.#run).look(() => this.changed()) : () => {};
  }
}
