/**
 * Draws pictures beside the page, which stays responsive. Messages are described in messages.d.ts.
 *
 * A drawing ends early when the page asks for another one, or for none: this is looked at after every tile.
 */

import { choice, CLEAN, damageOf } from "./choice.js";
import { windowNoise } from "./latents.js";
import { Model } from "./model.js";
import { cut, isFinite, isGray, planes, smooth, visible } from "./pixels.js";
import { onLevel, texture } from "./texture.js";
import { CORE, paddedSize, planTiles, tileAround } from "./tiles.js";

/** @import { Draw, FromPage, FromWorker, Load, Loaded, Photo } from "./messages.d.ts" */
/** @import { Device } from "./model.js" */
/** @import { Tile } from "./tiles.js" */

const ONE_TILE_PIXELS = 88 * 88; // a photo with fewer is one tile
const TIMED_SIDE = 32;
const base = new URL(".", self.location.href);

/** @type {Map<string, Model>} by the names of their folders */
const models = new Map();
/** @type {Map<string, number>} milliseconds that a pixel of a tile takes, by the same names */
const rates = new Map();
/** @type {Model} the one that draws */
let model;
let name = CLEAN;
/** @type {{devices: Device[], threads: number}} */
let wish;
/** @type {{height: number, width: number, gray: boolean, lr: Float32Array, rows: number, columns: number} | null} */
let photo = null;
/** @type {Map<string, import("./model.js").Conditioning>} the tile that is shown */
const encoded = new Map();
/** @type {Map<string, Map<number, Float32Array>>} its noise */
const drawn = new Map();
let latest = 0; // number of the drawing that the page still wants
/** @type {Promise<void>} */
let queue = Promise.resolve();

/** @param {FromWorker} message @param {Transferable[]} [transfer] */
function say(message, transfer = []) {
  self.postMessage(message, { transfer });
}

self.onmessage = (/** @type {MessageEvent<FromPage>} */ { data }) => {
  if (data.kind === "load") queue = queue.then(() => begin(data)).catch((error) => fail(0, error));
  if (data.kind === "photo") {
    latest = data.number;
    queue = queue.then(() => take(data)).catch((error) => fail(data.number, error));
  }
  if (data.kind === "stop") latest = data.number;
  if (data.kind === "draw") {
    latest = data.number;
    queue = queue.then(() => draw(data)).catch((error) => fail(data.number, error));
  }
};

/** @param {Load} message devices in the order of preference */
async function begin(message) {
  wish = message;
  await use(CLEAN);
  await time();
  say({ kind: "ready", ...loaded() });
}

/** Draw with this model from now on. Throws an Error if it cannot be loaded; the other one then stays. @param {string} wanted */
async function use(wanted) {
  for (const [index, device] of wish.devices.entries()) {
    try {
      if (!models.has(wanted)) models.set(wanted, await Model.load(base, wanted, device, wish.threads));
      break;
    } catch (error) {
      if (index === wish.devices.length - 1) throw error;
    }
  }
  model = /** @type {Model} */ (models.get(wanted));
  name = wanted;
}

/** Draw a black tile that nobody sees, unless the model's speed is known. Leaves no photo. */
async function time() {
  if (rates.has(name)) return;
  const { size_multiple: multiple, default_tau: tau } = model.manifest;
  const side = paddedSize(TIMED_SIDE, multiple), window = { top: 0, left: 0, height: side, width: side };
  photo = { height: side, width: side, gray: false, lr: new Float32Array(3 * side * side), rows: side, columns: side };
  const tile = { core: window, window };
  for (let run = 0; run < 2; run += 1) { // a model's first run is slower than all others
    const start = performance.now();
    // What fails here will fail again, and be told, when the picture is drawn.
    await picture(tile, { kind: "draw", number: 0, part: null, tau, auto: true, seed: 0n }, false).catch(() => {});
    learn(tile, start);
  }
  photo = null;
}

/** @param {Tile} tile that was encoded and drawn @param {number} start */
function learn({ window }, start) {
  rates.set(name, (performance.now() - start) / (window.height * window.width));
}

/** Milliseconds, as far as is known. @param {Tile[]} tiles to be encoded and drawn */
function estimate(tiles) {
  const pixels = tiles.reduce((sum, { window }) => sum + window.height * window.width, 0);
  return pixels * (rates.get(name) ?? 0);
}

/** @param {import("./tiles.js").Window | null} part null: the whole photo */
function plan(part) {
  const { halo, size_multiple: multiple } = model.manifest;
  const { rows, columns } = /** @type {NonNullable<typeof photo>} */ (photo);
  const core = rows * columns <= ONE_TILE_PIXELS ? null : CORE;
  return part
    ? [tileAround(part, { height: rows, width: columns, halo, multiple })]
    : planTiles(rows, columns, { core, halo, multiple });
}

