// The API reference: /openapi.json as a page. Operations by tag, schemas as tables that unfold.

import { $, copyFrom, el } from './dom.js';
import { blocks, inline } from './markdown.js';

const METHODS = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch'];
let document_;

/** What a local reference leads to, with what stands beside the reference; `name` is its last word. */
function resolve(node) {
  if (!node?.$ref)
    return node ?? {};
  const path = node.$ref.replace(/^#\//, '').split('/').map((part) => part.replace(/~1/g, '/').replace(/~0/g, '~'));
  const target = resolve(path.reduce((at, part) => at?.[part], document_));
  const { $ref, ...beside } = node;
  return { ...target, ...beside, refName: path.at(-1) };
}

/** allOf as one schema: enough for objects put together from parts. */
function merged(node) {
  const schema = resolve(node);
  if (!schema.allOf)
    return schema;
  const parts = [...schema.allOf.map(merged), { ...schema, allOf: undefined, refName: undefined }];
  const all = Object.assign({}, ...parts.map(({ properties, required, ...rest }) =>
    Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined))));
  all.properties = Object.assign({}, ...parts.map((part) => part.properties));
  all.required = [...new Set(parts.flatMap((part) => part.required ?? []))];
  all.refName = schema.refName;
  return all;
}

const shown = (value) => (typeof value === 'string' ? `"${value}"` : JSON.stringify(value));

function typeName(schema) {
  if (schema.const !== undefined)
    return shown(schema.const);
  if (schema.enum)
    return schema.enum.map(shown).join(' | ');
  if (schema.oneOf)
    return schema.oneOf.map((part) => typeName(merged(part))).join(' | ');
  if (schema.type === 'array')
    return `array of ${schema.items ? typeName(merged(schema.items)) : 'anything'}`;
  if (Array.isArray(schema.type))
    return schema.type.join(' | ');
  return schema.type ?? (schema.properties ? 'object' : 'anything');
}

