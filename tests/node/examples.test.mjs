/* The examples run as they stand, against the model that comes along, and what they write are pictures. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm, symlink, cp } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";

import { POMOLOGY, Proxy, ROOT, Server } from "./support.mjs";

const run = promisify(execFile);
const PYTHON = "/usr/bin/python3";
const EXAMPLES = path.join(ROOT, "examples");

// Format and size of each file, which has to be a picture to its last byte.
const LOOK = `
import sys
from PIL import Image
for name in sys.argv[1:]:
    image = Image.open(name)
    image.load()
    print(image.format, "%dx%d" % image.size)
`;

const server = await Server.start({ model: POMOLOGY });
after(() => server.stop());

/* Run an example in a folder of its own; it has to write these files: name -> "FORMAT WxH", or "" for one that is no
 * picture. The folder has the packages of the tests, so an example may import one. */
function example(command, file, files) {
  test(file, async (t) => {
    const proxy = await Proxy.start(server, file);
    t.after(() => proxy.stop());
    const folder = await mkdtemp(path.join(os.tmpdir(), "brickwork-"));
    t.after(() => rm(folder, { recursive: true }));
    await symlink(path.join(ROOT, "tests/node/node_modules"), path.join(folder, "node_modules"));
    await cp(path.join(EXAMPLES, file), path.join(folder, file));
    await run(command, [file, proxy.base], { cwd: folder });
    const written = (await readdir(folder)).filter((name) => name !== file && name !== "node_modules");
    assert.deepEqual(written.sort(), Object.keys(files).sort());
    const pictures = written.filter((name) => files[name]);
    const { stdout } = await run(PYTHON, ["-c", LOOK, ...pictures], { cwd: folder });
    assert.deepEqual(stdout.trim().split("\n"), pictures.map((name) => files[name]));
  });
}

example("sh", "generate.sh", {
  "picture.jpg": "JPEG 128x128", "picture.png": "PNG 128x128", "pictures.json": "", "job.json": "", "events.txt": "",
  "job.jpg": "JPEG 128x128",
});
example(PYTHON, "generate.py", {
  "waited.png": "PNG 128x128", "watched.jpg": "JPEG 128x128", "preview-0.jpg": "JPEG 128x128",
  "preview-1.jpg": "JPEG 128x128", "job-0.png": "PNG 128x128", "job-1.png": "PNG 128x128",
});
example(PYTHON, "openai_images.py", { "openai-0.png": "PNG 128x128", "openai-1.png": "PNG 128x128" });
example("node", "generate.mjs", {
  "waited.webp": "WEBP 128x128", "watched.png": "PNG 128x128", "preview-0.jpg": "JPEG 128x128",
  "preview-1.jpg": "JPEG 128x128",
});
example("node", "openai.mjs", {
  "openai-0.png": "PNG 128x128", "openai-1.png": "PNG 128x128", "preview-0.jpeg": "JPEG 128x128",
  "preview-1.jpeg": "JPEG 128x128", "streamed.jpeg": "JPEG 128x128",
});