/** @returns {Loaded} */
function loaded() {
  const { name, digest: sha256, latent_scheme: scheme, scale, size_multiple: multiple, default_tau: tau } = model.manifest;
  return { name, sha256, scheme, scale, multiple, tau, device: model.device, threads: model.threads };
}

/** @param {Photo} message */
async function take({ number, rgba, height, width, file }) {
  if (number !== latest) return;
  const { name: suited, why } = choice(damageOf(rgba, height, width, file));
  if (!models.has(suited)) say({ kind: "fetching", number, name: suited, why });
  await use(suited).catch(() => {}); // without it, the page says that the picture is another one
  await time();
  photo = { height, width, gray: isGray(rgba), ...planes(rgba, height, width, model.manifest.size_multiple) };
  encoded.clear();
  drawn.clear();
  const suits = name === suited;
  say({ kind: "taken", number, ...loaded(), suited, why, suits, whole: estimate(plan(null)) });
}

/** @param {Draw} request */
async function draw(request) {
  if (request.number !== latest || !photo) return;
  const tiles = plan(request.part), start = performance.now();
  const fresh = tiles.filter(({ window }) => !encoded.has(JSON.stringify(window)));
  if (fresh.length > 0) say({ kind: "begun", number: request.number, milliseconds: estimate(fresh) });
  for (const [done, tile] of tiles.entries()) {
    const began = performance.now();
    const drawn = await picture(tile, request, tiles.length === 1), { scale, smoothed } = model.manifest;
    if (fresh.includes(tile)) learn(tile, began);
    await new Promise((resume) => setTimeout(resume)); // lets messages in, which may end this
    if (request.number !== latest) return;
    const sr = smoothed && request.tau > 0 ? smooth(drawn, scale * tile.window.height, scale * tile.window.width) : drawn;
    const seen = visible(sr, tile, scale, photo);
    say({ kind: "tile", number: request.number, done: done + 1, total: tiles.length, ...seen }, [seen.rgba.buffer]);
  }
  say({ kind: "done", number: request.number, milliseconds: performance.now() - start, whole: estimate(plan(null)) });
}

/**
 * A tile's picture. Without a GPU's, if that failed or gave values that are not finite.
 * @param {Tile} tile @param {Draw} request @param {boolean} keep whether it will be drawn again
 */
async function picture(tile, request, keep) {
  const sr = await sampled(tile, request, keep).catch((error) => {
    if (model.device === "wasm") throw error;
  });
  if (sr && isFinite(sr)) return sr;
  if (model.device !== "wasm") {
    encoded.clear();
    models.clear();
    rates.clear();
    wish = { ...wish, devices: ["wasm"] };
    await use(name);
    say({ kind: "ready", ...loaded() });
    const again = await sampled(tile, request, keep);
    if (isFinite(again)) return again;
  }
  throw new Error(`the network gave values that are not finite at τ ${request.tau}: use a lower τ or another seed`);
}

/** @param {Tile} tile @param {Draw} request @param {boolean} keep */
async function sampled({ window }, request, keep) {
  const { lr, rows, columns } = /** @type {NonNullable<typeof photo>} */ (photo);
  const { latent_levels: levels, scale } = model.manifest;
  const place = JSON.stringify(window);
  const conditioning = await kept(encoded, place, keep, () =>
    model.encode(cut(lr, rows, columns, window), window.height, window.width));
  const noise = await kept(drawn, `${request.seed} ${place}`, keep, () =>
    windowNoise(levels, { scale, seed: request.seed, ...window }));
  if (!request.auto) return model.sample(conditioning, noise, window, request.tau);
  const tau = Math.fround(request.tau);
  const map = texture(lr, rows, columns, window).map((value) => value * tau);
  const scaled = new Map();
  for (const [level, values] of noise) {
    const factors = onLevel(map, window, level, scale);
    scaled.set(level, values.map((value, at) => value * factors[at % factors.length]));
  }
  return model.sample(conditioning, scaled, window, 1);
}

/**
 * The entry of a map with one entry, made if it is another one.
 * @template T
 * @param {Map<string, T>} map @param {string} key @param {boolean} keep @param {() => T | Promise<T>} make
 */
async function kept(map, key, keep, make) {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = await make();
  if (keep) {
    map.clear();
    map.set(key, made);
  }
  return made;
}

/** @param {number} number of the drawing; 0: loading @param {unknown} error */
function fail(number, error) {
  say({ kind: "failed", number, why: error instanceof Error ? error.message : String(error) });
}
