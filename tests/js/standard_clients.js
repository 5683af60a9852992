// Clients that were not written for Runcast, as their own documentation uses them. Run by tests/e2e, which starts one
// by its name and reads a line of JSON for each thing that it saw.
//
// Rule 1: nothing of a client is changed or mended; where one has no reconnect of its own, the loop is the simplest.

import { setTimeout as sleep } from "node:timers/promises";
import { fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import { createParser } from "eventsource-parser";
import { WebSocket } from "ws";

const [, , name = "", base = "", token = "", run = ""] = process.argv;
const TYPES = ["run.queued", "run.started", "x.go", "run.completed"];
const URL_OF_RUN = `${base}/runs/${run}/events?replay=full`;
const headers = { Accept: "text/event-stream", Authorization: `Bearer ${token}` };

/** @param {object} seen */
const say = (seen) => console.log(JSON.stringify(seen));

/** @param {string} id @param {string} data */
const saw = (id, data) => say({ id, event: JSON.parse(data) });

async function eventsource() {
  const source = new EventSource(URL_OF_RUN, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } }),
  });
  for (const type of TYPES) source.addEventListener(type, (event) => saw(event.lastEventId, event.data));
  source.addEventListener("error", ({ code }) => {
    say({ error: code ?? null, closed: source.readyState === source.CLOSED });
  });
}

async function parser() {
  let last = "";
  let retry_ms = 1000;
  for (;;) {
    try {
      const response = await fetch(URL_OF_RUN, { headers: { ...headers, ...(last && { "Last-Event-ID": last }) } });
      if (response.status !== 200 || !response.body) return say({ error: response.status, closed: true });
      const events = createParser({
        onEvent({ id, data }) {
          if (!id) return;
          last = id;
          saw(id, data);
        },
        onRetry: (ms) => (retry_ms = ms),
      });
      for await (const text of response.body.pipeThrough(new TextDecoderStream())) events.feed(text);
    } catch {
      // Broken off: come back.
    }
    await sleep(retry_ms);
  }
}

/** Code for browsers; what it asks of one is here. */
async function fetch_event_source() {
  Object.assign(globalThis, {
    window: globalThis,
    document: { hidden: false, addEventListener() {}, removeEventListener() {} },
  });
  let status = 0;
  try {
    await fetchEventSource(URL_OF_RUN, {
      headers,
      async onopen(response) {
        status = response.status;
        if (status !== 200) throw new Error("no stream");
      },
      onmessage({ id, event, data }) {
        if (TYPES.includes(event)) saw(id, data);
      },
      onerror(error) {
        if (status !== 200) throw error;
      },
    });
  } catch {
    return say({ error: status, closed: true });
  }
  say({ error: null, closed: true });
}

async function ws() {
  let after = {};
  const connect = () => {
    const socket = new WebSocket(`${base.replace("http", "ws")}/ws`, "runcast.v1", { headers });
    socket.on("open", () => socket.send(JSON.stringify({ type: "subscribe", run, replay: "full", ...after })));
    socket.on("message", (data) => {
      const frame = JSON.parse(String(data));
      if (frame.type === "reply" && !frame.ok) say({ error: frame.error.code, closed: false });
      if (!frame.id) return;
      after = { after: frame.id };
      saw(frame.id, String(data));
      if (frame.type === "run.completed") socket.close(1000);
    });
    socket.on("error", () => {}); // a close follows
    socket.on("close", (code) => {
      if (code === 1000 || (code >= 4000 && code < 4100)) say({ error: code, closed: true });
      else setTimeout(connect, 50);
    });
  };
  connect();
}

/** @type {Record<string, () => Promise<void>>} */
const CLIENTS = { eventsource, parser, fetch_event_source, ws };
await CLIENTS[name]?.();