/** Bounds and the like in words. */
function limits(schema) {
  const words = [];
  const { minimum: low, maximum: high } = schema;
  const number = (n) => n.toLocaleString('en', { maximumFractionDigits: 6 });
  if (low !== undefined && high !== undefined)
    words.push(`${number(low)} to ${number(high)}`);
  else if (low !== undefined)
    words.push(`at least ${number(low)}`);
  else if (high !== undefined)
    words.push(`at most ${number(high)}`);
  if (schema.exclusiveMinimum !== undefined)
    words.push(`more than ${number(schema.exclusiveMinimum)}`);
  if (schema.maxLength !== undefined)
    words.push(`${schema.minLength ?? 0} to ${number(schema.maxLength)} characters`);
  if (schema.maxItems !== undefined)
    words.push(schema.maxItems ? `${schema.minItems ?? 0} to ${schema.maxItems} items` : 'empty');
  if (schema.maxProperties === 0)
    words.push('empty');
  if (schema.contentEncoding)
    words.push(schema.contentEncoding);
  if (schema.default !== undefined)
    words.push(`default ${shown(schema.default)}`);
  return words.join(', ');
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
const hasFields = (schema) => Object.keys(schema.properties ?? {}).length > 0;

/** The schemas inside one that have fields of their own, with the words that lead to them. */
function nested(schema) {
  if (hasFields(schema))
    return [['fields', schema]];
  if (schema.type === 'array' && schema.items)
    return nested(merged(schema.items)).map(([, inner]) => ['fields of each', inner]);
  return (schema.oneOf ?? []).map(merged).flatMap((part) =>
    nested(part).map(([, inner]) => [`if it is an object with ${Object.keys(inner.properties).join(', ')}`, inner]));
}

function unfold(label, schema, depth) {
  const details = el('details', { className: 'nested' }, el('summary', {}, label));
  details.addEventListener('toggle', () => {
    if (details.open && details.children.length === 1) // made when first asked for: schemas may be deep
      details.append(fieldTable(schema, depth + 1));
  });
  return details;
}

function fieldRow(name, node, required, depth) {
  const schema = merged(node);
  const bounds = limits(schema);
  return el('li', { className: 'field-row' },
    el('div', { className: 'field-head' }, el('code', { className: 'field-name' }, name),
      el('span', { className: 'type' }, typeName(schema)),
      required ? el('span', { className: 'required' }, 'required') : null),
    bounds || schema.pattern ? el('p', { className: 'limits' }, bounds,
      schema.pattern ? [bounds ? ', ' : '', 'matches ', el('code', {}, schema.pattern)] : null) : null,
    schema.description ? blocks(schema.description) : null,
    describeChoices(schema),
    nested(schema).map(([label, inner]) => unfold(label, inner, depth)));
}

/** What the alternatives of a oneOf say of themselves. */
function describeChoices(schema) {
  const told = (schema.oneOf ?? []).map(merged).filter((part) => part.description);
  return told.map((part) => el('p', {}, el('code', {}, typeName(part)), ': ', inline(part.description)));
}

function fieldTable(schema, depth = 0) {
  return el('ul', { className: 'fields' }, Object.entries(schema.properties).map(([name, node]) =>
    fieldRow(name, node, schema.required?.includes(name), depth)));
}

function schemaBlock(node) {
  const schema = merged(node);
  const head = schema.refName ? el('a', { href: `#schema-${schema.refName}` }, schema.refName) : typeName(schema);
  if (hasFields(schema) && Object.keys(schema.properties).length > 4)
    return [el('p', { className: 'schema-name' }, head), unfoldWhole(schema)];
  return [el('p', { className: 'schema-name' }, head), hasFields(schema) ? fieldTable(schema) : null];
}

function unfoldWhole(schema) {
  return unfold(`${Object.keys(schema.properties).length} fields`, schema, 0);
}

// ---- one operation ----

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curlExample(method, path, operation, example) {
  const params = (operation.parameters ?? []).map(resolve);
  const query = params.filter((p) => p.in === 'query' && p.required).map((p) => `${p.name}=1`).join('&');
  const filled = path.replace('{id}', path.includes('/models/') ? 'MODEL' : 'my-job').replace('{i}', '0')
    .replace('{name}', 'style.css').replace('{path}', 'nothing');
  const url = `${location.origin}${filled}${query ? `?${query}` : ''}`;
  const words = ['curl'];
  if (method !== 'get' && !(method === 'post' && example !== undefined))
    words.push(`-X ${method.toUpperCase()}`);
  if (example !== undefined)
    words.push(`-H 'Content-Type: application/json'`, `-d ${quoted(JSON.stringify(example))}`);
  const images = Object.keys(resolve(operation.responses?.['200']).content ?? {})[0]?.startsWith('image/');
  return `${words.join(' \\\n  ')}${words.length > 1 ? ' \\\n ' : ''}${images ? ' -o picture.jpg' : ''} ${url.includes('?') ? quoted(url) : url}`;
}

function codeBlock(title, text) {
  const button = el('button', { type: 'button', className: 'link' }, 'Copy');
  button.addEventListener('click', () => copyFrom(button, text));
  return el('figure', { className: 'example' },
    el('figcaption', {}, el('span', {}, title), button), el('pre', {}, text));
}

function examplesOf(method, path, operation) {
  const content = resolve(operation.requestBody).content ?? {};
  const examples = Object.values(content)[0]?.examples;
  if (!examples)
    return [codeBlock('curl', curlExample(method, path, operation))];
  return Object.entries(examples).map(([name, example]) =>
    codeBlock(name === 'default' ? 'curl' : `curl, ${name}`, curlExample(method, path, operation, resolve(example).value)));
}

const section = (title, ...content) => [el('h4', {}, title), ...content];

function responseRow(status, node) {
  const response = resolve(node);
  const content = Object.entries(response.content ?? {});
  const headers = Object.entries(response.headers ?? {});
  const schema = content.map(([, media]) => media.schema).find(Boolean);
  const plain = !headers.length && !schema;
  const line = [el('b', { className: `status s${status[0]}` }, status), el('span', {}, inline((response.description ?? '').trim()))];
  if (plain)
    return el('div', { className: 'response' }, line);
  return el('details', { className: 'response' }, el('summary', {}, line),
    content.length ? el('p', { className: 'media' }, content.map(([type]) => el('code', {}, type))) : null,
    schema ? schemaBlock(schema) : null,
    headers.length ? el('ul', { className: 'fields' }, headers.map(([name, header]) => {
      const { description, schema: type } = resolve(header);
      return el('li', { className: 'field-row' }, el('div', { className: 'field-head' },
        el('code', { className: 'field-name' }, name), el('span', { className: 'type' }, typeName(merged(type)))),
      blocks(description));
    })) : null);
}

function parametersOf(parameters) {
  return el('ul', { className: 'fields' }, parameters.map((parameter) => {
    const row = fieldRow(parameter.name, { ...merged(parameter.schema), description: parameter.description }, parameter.required, 0);
    row.querySelector('.type').after(el('span', { className: 'where' }, `in ${parameter.in}`));
    return row;
  }));
}

function operationSection({ id, method, path, operation, common }) {
  const parameters = [...common, ...(operation.parameters ?? [])].map(resolve);
  const body = Object.entries(resolve(operation.requestBody).content ?? {});
  return el('section', { className: 'operation', id, 'aria-labelledby': `${id}-title` },
    el('div', { className: 'prose' },
      el('h3', { id: `${id}-title` }, el('a', { className: 'anchor', href: `#${id}` }, operation.summary ?? id)),
      el('p', { className: 'route' }, el('span', { className: `method ${method}` }, method.toUpperCase()), el('code', {}, path)),
      blocks(operation.description),
      parameters.length ? section('Parameters', parametersOf(parameters)) : null,
      body.length ? section('Body', ...body.flatMap(([type, media]) =>
        [el('p', { className: 'media' }, el('code', {}, type)), schemaBlock(media.schema)].flat())) : null,
      section('Responses', ...Object.entries(operation.responses ?? {}).map(([status, node]) => responseRow(status, node)))),
    el('div', { className: 'examples' }, examplesOf(method, path, operation)));
}

// ---- the whole ----

function operationsOf(spec) {
  return Object.entries(spec.paths).flatMap(([path, item]) =>
    Object.keys(item).filter((name) => METHODS.includes(name)).map((method) => ({
      id: item[method].operationId ?? `${method}-${path}`, method, path, operation: item[method], common: item.parameters ?? [],
    })));
}

function groupsOf(spec) {
  const operations = operationsOf(spec);
  return (spec.tags ?? []).map((tag) => ({
    ...tag, operations: operations.filter(({ operation }) => operation.tags?.includes(tag.name)),
  })).filter((group) => group.operations.length);
}

function contents(groups, schemas) {
  const link = (id, text, method) => el('li', {}, el('a', { href: `#${id}`, dataset: { for: id } },
    method ? el('span', { className: `method ${method}` }, method.toUpperCase()) : null, text));
  return [
    ...groups.map((group) => el('section', {}, el('h2', {}, capital(group.name)),
      el('ul', {}, group.operations.map(({ id, method, path }) => link(id, el('span', {}, path), method))))),
    el('section', {}, el('h2', {}, 'Schemas'), el('ul', {}, schemas.map((name) => link(`schema-${name}`, el('span', {}, name))))),
  ];
}

function schemaSection(name) {
  const schema = merged({ $ref: `#/components/schemas/${name}` });
  return el('section', { className: 'operation schema', id: `schema-${name}`, 'aria-labelledby': `schema-${name}-title` },
    el('div', { className: 'prose' },
      el('h3', { id: `schema-${name}-title` }, el('a', { className: 'anchor', href: `#schema-${name}` }, name)),
      blocks(schema.description), describeChoices(schema),
      hasFields(schema) ? fieldTable(schema) : [el('p', { className: 'limits' }, [typeName(schema), limits(schema)].filter(Boolean).join(', ')),
        nested(schema).map(([label, inner]) => unfold(label, inner, 0))]));
}

/** The text that a search looks through, before anything is unfolded. */
function words({ id, path, operation }) {
  return JSON.stringify([id, path, operation.summary, operation.description, operation.tags,
    Object.keys(merged(Object.values(resolve(operation.requestBody).content ?? {})[0]?.schema).properties ?? {}),
    (operation.parameters ?? []).map((parameter) => resolve(parameter).name)]).toLowerCase();
}

function search(entries) {
  const wanted = $('search').value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { id, text } of entries) {
    const hit = wanted.every((word) => text.includes(word));
    found += hit;
    $(id).hidden = !hit;
    document.querySelector(`[data-for="${CSS.escape(id)}"]`).parentElement.hidden = !hit;
  }
  for (const group of document.querySelectorAll('#contents section, #reference > .group'))
    group.hidden = !group.querySelector('li:not([hidden]), .operation:not([hidden])');
  $('found').textContent = wanted.length ? `${found} found` : '';
  $('nothing').hidden = found > 0;
}

