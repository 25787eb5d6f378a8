/** The page: takes a photo, asks the worker for pictures of it, and shows them with the parts of srflow-demo's page. */

import { controls, notice } from "../../../apps/srflow_apps/demo/page/controls.js";
import { overview } from "../../../apps/srflow_apps/demo/page/overview.js";
import { photo as field } from "../../../apps/srflow_apps/demo/page/photo.js";
import { viewer } from "../../../apps/srflow_apps/demo/page/viewer.js";
import { about } from "./duration.js";
import { decoded, PhotoError } from "./photo.js";
import { recorded, sha256 } from "./provenance.js";
import { CORE } from "./tiles.js";

/** @import { Done, Fetching, FromPage, FromWorker, Loaded, Taken, TileDrawn } from "./messages.d.ts" */
/** @import { Window } from "./tiles.js" */

const SHOWN_SIDE = 64; // of a large photo's part that follows the slider, in LR pixels
const SMALL_PIXELS = 88 * 88; // a photo with at most as many follows the slider as a whole
const MOST_THREADS = 8; // more of them wait for each other
const AUTO_TAU_SCHEME = 2; // the version of the map in texture.js
const MOST_SEED = 2n ** 64n - 1n;

/** @template {HTMLElement} T @param {string} selector @param {new () => T} kind @returns {T} */
function element(selector, kind) {
  const found = document.querySelector(selector);
  if (!(found instanceof kind)) throw new Error(`the page has no ${selector}`);
  return found;
}

const [status, estimate, modelName, claim] = ["#status", "#estimate", "#model", "#claim"].map((id) =>
  element(id, HTMLElement));
const [whole, download, cancel] = ["#whole", "#download", "#cancel"].map((id) => element(id, HTMLButtonElement));
const progress = element("#progress", HTMLProgressElement);
const [before, after] = [document.createElement("canvas"), document.createElement("canvas")];
const say = notice(element("#error", HTMLElement));
const views = viewer(element(".sf-viewer", HTMLElement));
const dials = controls(element(".sf-dials", HTMLElement), () => draw());
const map = overview(element(".sf-chooser", HTMLElement), (/** @type {{top: number, left: number}} */ to) => {
  show(to.top, to.left);
  draw();
});
const chooser = field(element(".sf-photo", HTMLElement), open, clear);

/** @type {Loaded | null} */
let model = null;
/** @type {{name: string, source: string, sha256: Promise<string>, canvas: HTMLCanvasElement, url: string} | null} */
let photo = null;
/** @type {Window | null} that follows the slider; null: all of the photo */
let part = null;
/** @type {{image: ImageData, file: Uint8Array} | null} a photo that came before the model */
let waiting = null;
let taken = false; // whether the worker has the photo, and the model for it
let number = 0;
/** What is being drawn, or was: which part (null: all), and what the file will be called. */
let drawing = { part: /** @type {Window | null} */ (null), name: "", start: 0, record: async () => ({}) };

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
worker.onmessage = (/** @type {MessageEvent<FromWorker>} */ { data }) => hear(data);
worker.onerror = () => complain("The model could not be started: this browser is too old, or the page is incomplete.");
ask({ kind: "load", devices: await devices(), threads: threads() });

/** What to run the model on. `?device=wasm` and `?device=webgpu` decide; otherwise a GPU is used if there is one. */
async function devices() {
  const wish = new URLSearchParams(location.search).get("device");
  if (wish === "wasm" || wish === "webgpu") return /** @type {("wasm" | "webgpu")[]} */ ([wish]);
  const gpu = /** @type {{requestAdapter(): Promise<{info?: {isFallbackAdapter?: boolean}} | null>} | undefined} */ (
    /** @type {any} */ (navigator).gpu);
  const adapter = await gpu?.requestAdapter().catch(() => null);
  const real = adapter && !adapter.info?.isFallbackAdapter;
  return /** @type {("wasm" | "webgpu")[]} */ (real ? ["webgpu", "wasm"] : ["wasm"]);
}

/** How many threads the processor gets: `?threads=2`, or one for every core. */
function threads() {
  const wish = Number(new URLSearchParams(location.search).get("threads"));
  return Number.isInteger(wish) && wish > 0 ? wish : Math.min(navigator.hardwareConcurrency, MOST_THREADS);
}

/** @param {FromPage} message @param {Transferable[]} [transfer] */
function ask(message, transfer = []) {
  worker.postMessage(message, transfer);
}

/** @param {FromWorker} message */
function hear(message) {
  if (message.kind === "ready") {
    ready(message);
  } else if (message.kind === "failed" && !model) {
    complain(reason(message.why));
  } else if (message.number === number) {
    if (message.kind === "fetching") fetching(message);
    if (message.kind === "taken") begin(message);
    if (message.kind === "begun") status.textContent = `Drawing, ${about(message.milliseconds)} …`;
    if (message.kind === "tile") put(message);
    if (message.kind === "done") finish(message);
    if (message.kind === "failed") complain(reason(message.why));
  }
}

