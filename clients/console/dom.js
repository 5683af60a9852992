// Making and finding elements.
//
// Rule 1: text goes in as text. Nothing here, or anywhere in the console, parses a string as HTML.
// Rule 2: no style attributes: the page's Content-Security-Policy would drop them.

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * An element with attributes, listeners (`onclick: …`) and children; what is null, undefined or false is left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child instanceof Node || typeof child === "string"));
  return element;
}

/**
 * The element of index.html with this id. Throws when the page has none of that kind.
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} [kind]
 * @returns {Kind}
 */
export function byId(id, kind = /** @type {new () => Kind} */ (/** @type {unknown} */ (HTMLElement))) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`the page has no ${kind.name} #${id}`);
  return element;
}

/**
 * Write text only when it is new, so that screen readers hear a change once.
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Where each box was put, and whether its reader has scrolled away from the end. */
/** @type {WeakMap<Element, {top: number, away: boolean}>} */
const places = new WeakMap();

/**
 * Let a scrolling box grow and keep it at its end, unless its reader has scrolled away from there.
 * @param {Element} box
 * @param {() => void} grow
 */
export function atEnd(box, grow) {
  const place = places.get(box) ?? watched(box);
  // The reader may have scrolled since the last frame, before any scroll event could tell.
  if (box.clientHeight > 0 && box.scrollTop < place.top - 24) place.away = true;
  grow();
  toEnd(box, place);
}

/** A box that begins anew: whoever read back in it is done. @param {Element} box */
export function anew(box) {
  box.replaceChildren();
  const place = places.get(box);
  if (place) Object.assign(place, { top: 0, away: false });
}

/** @param {Element} box */
function watched(box) {
  const place = { top: 0, away: false };
  places.set(box, place);
  box.addEventListener("scroll", () => {
    // A hidden box has no height, and where it stood means nothing.
    if (box.clientHeight > 0) place.away = box.scrollHeight - box.scrollTop - box.clientHeight > 24;
  });
  // It may grow while it is hidden: it is at its end when it comes into sight.
  new ResizeObserver(() => toEnd(box, place)).observe(box);
  return place;
}

/** @param {Element} box @param {{top: number, away: boolean}} place */
function toEnd(box, place) {
  if (place.away) return;
  box.scrollTop = box.scrollHeight;
  place.top = box.scrollTop;
}

/** A message that goes away by itself; failures stay longer. @param {string} text @param {"good" | "bad"} [tone] */
export function toast(text, tone = "bad") {
  const item = el("div", { class: `toast ${tone}` }, text);
  const dismiss = () => item.remove();
  item.append(el("button", { type: "button", class: "quiet", "aria-label": "Dismiss", onclick: dismiss }, "×"));
  byId("toasts").append(item);
  setTimeout(() => item.remove(), tone === "bad" ? 10_000 : 4_000);
}

/** @param {number | null} ms Unix milliseconds */
export function timeOf(ms) {
  if (ms === null) return "";
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], { ...(!today && { dateStyle: "medium" }), timeStyle: today ? "medium" : "short" });
}

/** @param {number} ms */
export function lengthOf(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  const minutes = Math.floor(s / 60);
  return minutes < 60
    ? `${minutes} min ${Math.floor(s % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
