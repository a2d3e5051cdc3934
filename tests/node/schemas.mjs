/* openapi.yaml (as the build made JSON of it) and its schemas as judges. */
import { readFileSync } from "node:fs";
import Ajv2020 from "ajv/dist/2020.js";

import { BUILD } from "./support.mjs";

const text = readFileSync(`${BUILD}/generated/openapi.json`, "utf8");

export const api = JSON.parse(text);

// The document's components as one schema, so that references from anywhere lead into it.
const ID = "components";
const moved = JSON.parse(text.replaceAll('"#/components/schemas/', `"${ID}#/$defs/`));
const ajv = new Ajv2020({ allErrors: true, strict: true, strictTypes: false, strictRequired: false });
ajv.addSchema({ $id: ID, $defs: moved.components.schemas });

/* Follow a reference into the document. */
export function resolve(node) {
  while (node.$ref) {
    node = node.$ref.slice(2).split("/").reduce((at, part) => at[part], api);
  }
  return node;
}

const compiled = new Map();

/* A schema that stands in the document -> a function that says whether it accepts, and has `errors`. */
export function judge(schema) {
  if (!compiled.has(schema)) {
    compiled.set(schema, ajv.compile(JSON.parse(
      JSON.stringify(schema).replaceAll('"#/components/schemas/', `"${ID}#/$defs/`))));
  }
  return compiled.get(schema);
}

/* The same for a schema of the components. */
export function named(name) {
  return ajv.getSchema(`${ID}#/$defs/${name}`);
}

/* undefined if the schema accepts, else what is wrong. */
export function objection(accepts, instance) {
  return accepts(instance) ? undefined : ajv.errorsText(accepts.errors.slice(0, 4), { dataVar: "" });
}
