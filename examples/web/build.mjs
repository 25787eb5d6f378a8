/**
 * Builds the page: `node build.mjs [FOLDER]`, dist/ if left out. What is built needs nothing from elsewhere, uses relative
 * paths only, and may be copied into any folder of any web server. The folder must be new, empty or of an earlier build,
 * which goes.
 */

import { build } from "esbuild";
import { cp, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const MARKER = ".srflow-web"; // only a folder that holds this file is ever deleted
const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../..");
const out = resolve(process.argv[2] ?? join(here, "dist"));
const models = ["x4-small", "x4-photo"]; // the first is loaded with the page, the second once a photo needs it
const [, version] = /__version__ = "(.+)"/.exec(await readFile(join(root, "srflow_sdk/_version.py"), "utf8"));
const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web/wasm"));

const found = await readdir(out).catch((error) => {
  if (error.code === "ENOENT") return [];
  console.error(`error: ${out} cannot be used: ${error.message}; give a folder`);
  process.exit(1);
});
if (found.length > 0 && !found.includes(MARKER)) {
  console.error(`error: ${out} has files that are not of an earlier build: give a new or an empty folder`);
  process.exit(1);
}
await rm(out, { recursive: true, force: true });
for (const model of models) await mkdir(join(out, "model", model), { recursive: true });
await writeFile(join(out, MARKER), "node build.mjs made this folder, and replaces all that is in it.\n");
await build({
  // latents.js alone, too: for programs that need scheme 1 and nothing else
  entryPoints: ["page.js", "worker.js", "latents.js"].map((name) => join(here, "src", name)),
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  define: { SDK_VERSION: JSON.stringify(version) },
  chunkNames: "[name]-[hash]",
  conditions: ["onnxruntime-web-use-extern-wasm"], // the runtime's own files lie beside the page
  legalComments: "linked",
  logLevel: "warning",
});
const copies = [
  ...["index.html", "icon.svg"].map((name) => [join(here, "src", name), name]),
  [join(root, "apps/srflow_apps/demo/page/page.css"), "page.css"], // its parts are srflow-demo's
  ...models.flatMap((model) => ["manifest.json", "encoder.onnx", "sampler.onnx"].map((name) =>
    [join(root, `srflow_sdk/models/${model}.srflow`, name), join("model", model, name)])),
  // With the processor's variant, a visitor without a GPU downloads half as much.
  ...["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"].flatMap((name) =>
    [".mjs", ".wasm"].map((ending) => [join(runtime, name + ending), name + ending])),
  [join(root, "examples/photos/cat.png"), "example.png"],
];
await Promise.all(copies.map(([from, to]) => cp(from, join(out, to))));
console.log(`${out}: built; any web server serves it, for example: npm start`);