/** @param {Loaded} message */
function ready(message) {
  const first = model === null;
  use(message);
  if (!first) return;
  document.documentElement.dataset.device = message.device;
  document.documentElement.dataset.threads = String(message.threads);
  status.textContent = "Ready.";
  if (waiting) take(waiting);
}

/** Show which model draws. τ follows its default until it is moved. @param {Loaded} loaded */
function use(loaded) {
  if (dials.value().auto || dials.value().tau === model?.tau) dials.suggest(loaded.tau);
  model = loaded;
  modelName.textContent = loaded.name;
}

/** @param {Fetching} message */
function fetching({ name, why }) {
  status.textContent = `Loading the model ${name}, which suits this photo: ${why} …`;
}

/** @param {string} why */
function reason(why) {
  if (/memory|allocat/i.test(why)) return "This browser has too little memory for that: choose a smaller photo.";
  return model ? `The picture could not be drawn: ${why}` : `The model could not be loaded: ${why}. Reload the page.`;
}

/** @param {string} line */
function complain(line) {
  say(line);
  status.textContent = "";
  busy(false);
}

/** Forget the photo. */
function clear() {
  stop();
  say("");
  if (photo) URL.revokeObjectURL(photo.url);
  photo = waiting = part = null;
  chooser.show("empty");
  views.show(null);
  map.show(null);
  status.textContent = estimate.textContent = "";
}

/** Show a photo, or say why not. @param {File | null} file */
async function open(file) {
  if (!file) return complain("The example could not be loaded: choose a photo of yours.");
  stop();
  say("");
  try {
    const image = await decoded(file);
    clear();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    context(canvas).putImageData(image, 0, 0);
    const name = file.name.replace(/\.[^.]*$/, "") || "photo";
    photo = { name, source: file.name, sha256: sha256(file), canvas, url: URL.createObjectURL(file) };
    chooser.show("chosen", `${file.name} (${image.width}×${image.height})`);
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (model) take({ image, file: bytes });
    else waiting = { image, file: bytes };
  } catch (error) {
    complain(error instanceof PhotoError ? error.message : reason(String(error)));
  }
}

/** Hand the photo to the worker. @param {{image: ImageData, file: Uint8Array}} photo */
function take({ image: { data, width, height }, file }) {
  waiting = null;
  taken = false;
  busy(true);
  cancel.hidden = true; // it is short, or loads what the next photo may need
  status.textContent = "Looking at the photo …";
  ask({ kind: "photo", number: ++number, rgba: data, width, height, file }, [data.buffer, file.buffer]);
}

/** Draw what follows the slider, now that the photo has its model. @param {Taken} message */
function begin(message) {
  if (!photo) return;
  use(message);
  taken = true;
  const { width, height } = photo.canvas;
  modelName.textContent = message.suits ? `${message.name} (${message.why})` : message.name;
  claim.textContent = message.suits
    ? "The same seed gives the same picture as srflow-upscale does."
    : `It could not load ${message.suited}, which suits this photo (${message.why}): srflow-upscale draws another picture.`;
  const large = Math.ceil(width / 2) * Math.ceil(height / 2) * 4 > SMALL_PIXELS;
  whole.hidden = estimate.hidden = !large;
  estimate.textContent = `${about(message.whole)} ${where()}`;
  if (large) {
    map.show({ image: photo.url, width, height });
    const even = (/** @type {number} */ length) => Math.ceil(length / message.multiple) * message.multiple;
    part = { top: 0, left: 0, height: Math.min(SHOWN_SIDE, even(height)), width: Math.min(SHOWN_SIDE, even(width)) };
    show((height - part.height) / 2, (width - part.width) / 2);
  }
  draw();
}

/** Move the part to about this place: at multiples of the model's. @param {number} top @param {number} left */
function show(top, left) {
  if (!part || !photo || !model) return;
  const { multiple } = model;
  const place = (/** @type {number} */ start, /** @type {number} */ length, /** @type {number} */ of) => {
    const last = Math.ceil(of / multiple) * multiple - length;
    return Math.min(Math.max(Math.round(start / multiple) * multiple, 0), last);
  };
  const { width, height } = photo.canvas;
  part = { ...part, top: place(top, part.height, height), left: place(left, part.width, width) };
  const [across, down] = [Math.min(part.width, width - part.left), Math.min(part.height, height - part.top)];
  map.move({ left: part.left, top: part.top, across, down });
}

