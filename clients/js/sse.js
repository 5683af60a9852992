// Server-sent events: bytes in, messages out (WHATWG HTML, "Interpreting an event stream").
//
// Rule 1: no I/O and no clock. Whoever owns the bytes feeds them, cut anywhere: inside a character, a line ending,
// a field's name.
// Rule 2: a message comes out as soon as its blank line is in, so CR ends a line at once and a LF right after it,
// perhaps in the next piece, is the rest of the same ending.
// Rule 3: what has no blank line after it when the stream ends was never sent.

/**
 * `event` is "message" when the stream named none; `id` is the last one seen, also when this message had none.
 * @typedef {{event: string, data: string, id: string}} Message
 */

const LF = 10;
const CR = 13;
const DIGITS = /^[0-9]+$/;

export class SseParser {
  // The decoder drops a leading byte order mark, which is what the standard's "UTF-8 decode" asks for.
  #decoder = new TextDecoder();
  /** The line that has no ending yet, in pieces: joined once, so it costs no more than its length. @type {string[]} */
  #begun = [];
  #afterCr = false;
  #data = "";
  #event = "";
  #id = "";

  /** The last `retry:` in milliseconds. @type {number | null} */
  retry = null;

  /**
   * @param {Uint8Array} bytes
   * @returns {Message[]} the messages that these bytes complete
   */
  feed(bytes) {
    const text = this.#decoder.decode(bytes, { stream: true });
    /** @type {Message[]} */
    const messages = [];
    if (text === "") return messages;
    let start = this.#afterCr && text.charCodeAt(0) === LF ? 1 : 0;
    for (let at = start; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code !== LF && code !== CR) continue;
      this.#begun.push(text.slice(start, at));
      const message = this.#line(this.#begun.join(""));
      if (message) messages.push(message);
      this.#begun.length = 0;
      if (code === CR && text.charCodeAt(at + 1) === LF) at++;
      start = at + 1;
    }
    this.#afterCr = text.charCodeAt(text.length - 1) === CR;
    if (start < text.length) this.#begun.push(text.slice(start));
    return messages;
  }

  /** @param {string} line */
  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line.charCodeAt(colon + 1) === 32 ? colon + 2 : colon + 1);
    if (name === "data") this.#data += value + "\n";
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && DIGITS.test(value)) this.retry = Number(value);
    return null;
  }

  /** @returns {Message | null} */
  #dispatch() {
    const data = this.#data;
    const event = this.#event || "message";
    this.#data = this.#event = "";
    return data === "" ? null : { event, data: data.slice(0, -1), id: this.#id };
  }
}
