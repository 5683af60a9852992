// Making elements and keeping them as they should be.
//
// Rule 1: text goes in as text. Nothing here, or in any element, parses a string as HTML.
// Rule 2: no style attributes: a Content-Security-Policy may drop them. Custom properties are set by `styled`.

/** @typedef {Node | string | null | undefined | false} Child */
/** @typedef {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} Attributes */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with attributes, listeners (`onclick: …`) and children; what is null, undefined or false is left out.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * The same for SVG.
 * @template {keyof SVGElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[Tag]}
 */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} Kind
 * @param {Kind} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {Kind}
 */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.filter((child) => child instanceof Node || typeof child === "string"));
  return element;
}

/**
 * The element with custom properties, such as `{value: "30%"}` for `--value`.
 * @template {HTMLElement | SVGElement} Kind
 * @param {Kind} element
 * @param {Record<string, string | number>} properties
 * @returns {Kind}
 */
export function styled(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(`--${name}`, String(value));
  return element;
}

/**
 * Make what is shown like what is wanted, with as few changes as that takes: focus, selection, scrolling and opened
 * details stay. Listeners of `wanted` are not carried over where a node is kept; whoever patches listens further up.
 * @param {Element | ShadowRoot} shown
 * @param {readonly Node[]} wanted its children to be
 */
export function patch(shown, wanted) {
  wanted.forEach((node, place) => {
    const old = shown.childNodes[place];
    if (!old) shown.append(node);
    else if (!kept(old, node)) old.replaceWith(node);
  });
  while (shown.childNodes.length > wanted.length) shown.lastChild?.remove();
}

/** Whether the old node could be made like the new one. @param {Node} old @param {Node} node */
function kept(old, node) {
  if (old instanceof Text && node instanceof Text) {
    if (old.data !== node.data) {
      // Growing text is appended to, so that a selection in it stays.
      if (node.data.startsWith(old.data)) old.appendData(node.data.slice(old.data.length));
      else old.data = node.data;
    }
    return true;
  }
  if (!(old instanceof Element && node instanceof Element) || old.localName !== node.localName) return false;
  if (old.getAttribute("data-key") !== node.getAttribute("data-key")) return false;
  // Who opens details decides, not who draws them; and a style attribute is not set, as rule 2 has it.
  /** @param {string} name */
  const left = (name) => name === "style" || (name === "open" && old.localName === "details");
  for (const { name } of [...old.attributes]) {
    if (!node.hasAttribute(name) && !left(name)) old.removeAttribute(name);
  }
  for (const { name, value } of node.attributes) {
    if (!left(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  if (old instanceof HTMLElement && node instanceof HTMLElement) restyle(old.style, node.style);
  patch(old, [...node.childNodes]);
  return true;
}

/** @param {CSSStyleDeclaration} old @param {CSSStyleDeclaration} style */
function restyle(old, style) {
  for (const name of style) {
    const value = style.getPropertyValue(name);
    if (old.getPropertyValue(name) !== value) old.setProperty(name, value);
  }
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
  return minutes < 60 ? `${minutes} min ${Math.floor(s % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** US dollars, with as many digits as a small sum needs. @param {number} usd */
export function costOf(usd) {
  if (!Number.isFinite(usd)) return "";
  const digits = usd === 0 || usd >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(usd)));
  return `$${usd.toFixed(digits)}`;
}

/** `landing_page` as words: `Landing page`. @param {string} name */
export function titleOf(name) {
  const words = name
    .replace(/[_-]+/g, " ")
    .replace(/:(?=\S)/g, ": ")
    .replace(/([a-z])([A-Z])/g, "$1 $2")
    .trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