/** Draw with the settings as they are. @param {{all?: boolean}} [options] all: the whole of a large photo */
function draw({ all = false } = {}) {
  if (!model || !photo || !taken) return;
  const { tau, auto, seed: text } = dials.value();
  if (!/^[0-9]{1,20}$/.test(text) || BigInt(text) > MOST_SEED) {
    return complain(`The seed is “${text}”: it must be a whole number from 0 to ${MOST_SEED}.`);
  }
  const seed = BigInt(text);
  const shown = all ? null : part;
  if (auto) dials.suggest(model.tau);
  const degrees = auto ? model.tau : tau;
  say("");
  const name = `${photo.name}_x${model.scale}_tau${auto ? "auto" : ""}${degrees}_seed${seed}`;
  download.textContent = shown ? "Download this part" : "Download";
  const record = recordOf({ model, photo, part: shown, tau: degrees, auto, seed });
  drawing = { part: shown, name: shown ? `${name}_${shown.left}_${shown.top}` : name, start: performance.now(), record };
  number += 1;
  prepare(shown ?? { top: 0, left: 0, width: photo.canvas.width, height: photo.canvas.height });
  busy(true);
  ask({ kind: "draw", number, part: shown, tau: degrees, auto, seed });
}

/**
 * What the file will say of how it was made. A part says which one it is; srflow-upscale makes the whole from it.
 * @param {{model: Loaded, photo: NonNullable<typeof photo>, part: Window | null, tau: number, auto: boolean,
 *   seed: bigint}} made
 */
function recordOf({ model, photo, part, tau, auto, seed }) {
  return async () => ({
    model: model.name,
    model_sha256: model.sha256,
    tau: String(tau),
    ...(auto && { auto_tau: String(AUTO_TAU_SCHEME) }),
    seed: String(seed),
    sample: "0",
    latent_scheme: String(model.scheme),
    sdk_version: SDK_VERSION,
    tile: whole.hidden ? "None" : String(CORE),
    consistent: "False",
    source: photo.source,
    source_sha256: await photo.sha256,
    ...(part && { part: `${part.left} ${part.top} ${part.width} ${part.height}` }),
  });
}

/** Give both canvases the part's size, the last picture being kept while its size stays. @param {Window} part */
function prepare({ top, left, ...size }) {
  const { scale } = /** @type {Loaded} */ (model), { canvas } = /** @type {NonNullable<typeof photo>} */ (photo);
  const width = Math.min(size.width, canvas.width - left), height = Math.min(size.height, canvas.height - top);
  for (const target of [before, after]) {
    if (target.width === width * scale && target.height === height * scale) continue;
    target.width = width * scale;
    target.height = height * scale;
  }
  const target = context(before);
  target.imageSmoothingQuality = "high";
  target.drawImage(canvas, left, top, width, height, 0, 0, before.width, before.height);
  views.show({ before, after, names: { before: "before: enlarged by the browser", after: "after: the model's picture" } });
}

/** @param {TileDrawn} tile */
function put({ rgba, width, height, top, left, done, total }) {
  const { scale } = /** @type {Loaded} */ (model);
  const origin = drawing.part ?? { top: 0, left: 0 };
  const image = new ImageData(/** @type {Uint8ClampedArray<ArrayBuffer>} */ (rgba), width, height);
  context(after).putImageData(image, left - origin.left * scale, top - origin.top * scale);
  progress.max = total;
  progress.value = done;
  progress.hidden = total === 1;
  if (total > 1) {
    const left = ((performance.now() - drawing.start) / done) * (total - done);
    status.textContent = `Tile ${done} of ${total}, ${about(left)} left.`;
  }
}

/** What draws. */
function where() {
  const { device, threads } = /** @type {Loaded} */ (model);
  return device === "webgpu" ? "on the GPU" : `on ${threads === 1 ? "one thread" : `${threads} threads`}`;
}

/** @param {Done} message */
function finish({ milliseconds, whole }) {
  status.textContent = `${after.width}×${after.height} pixels in ${(milliseconds / 1000).toFixed(2)} s ${where()}.`;
  estimate.textContent = `${about(whole)} ${where()}`;
  busy(false);
  download.disabled = false;
}

/** @param {boolean} working */
function busy(working) {
  cancel.hidden = !working;
  download.disabled = true;
  progress.hidden = true;
  if (working) status.textContent = "Drawing …";
}

function stop() {
  number += 1;
  ask({ kind: "stop", number });
  busy(false);
}

/** @param {HTMLCanvasElement} canvas */
function context(canvas) {
  const found = canvas.getContext("2d");
  if (!found) throw new PhotoError("This browser cannot hold a picture of that size: choose a smaller photo.");
  return found;
}

whole.addEventListener("click", () => draw({ all: true }));
cancel.addEventListener("click", () => {
  stop();
  status.textContent = "Cancelled.";
});
download.addEventListener("click", () => {
  const { name, record } = drawing;
  after.toBlob(async (blob) => {
    if (!blob) return complain("This browser cannot write a picture of that size.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await recorded(blob, await record()));
    link.download = `${name}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }, "image/png");
});
