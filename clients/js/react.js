// React hooks over the client (`import … from "runcast/react"`).
//
// Rule 1: rendering opens nothing; a run is followed while a component that shows it is mounted. Whatever mounts
// twice, or in two places, shares one run.
// Rule 2: nothing is copied into React's own state that the client already keeps.

import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useMemo,
  useRef,
  useState,
  useSyncExternalStore,
} from "react";
import { AWAY } from "./late.js";
import { initialState } from "./state.js";

/** @typedef {import("./client.js").Client} Client */
/** @typedef {import("./run.js").Run} Run */
/** @typedef {import("./state.js").RunState} RunState */
/** @typedef {import("./state.js").RunEvent} RunEvent */
/** @typedef {import("./client.js").StartOptions} StartOptions */

/**
 * `run` is null without an id. Its methods (`cancel`, `pause`, …) are there to be called.
 * @typedef {{run: Run | null, state: RunState, connection: import("./connection.js").Link}} Watched
 */

/** @type {import("react").Context<Client | null>} */
const Given = createContext(/** @type {Client | null} */ (null));
const never = () => () => {};

/** Gives the components below it their client. @param {{client: Client, children?: import("react").ReactNode}} props */
export function RuncastProvider({ client, children }) {
  return createElement(Given.Provider, { value: client }, children);
}

/** The client that RuncastProvider gave. @returns {Client} */
export function useClient() {
  const client = useContext(Given);
  if (!client) throw new Error("There is no RuncastProvider above this component.");
  return client;
}

/**
 * A run, followed while the component is mounted. `initial`: the state to show before the first event, for instance
 * one that a server read; it must be the same on the server and in the browser. `onEvent` is called with each event.
 * @param {string | null | undefined} id
 * @param {{initial?: Partial<RunState>, onEvent?: (event: RunEvent) => void}} [options]
 * @returns {Watched}
 */
export function useRun(id, { initial, onEvent } = {}) {
  const client = useClient();
  const run = useMemo(() => (id ? client.run(id) : null), [client, id]);
  const first = useMemo(() => Object.freeze(initialState(initial ?? { id: id ?? "" })), [id, initial]);
  const subscribe = run?.subscribe ?? never;
  const state = useSyncExternalStore(
    subscribe,
    () => (run?.state.tail ? run.state : first),
    () => first,
  );
  const connection = useSyncExternalStore(
    subscribe,
    () => run?.connection ?? AWAY,
    () => AWAY,
  );
  const latest = useRef(onEvent);
  useEffect(() => {
    latest.current = onEvent;
  });
  const listens = Boolean(onEvent);
  useEffect(() => (listens ? run?.on("*", (event) => latest.current?.(event)) : undefined), [run, listens]);
  return { run, state, connection };
}

/**
 * Start runs of a pipeline, and follow the last one. `start` resolves to the run, or to null when it was refused:
 * then `error` says why.
 * @param {string} pipeline
 * @returns {Watched & {start: (input: unknown, options?: StartOptions) => Promise<Run | null>, starting: boolean,
 *   error: Error | null}}
 */
export function useStartRun(pipeline) {
  const client = useClient();
  /** @type {{id: string | null, starting: boolean, error: Error | null}} */
  const none = { id: null, starting: false, error: null };
  const [{ id, starting, error }, set] = useState(none);
  const begun = useRef(0);
  const start = useCallback(
    async (/** @type {unknown} */ input, /** @type {StartOptions} */ options = {}) => {
      const mine = ++begun.current;
      // The last one pressed counts, whichever is answered first.
      const put = (/** @type {typeof none} */ now) => mine === begun.current && set(now);
      put({ id: null, starting: true, error: null });
      try {
        const run = await client.start(pipeline, input, options);
        put({ id: run.id, starting: false, error: null });
        return run;
      } catch (problem) {
        put({ id: null, starting: false, error: /** @type {Error} */ (problem) });
        return null;
      }
    },
    [client, pipeline],
  );
  return { ...useRun(id), start, starting, error };
}

/**
 * The caller's runs, newest first, read when the component is mounted and by `refresh`; `more` adds the next page.
 * @param {{status?: import("./state.js").RunStatus, pipeline?: string, limit?: number}} [filter]
 * @returns {Listed & {refresh: () => void, more: () => void}}
 */
export function useRuns(filter = {}) {
  const client = useClient();
  const asked = JSON.stringify(filter);
  const list = useMemo(() => listing(client, JSON.parse(asked)), [client, asked]);
  const listed = useSyncExternalStore(list.subscribe, list.get, list.get);
  return { ...listed, refresh: list.refresh, more: list.more };
}

/** @typedef {{runs: readonly RunState[], next: string | null, loading: boolean, error: Error | null}} Listed */

/** @param {Client} client @param {object} filter */
function listing(client, filter) {
  /** @type {Listed} */
  let now = Object.freeze({ runs: [], next: null, loading: true, error: null });
  let ending = new AbortController();
  /** @type {Set<() => void>} */
  const listeners = new Set();
  /** @param {Partial<Listed>} more */
  function put(more) {
    now = Object.freeze({ ...now, ...more });
    for (const listener of listeners) listener();
  }
  /** @param {string} [before] */
  async function load(before) {
    ending.abort();
    ending = new AbortController();
    const { signal } = ending;
    if (!now.loading) put({ loading: true });
    try {
      const { runs, next } = await client.runs({ ...filter, before, signal });
      if (!signal.aborted) put({ runs: before ? [...now.runs, ...runs] : runs, next, loading: false, error: null });
    } catch (error) {
      if (!signal.aborted) put({ loading: false, error: /** @type {Error} */ (error) });
    }
  }
  return {
    get: () => now,
    refresh: () => void load(),
    more: () => void (now.next && load(now.next)),
    /** @param {() => void} listener */
    subscribe(listener) {
      listeners.add(listener);
      if (listeners.size === 1) load();
      return () => {
        listeners.delete(listener);
        if (!listeners.size) ending.abort();
      };
    },
  };
}
