// The tab that has the connection: it follows what the tabs want, and passes on what comes (see tabs.js).
//
// Rule 1: it keeps nothing of a run but how far it is. What it follows goes on with the next leader when it ends.

import { AWAY } from "./late.js";

/** @typedef {import("./connection.js").Subscription} Subscription */
/** @typedef {import("./connection.js").Link} Link */
/** @typedef {import("./client.js").Connections} Connections */
/** @typedef {import("./state.js").RunEvent} RunEvent */

/**
 * What tabs say to each other. `want`: all that a tab follows, and how far it is. `who`: a new leader asks for that.
 * `at`: how far the leader is. `alive`: it still leads.
 * @typedef {{type: "want", tab: string, runs: [string, string | null][]} | {type: "who"} | {type: "alive"}
 *   | {type: "wake"} | {type: "at", run: string, at: string | null} | {type: "link", run: string, link: Link}
 *   | {type: "gap", run: string, gap: any} | {type: "event", run: string, prev: string | null, event: RunEvent}} Word
 */

export class Leader {
  #name;
  #tell;
  #ending = new AbortController();
  /** @type {Map<string, [string, string | null][]>} */
  #wants = new Map();
  /** @type {Map<string, Subscription & {last: string | null}>} */
  #relays = new Map();
  connected;

  /** @param {string} name @param {{own: (changed: () => void) => Connections, changed: () => void, tell: (word: Word) => void}} near */
  constructor(name, { own, changed, tell }) {
    this.#name = name;
    this.#tell = (/** @type {Word} */ word) => this.#ending.signal.aborted || tell(word);
    this.connected = own(changed);
  }

  get connections() {
    return this.connected.connections;
  }

  /** @type {import("./transports.js").Command} */
  command = (type, fields) => this.connected.command(type, fields);

  end() {
    this.#ending.abort();
    for (const relay of this.#relays.values()) this.connected.leave(relay);
    this.#relays.clear();
  }

  /** @param {string} tab @param {[string, string | null][]} runs */
  want(tab, runs) {
    if (!this.#wants.has(tab)) {
      // It holds a lock of its own: whoever gets it knows that the tab went.
      const gone = () => this.#forget(tab);
      navigator.locks.request(`${this.#name} ${tab}`, { signal: this.#ending.signal }, gone).catch(() => {});
    }
    this.#wants.set(tab, runs);
    this.#follow();
  }

  /** How a run is followed. @param {string} run */
  link(run) {
    if (this.#relays.has(run)) this.#tell({ type: "link", run, link: this.#connection });
  }

  /** @param {string} tab */
  #forget(tab) {
    this.#wants.delete(tab);
    this.#follow();
  }

  #follow() {
    if (this.#ending.signal.aborted) return;
    const wanted = new Map([...this.#wants.values()].flat());
    for (const [run, relay] of this.#relays) {
      if (wanted.has(run)) continue;
      this.#relays.delete(run);
      this.connected.leave(relay);
    }
    for (const [run, cursor] of wanted) {
      const known = this.#relays.get(run);
      if (known) {
        this.#tell({ type: "at", run, at: known.last });
        this.link(run);
      } else this.#relay(run, cursor);
    }
  }

  /** All tabs are told; what they said before they knew is no wish for it. @param {string} run */
  #over(run) {
    this.#relays.delete(run);
    for (const [tab, runs] of this.#wants) this.#wants.set(tab, runs.filter(([wanted]) => wanted !== run));
  }

  get #connection() {
    return plain(this.connections[0] ?? AWAY);
  }

  /** @param {string} run @param {string | null} cursor */
  #relay(run, cursor) {
    const relay = {
      run,
      cursor,
      last: cursor,
      event: (/** @type {RunEvent} */ event) => {
        this.#tell({ type: "event", run, prev: relay.last, event });
        relay.last = event.id;
      },
      gap: (/** @type {any} */ gap) => {
        relay.last = null;
        this.#tell({ type: "gap", run, gap });
      },
      link: (/** @type {Link} */ link) => {
        if (link.reason) this.#over(run);
        this.#tell({ type: "link", run, link: plain(link) });
      },
    };
    this.#relays.set(run, relay);
    this.connected.join(relay);
  }
}

/** An Error's fields do not travel between tabs; its document does. @param {Link} link @returns {Link} */
function plain({ status, transport, retry_in_ms, reason, problem }) {
  return { status, transport, retry_in_ms, reason, problem: problem ? /** @type {any} */ ({ ...problem }) : null };
}
