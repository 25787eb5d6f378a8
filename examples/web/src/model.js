/** The bundle's two graphs in onnxruntime-web: the encoder runs once for a tile, the sampler once for every picture. */

import { paddedSize } from "./tiles.js";

const TEST_SIDE = 16;
const TOLERANCE = 1e-3; // far more than rounding makes, far less than a mistake

/**
 * @typedef {typeof import("onnxruntime-web")} Runtime
 * @typedef {import("onnxruntime-web").InferenceSession} Session
 * @typedef {Record<string, import("onnxruntime-web").Tensor>} Conditioning
 * @typedef {{name: string, digest: string, latent_scheme: number, scale: number, size_multiple: number, halo: number, default_tau: number, smoothed?: boolean,
 *   latent_levels: {level: number, channels: number}[]}} Manifest
 * @typedef {"webgpu" | "wasm"} Device
 */

export class Model {
  /**
   * @param {Runtime} ort @param {Manifest} manifest @param {Session} encoder @param {Session} sampler
   * @param {Device} device
   */
  constructor(ort, manifest, encoder, sampler, device) {
    this.ort = ort;
    this.manifest = manifest;
    this.encoder = encoder;
    this.sampler = sampler;
    this.device = device;
    this.threads = device === "wasm" ? (ort.env.wasm.numThreads ?? 1) : 1;
  }

  /**
   * Load a bundle that lies beside the page.
   * @param {URL} base the folder of the page, with `model/` and the runtime's files in it
   * @param {string} name of the bundle's folder in `model/` @param {Device} device
   * @param {number} threads of the processor; browsers allow more than one only in an isolated page
   */
  static async load(base, name, device, threads) {
    const ort = device === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
    ort.env.wasm.wasmPaths = base.href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
    ort.env.logLevel = "error";
    const [manifest, encoder, sampler] = await Promise.all([
      download(base, `model/${name}/manifest.json`).then((data) => JSON.parse(new TextDecoder().decode(data))),
      download(base, `model/${name}/encoder.onnx`),
      download(base, `model/${name}/sampler.onnx`),
    ]);
    /** @param {Uint8Array} graph @param {Device} on */
    const session = (graph, on) => ort.InferenceSession.create(graph, { executionProviders: [on] });
    // One after the other: the runtime starts with the first session, and cannot start twice. The sampler always runs on
    // the processor: onnxruntime-web 1.30 computes its convolutions of six channels wrongly on WebGPU.
    const model = new Model(
      /** @type {Runtime} */ (ort), manifest, await session(encoder, "wasm"), await session(sampler, "wasm"), device);
    if (device === "webgpu") await model.moveEncoder(await session(encoder, "webgpu"));
    return model;
  }

  /**
   * Use another session for encoding, if it computes what this one does. Throws an Error if it does not.
   * @param {Session} encoder
   */
  async moveEncoder(encoder) {
    const side = paddedSize(TEST_SIDE, this.manifest.size_multiple), area = side * side;
    const lr = Float32Array.from({ length: 3 * area }, (_, i) =>
      0.5 + 0.4 * Math.sin((i % side) / 3 + Math.floor(i / area)) * Math.cos(Math.floor((i % area) / side) / 2));
    const expected = await this.encode(lr, side, side);
    const before = this.encoder;
    this.encoder = encoder;
    const found = await this.encode(lr, side, side);
    for (const [name, { data }] of Object.entries(expected)) {
      const [these, those] = /** @type {Float32Array[]} */ ([data, found[name].data]);
      const largest = these.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      if (!these.every((value, i) => Math.abs(value - those[i]) <= TOLERANCE * Math.max(largest, 1))) {
        throw new Error("this GPU computes other pictures than the processor");
      }
    }
    await before.release();
  }

  /**
   * What depends on the photo alone.
   * @param {Float32Array} lr 3×height×width in [0, 1] @param {number} height @param {number} width
   * @returns {Promise<Conditioning>}
   */
  async encode(lr, height, width) {
    return this.encoder.run({ lr: new this.ort.Tensor("float32", lr, [1, 3, height, width]) });
  }

  /**
   * One picture: float32 3×(scale·height)×(scale·width), not yet clipped to [0, 1].
   * @param {Conditioning} conditioning @param {Map<number, Float32Array>} noise by level
   * @param {{height: number, width: number}} window in LR pixels @param {number} tau
   */
  async sample(conditioning, noise, { height, width }, tau) {
    const { Tensor } = this.ort, { scale } = this.manifest;
    /** @type {Conditioning} */
    const feeds = { ...conditioning, tau: new Tensor("float32", [tau], [1]) };
    for (const { level, channels } of this.manifest.latent_levels) {
      const shape = [1, channels, (height * scale) / 2 ** level, (width * scale) / 2 ** level];
      feeds[`noise_level${level}`] = new Tensor("float32", /** @type {Float32Array} */ (noise.get(level)), shape);
    }
    const { sr } = await this.sampler.run(feeds);
    return /** @type {Float32Array} */ (sr.data);
  }
}

/** @param {URL} base @param {string} path */
async function download(base, path) {
  const answer = await fetch(new URL(path, base));
  if (!answer.ok) throw new Error(`${path} could not be loaded (status ${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}
