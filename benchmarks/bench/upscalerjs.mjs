// One of UpscalerJS's ESRGAN models over pictures, on TensorFlow.js's WebAssembly backend, for competitors.py.
//
//   node upscalerjs.mjs FOLDER MODEL JOB.json     FOLDER holds node_modules
//
// JOB: [{input, output, width, height}]: raw RGB bytes. Prints {seconds, load_seconds, disk_bytes, peak_bytes}.
// The model's first run is not counted. The C++ backend, tfjs-node, downloads its library when it is installed; where
// it cannot, this backend is what runs, with one thread: Node.js offers WebAssembly no more.
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const [folder, name, jobs] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), "package.json"));
console.warn = () => {};
const tf = require("@tensorflow/tfjs");
require("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
await tf.ready();

const definition = require(`@upscalerjs/${name}/4x`);
const model = definition.default ?? definition;
if (model.setup) await model.setup(tf);
const home = path.join(path.resolve(folder), "node_modules", "@upscalerjs", name, path.dirname(model._internals.path));
const json = JSON.parse(fs.readFileSync(path.join(home, "model.json"), "utf8"));
const shards = json.weightsManifest.flatMap((group) => group.paths.map((file) => fs.readFileSync(path.join(home, file))));
const weights = new Uint8Array(Buffer.concat(shards));
const weightSpecs = json.weightsManifest.flatMap((group) => group.weights);
const artifacts = { modelTopology: json.modelTopology, weightSpecs, weightData: weights.buffer };
let started = performance.now();
const network = await tf.loadLayersModel(tf.io.fromMemory(artifacts));
const load_seconds = (performance.now() - started) / 1e3;
const white = model.inputRange[1];

async function upscale(bytes, width, height) {
  const result = tf.tidy(() => {
    const picture = tf.tensor(Float32Array.from(bytes), [1, height, width, 3]).mul(white / 255);
    return network.predict(picture).mul(255 / model.outputRange[1]).clipByValue(0, 255).round();
  });
  const large = await result.data();
  result.dispose();
  return Uint8Array.from(large);
}

const pictures = JSON.parse(fs.readFileSync(jobs, "utf8"));
await upscale(new Uint8Array(3 * 32 * 32), 32, 32);
let seconds = 0;
for (const { input, output, width, height } of pictures) {
  const bytes = fs.readFileSync(input);
  started = performance.now();
  const large = await upscale(bytes, width, height);
  seconds += (performance.now() - started) / 1e3;
  fs.writeFileSync(output, large);
}
const disk_bytes = weights.length + fs.statSync(path.join(home, "model.json")).size;
// Not resourceUsage().maxRSS, which starts with the peak of the process that started this one.
const peak = /^VmHWM:\s*(\d+) kB$/m.exec(fs.existsSync("/proc/self/status") ? fs.readFileSync("/proc/self/status", "utf8") : "");
console.log(JSON.stringify({ seconds, load_seconds, disk_bytes, peak_bytes: peak ? Number(peak[1]) * 1024 : 0 }));
