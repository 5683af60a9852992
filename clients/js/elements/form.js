// A form on the page, from the fields of a schema.
//
// Rule 1: a control has the id of its path (`input-topic`), so that a person, a test and an error find it.
// Rule 2: what was left empty and need not be there is not sent.

import { el } from "./dom.js";
import { fieldset, list, optional } from "./groups.js";
import { OMIT } from "./reading.js";
import { describe } from "./schema.js";

/** @typedef {import("./schema.js").Field} Field */
/** @typedef {import("./reading.js").Widget} Widget */
/** @typedef {import("./reading.js").Reading} Reading */
/** @typedef {import("./reading.js").Path} Path */

/**
 * The widget for a whole schema.
 * @param {import("./schema.js").Schema} schema
 * @param {string} id prefix of all ids
 */
export function formFor(schema, id) {
  const field = describe(schema);
  if (field.kind === "object") return fieldset({ ...field, title: "", hint: "" }, id, field.initial, widgetFor);
  return widgetFor({ ...field, title: field.title || "Input", initial: field.initial ?? {} }, id);
}

/**
 * @param {Field} field
 * @param {string} id
 * @param {any} [value] instead of the field's own default
 * @returns {Widget}
 */
export function widgetFor(field, id, value = field.initial) {
  switch (field.kind) {
    case "object": {
      // Parts that are needed are needed only when the whole is there.
      const wanting = !field.required && field.fields?.some(({ field: part }) => part.required);
      return wanting ? optional(field, id, value, widgetFor) : fieldset(field, id, value, widgetFor);
    }
    case "list":
      return list(field, id, value, widgetFor);
    case "boolean":
      return checkbox(field, id, value);
    case "choice":
      return choice(field, id, value);
    case "number":
      return number(field, id, value);
    case "json":
      return json(field, id, value);
    default:
      return text(field, id, value);
  }
}

/** @param {Field} field @param {string} id @param {any} value @returns {Widget} */
function text(field, id, value) {
  const { schema } = field;
  const common = { ...named(field, id), maxlength: schema["maxLength"], placeholder: schema["examples"]?.[0] };
  const types = /** @type {Record<string, string>} */ ({ date: "date", email: "email", uri: "url" });
  const input =
    field.kind === "long"
      ? el("textarea", { ...common, rows: 4 })
      : el("input", { ...common, type: types[schema["format"]] ?? "text", autocomplete: "off" });
  input.value = value ?? "";
  return labelled(field, id, input, (path, reading) => {
    if (input.value.trim() !== "") return input.value;
    return empty(field, path, reading, "");
  });
}

/** @param {Field} field @param {string} id @param {any} value @returns {Widget} */
function number(field, id, value) {
  const { type, minimum, maximum, exclusiveMinimum, multipleOf } = field.schema;
  const min = minimum ?? exclusiveMinimum;
  const whole = type === "integer";
  const step = multipleOf ?? (whole ? 1 : "any");
  const input = el("input", { ...named(field, id), type: "number", min, max: maximum, step, inputmode: "decimal" });
  input.value = value ?? "";
  return labelled(field, id, input, (path, reading) => {
    if (input.validity.badInput) return reading.refuse(path, "This is not a number.");
    if (input.value === "") return empty(field, path, reading, OMIT);
    const given = input.valueAsNumber;
    if (whole && !Number.isInteger(given)) return reading.refuse(path, "This must be a whole number.");
    if (min !== undefined && given < min) return reading.refuse(path, `This must be at least ${min}.`);
    if (maximum !== undefined && given > maximum) return reading.refuse(path, `This must be at most ${maximum}.`);
    return given;
  });
}

/** @param {Field} field @param {string} id @param {any} value @returns {Widget} */
function checkbox(field, id, value) {
  const input = el("input", { ...named(field, id), type: "checkbox" });
  input.checked = value === true;
  const { node, place } = labelled(field, id, input, () => OMIT);
  node.classList.add("check");
  return { node, place, read: () => input.checked };
}

/** @param {Field} field @param {string} id @param {any} value @returns {Widget} */
function choice(field, id, value) {
  const options = field.options ?? [];
  const chosen = options.findIndex((option) => JSON.stringify(option.value) === JSON.stringify(value));
  const only = options.length === 1 && field.required;
  const select = el(
    "select",
    named(field, id),
    chosen < 0 && !only && el("option", { value: "" }, "—"),
    ...options.map((option, index) => el("option", { value: index, selected: index === chosen }, option.label)),
  );
  return labelled(field, id, select, (path, reading) =>
    select.value === "" ? empty(field, path, reading, OMIT) : options[Number(select.value)]?.value,
  );
}

/** @param {Field} field @param {string} id @param {any} value @returns {Widget} */
function json(field, id, value) {
  const input = el("textarea", { ...named(field, id), rows: 4, spellcheck: "false", class: "code" });
  input.value = value === undefined ? "" : JSON.stringify(value, null, 2);
  return labelled({ ...field, title: `${field.title} (JSON)` }, id, input, (path, reading) => {
    if (input.value.trim() === "") return empty(field, path, reading, OMIT);
    try {
      return JSON.parse(input.value);
    } catch (error) {
      return reading.refuse(path, `This is not JSON: ${/** @type {Error} */ (error).message}`);
    }
  });
}

/** An empty control. @param {Field} field @param {Path} path @param {Reading} reading @param {unknown} cleared */
function empty(field, path, reading, cleared) {
  if (field.nullable) return field.required || (field.initial ?? null) !== null ? null : OMIT;
  if (field.required) return reading.refuse(path, "This is needed.");
  // Its default was taken out on purpose, so it must not come back in silence.
  return field.initial === undefined ? OMIT : cleared;
}

/** @param {Field} field @param {string} id */
function named(field, id) {
  return { id, name: id, "aria-required": field.required || null, "aria-describedby": `${id}-hint ${id}-error` };
}

/** @param {Field} field @param {string} id @param {HTMLElement} input @param {Widget["read"]} read @returns {Widget} */
function labelled(field, id, input, read) {
  const label = el("label", { for: id }, field.title, field.required && el("span", { class: "needed" }, " *"));
  const error = el("p", { class: "error", id: `${id}-error` });
  const hint = el("p", { class: "hint", id: `${id}-hint` }, field.hint);
  const node = el("div", { class: "field" }, label, hint, input, error);
  return { node, place: { input, error }, read };
}
