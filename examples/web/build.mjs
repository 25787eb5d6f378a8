/**
 * Builds the page: `node build.mjs [FOLDER]`, dist/ if left out. What is built needs nothing from elsewhere, uses relative
 * paths only, and may be copied into any folder of any web server.
 */

import { build } from "esbuild";
import { cp, mkdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = resolve(here, "../..");
const out = resolve(process.argv[2] ?? join(here, "dist"));
const bundle = join(root, "srflow_sdk/models/x4-small.srflow");
const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web/wasm"));

await rm(out, { recursive: true, force: true });
await mkdir(join(out, "model"), { recursive: true });
await build({
  // latents.js alone, too: for programs that need scheme 1 and nothing else
  entryPoints: ["page.js", "worker.js", "latents.js"].map((name) => join(here, "src", name)),
  outdir: out,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  minify: true,
  chunkNames: "[name]-[hash]",
  conditions: ["onnxruntime-web-use-extern-wasm"], // the runtime's own files lie beside the page
  legalComments: "linked",
  logLevel: "warning",
});
const copies = [
  ...["index.html", "style.css", "icon.svg"].map((name) => [join(here, "src", name), name]),
  ...["manifest.json", "encoder.onnx", "sampler.onnx"].map((name) => [join(bundle, name), join("model", name)]),
  // With the processor's variant, a visitor without a GPU downloads half as much.
  ...["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"].flatMap((name) =>
    [".mjs", ".wasm"].map((ending) => [join(runtime, name + ending), name + ending])),
  [join(root, "examples/photos/cat.png"), "example.png"],
];
await Promise.all(copies.map(([from, to]) => cp(from, join(out, to))));
console.log(`${out}: built; any web server serves it, for example: npm start`);
