// What a form must ask for, read from a JSON Schema.
//
// Rule 1: pure: a schema in, a tree of fields out; no page here.
// Rule 2: what is not understood becomes a field of kind "json", so every pipeline can be started.
// Rule 3: the gateway validates. Here is only what a person is helped by before sending.

/** @typedef {Record<string, any>} Schema */

/**
 * @typedef {object} Field
 * @property {"text" | "long" | "number" | "boolean" | "choice" | "object" | "list" | "json"} kind
 * @property {string} title
 * @property {string} hint
 * @property {boolean} required
 * @property {boolean} nullable
 * @property {any} initial the default; undefined when there is none
 * @property {Schema} schema resolved: no `$ref`, no null
 * @property {{label: string, value: any}[]} [options] of a choice
 * @property {{name: string, field: Field}[]} [fields] of an object
 * @property {Field} [item] of a list
 */

const LONG = 500;
const DEEPEST = 6;

/**
 * @param {Schema} schema
 * @param {{root?: Schema, name?: string, required?: boolean, depth?: number}} [place]
 * @returns {Field}
 */
export function describe(schema, { root = schema, name = "", required = true, depth = 0 } = {}) {
  const { schema: own, nullable } = resolve(schema, root);
  /** @type {Field} */
  const field = {
    kind: "json",
    title: own["title"] ?? humanize(name),
    hint: own["description"] ?? "",
    required,
    nullable,
    initial: own["default"],
    schema: own,
  };
  const options = choices(own);
  if (options) return { ...field, kind: "choice", options };
  switch (own["type"]) {
    case "string": {
      const long = own["x-widget"] === "textarea" || own["maxLength"] > LONG;
      return { ...field, kind: long ? "long" : "text" };
    }
    case "integer":
    case "number":
      return { ...field, kind: "number" };
    case "boolean":
      return { ...field, kind: "boolean" };
    case "object":
      return own["properties"] && depth < DEEPEST ? objectField(field, root, depth) : field;
    case "array":
      return own["items"] && own["items"] !== true && depth < DEEPEST ? listField(field, root, depth) : field;
    default:
      return field;
  }
}

/** @param {Field} field @param {Schema} root @param {number} depth @returns {Field} */
function objectField(field, root, depth) {
  const needed = new Set(field.schema["required"] ?? []);
  const fields = Object.entries(field.schema["properties"]).map(([name, schema]) => ({
    name,
    field: describe(/** @type {Schema} */ (schema), { root, name, required: needed.has(name), depth: depth + 1 }),
  }));
  return { ...field, kind: "object", fields };
}

/** @param {Field} field @param {Schema} root @param {number} depth @returns {Field} */
function listField(field, root, depth) {
  const item = describe(field.schema["items"], { root, depth: depth + 1 });
  // A list of texts is mostly a list of sources or notes: give each room.
  return { ...field, kind: "list", item: item.kind === "text" ? { ...item, kind: "long" } : item };
}

/**
 * Follow references, take null out of a union, unpack a union or intersection of one.
 * @param {Schema} schema
 * @param {Schema} root
 * @returns {{schema: Schema, nullable: boolean}}
 */
function resolve(schema, root) {
  let own = typeof schema === "object" ? schema : {};
  let nullable = false;
  for (let step = 0; step < 20; step++) {
    if (typeof own["$ref"] === "string") {
      const { $ref, ...beside } = own;
      own = { ...lookUp($ref, root), ...beside };
      continue;
    }
    const name = ["anyOf", "oneOf", "allOf"].find((key) => Array.isArray(own[key]));
    if (name) {
      const { [name]: union, ...beside } = own;
      const kept = union.filter((/** @type {Schema} */ member) => member["type"] !== "null");
      if (name !== "allOf" && kept.length < union.length) nullable = true;
      if (kept.length === 1) {
        own = { ...kept[0], ...beside };
        continue;
      }
      own = { ...beside, [name]: kept };
    } else if (Array.isArray(own["type"])) {
      const types = own["type"].filter((/** @type {string} */ type) => type !== "null");
      nullable ||= types.length < own["type"].length;
      own = { ...own, type: types.length === 1 ? types[0] : undefined };
    }
    break;
  }
  return { schema: own, nullable };
}

/** @param {string} ref @param {Schema} root @returns {Schema} */
function lookUp(ref, root) {
  /** @type {any} */
  let found = root;
  for (const part of ref.replace(/^#\/?/, "").split("/").filter(Boolean)) {
    const key = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
    found = found !== null && typeof found === "object" && Object.hasOwn(found, key) ? found[key] : undefined;
  }
  return typeof found === "object" && found !== null ? found : {};
}

/** The values of an enum, a const, or a union of those. @param {Schema} own @returns {Field["options"] | null} */
function choices(own) {
  if (Array.isArray(own["enum"])) return own["enum"].map((value) => ({ label: labelOf(value), value }));
  if (Object.hasOwn(own, "const")) return [{ label: own["title"] ?? labelOf(own["const"]), value: own["const"] }];
  const union = own["anyOf"] ?? own["oneOf"];
  if (!Array.isArray(union) || union.length === 0) return null;
  const parts = union.map(choices);
  return parts.every((part) => part) ? parts.flatMap((part) => part ?? []) : null;
}

/** @param {any} value */
function labelOf(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** @param {string} name */
function humanize(name) {
  const words = name.replace(/[_-]+/g, " ").replace(/([a-z])([A-Z])/g, "$1 $2").trim().toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