/** Where the reader is, in the contents. */
function follow() {
  const links = new Map([...document.querySelectorAll('[data-for]')].map((link) => [link.dataset.for, link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      document.querySelector('#contents [aria-current]')?.removeAttribute('aria-current');
      links.get(entry.target.id)?.setAttribute('aria-current', 'true');
    }
  }, { rootMargin: '-10% 0px -80% 0px' });
  document.querySelectorAll('.operation').forEach((operation) => observer.observe(operation));
}

function render(spec) {
  document_ = spec;
  const groups = groupsOf(spec);
  const schemas = Object.keys(spec.components?.schemas ?? {});
  $('contents').replaceChildren(...contents(groups, schemas));
  $('reference').replaceChildren(
    el('header', { className: 'opening prose' }, el('h1', {}, `${spec.info.title} API`),
      el('p', { className: 'summary' }, spec.info.summary ?? ''), blocks(spec.info.description),
      el('p', { className: 'hint' }, `Version ${spec.info.version}. `, el('a', { href: '/openapi.json' }, 'The same as OpenAPI'), ' for programs.')),
    el('p', { id: 'nothing', hidden: true }, 'Nothing here matches.'),
    ...groups.map((group) => el('div', { className: 'group' },
      el('h2', {}, capital(group.name), el('small', {}, group.description ?? '')), group.operations.map(operationSection))),
    el('div', { className: 'group' }, el('h2', {}, 'Schemas'), schemas.map(schemaSection)));
  const entries = [
    ...groups.flatMap((group) => group.operations.map((one) => ({ id: one.id, text: words(one) }))),
    ...schemas.map((name) => ({ id: `schema-${name}`, text: JSON.stringify([name, merged({ $ref: `#/components/schemas/${name}` })]).toLowerCase() })),
  ];
  $('search').addEventListener('input', () => search(entries));
  follow();
  if (location.hash)
    document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

try {
  const response = await fetch('/openapi.json');
  if (!response.ok)
    throw new Error(`the service answered ${response.status}`);
  render(await response.json());
} catch (error) {
  $('reference').replaceChildren(el('p', { className: 'notice', role: 'alert' }, `The reference cannot be shown: ${error.message}.`));
}
