/** The bundle's two graphs in onnxruntime-web: the encoder runs once for a tile, the sampler once for every picture. */

/**
 * @typedef {typeof import("onnxruntime-web")} Runtime
 * @typedef {import("onnxruntime-web").InferenceSession} Session
 * @typedef {Record<string, import("onnxruntime-web").Tensor>} Conditioning
 * @typedef {{name: string, scale: number, size_multiple: number, halo: number, default_tau: number,
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
   * Load the bundle that lies beside the page.
   * @param {URL} base the folder of the page, with `model/` and the runtime's files in it
   * @param {Device} device
   * @param {number} threads of the processor; browsers allow more than one only in an isolated page
   */
  static async load(base, device, threads) {
    const ort = device === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm");
    ort.env.wasm.wasmPaths = base.href;
    ort.env.wasm.numThreads = self.crossOriginIsolated ? threads : 1;
    ort.env.logLevel = "error";
    const [manifest, encoder, sampler] = await Promise.all([
      download(base, "manifest.json").then((data) => JSON.parse(new TextDecoder().decode(data))),
      download(base, "encoder.onnx"),
      download(base, "sampler.onnx"),
    ]);
    const options = { executionProviders: [device] };
    // One after the other: the runtime starts with the first session, and cannot start twice.
    const encoding = await ort.InferenceSession.create(encoder, options);
    const sampling = await ort.InferenceSession.create(sampler, options);
    return new Model(/** @type {Runtime} */ (ort), manifest, encoding, sampling, device);
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

/** @param {URL} base @param {string} name */
async function download(base, name) {
  const answer = await fetch(new URL(`model/${name}`, base));
  if (!answer.ok) throw new Error(`model/${name} could not be loaded (status ${answer.status})`);
  return new Uint8Array(await answer.arrayBuffer());
}
