// Fields that hold fields: objects as fieldsets, lists as rows that can be added and removed.
//
// Rule 1: a row's path is its place among the rows that are sent, found when the form is read.

import { el, say } from "./dom.js";
import { OMIT } from "./reading.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {import("./reading.js").Widget} Widget */
/** What makes the parts. @typedef {(field: Field, id: string, value?: any) => Widget} Make */

/** @param {Field} field @param {string} id @param {any} value @param {Make} make @returns {Widget} */
export function fieldset(field, id, value, make) {
  const parts = (field.fields ?? []).map(({ name, field: part }) => ({
    name,
    widget: make(part, `${id}-${name}`, value?.[name] ?? part.initial),
  }));
  const error = el("p", { class: "error", id: `${id}-error` });
  const node = el(
    "fieldset",
    { id, tabindex: -1, class: field.title ? null : "bare" },
    field.title && el("legend", {}, field.title),
    field.hint && el("p", { class: "hint" }, field.hint),
    ...parts.map(({ widget }) => widget.node),
    error,
  );
  return {
    node,
    place: { input: node, error },
    read(path, reading) {
      /** @type {Record<string, unknown>} */
      const read = {};
      for (const { name, widget } of parts) {
        const part = reading.of(widget, [...path, name]);
        if (part !== OMIT) read[name] = part;
      }
      // An optional group that nobody touched is not there at all.
      return Object.keys(read).length === 0 && !field.required ? OMIT : read;
    },
  };
}

/**
 * A group that is left out as a whole until its box is ticked.
 * @param {Field} field @param {string} id @param {any} value @param {Make} make @returns {Widget}
 */
export function optional(field, id, value, make) {
  const group = fieldset({ ...field, title: "", hint: "", required: true }, `${id}-group`, value, make);
  const box = el("input", { type: "checkbox", id, name: id, "aria-describedby": `${id}-hint`, onchange: () => show() });
  box.checked = value !== undefined && value !== null;
  const show = () => (group.node.hidden = !box.checked);
  show();
  const node = el(
    "div",
    { class: "optional" },
    el(
      "div",
      { class: "field check" },
      el("label", { for: id }, field.title),
      box,
      el("p", { class: "hint", id: `${id}-hint` }, field.hint),
    ),
    group.node,
  );
  return { node, place: group.place, read: (path, reading) => (box.checked ? group.read(path, reading) : OMIT) };
}

/** @param {Field} field @param {string} id @param {any} value @param {Make} make @returns {Widget} */
export function list(field, id, value, make) {
  const item = /** @type {Field} */ (field.item);
  const { minItems = 0, maxItems = Infinity } = field.schema;
  /** @type {{widget: Widget, row: HTMLElement}[]} */
  const rows = [];
  let made = 0;

  const box = el("div", { class: "rows" });
  const error = el("p", { class: "error", id: `${id}-error` });
  const label = () => (rows.length === 0 ? "Add" : "Add another");
  const add = el("button", { type: "button", class: "small", id: `${id}-add`, onclick: () => append().focus() });

  /** @param {any} [given] */
  const append = (given = item.initial) => {
    const name = `${field.title} ${++made}`;
    // A row need not be filled in: an empty one is left out.
    const widget = make({ ...item, title: name, required: item.kind === "object" }, `${id}-${made}`, given);
    const remove = el("button", {
      type: "button",
      class: "quiet remove",
      "aria-label": `Remove ${name}`,
      title: "Remove",
      onclick: () => {
        rows.splice(rows.findIndex((other) => other.row === row), 1);
        row.remove();
        show();
        add.focus();
      },
    }, "×");
    const row = el("div", { class: "row" }, widget.node, remove);
    rows.push({ widget, row });
    box.append(row);
    show();
    return widget.place.input;
  };
  const show = () => {
    say(add, label());
    add.disabled = rows.length >= maxItems;
  };

  const initial = Array.isArray(value) ? value : [];
  for (const given of initial) append(given);
  // An empty row for a text costs nothing and shows what goes there.
  const inviting = item.kind === "long" || field.required ? 1 : 0;
  while (rows.length < Math.max(minItems, inviting)) append();
  show();

  const node = el(
    "fieldset",
    { id, tabindex: -1, class: "list" },
    el("legend", {}, field.title, field.required && el("span", { class: "needed" }, " *")),
    field.hint && el("p", { class: "hint" }, field.hint),
    box,
    add,
    error,
  );
  return {
    node,
    place: { input: node, error },
    read(path, reading) {
      /** @type {unknown[]} */
      const read = [];
      for (const { widget } of rows) {
        const part = reading.of(widget, [...path, read.length]);
        if (part !== OMIT && part !== "") read.push(part);
      }
      const untouched = read.length === 0 && field.initial === undefined && !field.required;
      return untouched ? OMIT : field.nullable && read.length === 0 ? null : read;
    },
  };
}
