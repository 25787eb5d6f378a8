/** The page: takes a photo, asks the worker for pictures of it, and shows them. */

import { about } from "./duration.js";
import { Overview } from "./overview.js";
import { decoded, PhotoError, pictureIn } from "./photo.js";
import { recorded, sha256 } from "./provenance.js";
import { CORE } from "./tiles.js";

/** @import { Done, Fetching, FromPage, FromWorker, Loaded, Taken, TileDrawn } from "./messages.d.ts" */
/** @import { Window } from "./tiles.js" */

const SHOWN_SIDE = 64; // of a large photo's part that follows the slider, in LR pixels
const SMALL_PIXELS = 88 * 88; // a photo with at most as many follows the slider as a whole
const MOST_THREADS = 8; // more of them wait for each other
const AUTO_TAU_SCHEME = 2; // the version of the map in texture.js
const MOST_SEED = 2n ** 64n - 1n;

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

const [view, status, errorLine, work, drop, parts] = ["view", "status", "error", "work", "drop", "parts"].map((id) =>
  element(id, HTMLElement));
const [before, after] = ["before", "after"].map((id) => element(id, HTMLCanvasElement));
const [file, split, tau, auto, seed] = ["file", "split", "tau", "auto", "seed"].map((id) =>
  element(id, HTMLInputElement));
const [example, another, whole, download, cancel] = ["example", "another", "whole", "download", "cancel"].map((id) =>
  element(id, HTMLButtonElement));
const progress = element("progress", HTMLProgressElement);
const estimate = element("estimate", HTMLElement);
const tauValue = element("tau-value", HTMLOutputElement);
const overview = new Overview(element("overview", HTMLCanvasElement), () => draw());

/** @type {Loaded | null} */
let model = null;
/** @type {{name: string, source: string, sha256: Promise<string>, canvas: HTMLCanvasElement} | null} */
let photo = null;
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
    if (message.kind === "tile") show(message);
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
  if (model === null || Number(tau.value) === model.tau) tau.value = String(loaded.tau);
  showTau();
  model = loaded;
  element("model", HTMLElement).textContent = loaded.name;
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
  errorLine.textContent = line;
  errorLine.hidden = false;
  status.textContent = "";
  busy(false);
}

/** Show a photo, or say why not. @param {Blob | null} blob @param {string} name */
async function open(blob, name) {
  if (!blob) return;
  errorLine.hidden = true;
  stop();
  try {
    const image = await decoded(blob);
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    context(canvas).putImageData(image, 0, 0);
    photo = { name: name.replace(/\.[^.]*$/, "") || "photo", source: name, sha256: sha256(blob), canvas };
    const bytes = new Uint8Array(await blob.arrayBuffer());
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
  element("model", HTMLElement).textContent = message.suits ? `${message.name} (${message.why})` : message.name;
  element("claim", HTMLElement).textContent = message.suits
    ? "The same seed gives the same picture as srflow-upscale does."
    : `It could not load ${message.suited}, which suits this photo (${message.why}): srflow-upscale draws another picture.`;
  const large = Math.ceil(width / 2) * Math.ceil(height / 2) * 4 > SMALL_PIXELS;
  work.hidden = false;
  parts.hidden = whole.hidden = estimate.hidden = !large;
  estimate.textContent = `${about(message.whole)} ${where()}`;
  if (large) overview.show(photo.canvas, SHOWN_SIDE, message.multiple);
  draw();
}

/** Draw with the settings as they are. @param {{all?: boolean}} [options] all: the whole of a large photo */
function draw({ all = false } = {}) {
  if (!model || !photo || !taken) return;
  const chosen = checkedSeed();
  if (chosen === null) return;
  errorLine.hidden = true;
  const part = parts.hidden || all ? null : overview.part;
  const degrees = Number(tau.value);
  const name = `${photo.name}_x${model.scale}_tau${auto.checked ? `auto${degrees}` : degrees}_seed${chosen}`;
  download.textContent = part ? "Download this part" : "Download";
  const record = recordOf({ model, photo, part, tau: degrees, auto: auto.checked, seed: chosen });
  drawing = { part, name: part ? `${name}_${part.left}_${part.top}` : name, start: performance.now(), record };
  number += 1;
  prepare(part ?? { top: 0, left: 0, width: photo.canvas.width, height: photo.canvas.height });
  busy(true);
  ask({ kind: "draw", number, part, tau: degrees, auto: auto.checked, seed: chosen });
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
    tile: parts.hidden ? "None" : String(CORE),
    consistent: "False",
    source: photo.source,
    source_sha256: await photo.sha256,
    ...(part && { part: `${part.left} ${part.top} ${part.width} ${part.height}` }),
  });
}

/** The seed, or null with an error shown. */
function checkedSeed() {
  const text = seed.value.trim();
  const good = /^[0-9]{1,20}$/.test(text) && BigInt(text) <= MOST_SEED;
  seed.setAttribute("aria-invalid", String(!good));
  if (!good) complain(`The seed is “${text}”: it must be a whole number from 0 to ${MOST_SEED}.`);
  return good ? BigInt(text) : null;
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
  view.style.setProperty("--aspect", String(width / height));
  const target = context(before);
  target.imageSmoothingQuality = "high";
  target.drawImage(canvas, left, top, width, height, 0, 0, before.width, before.height);
}

/** @param {TileDrawn} tile */
function show({ rgba, width, height, top, left, done, total }) {
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
  view.setAttribute("aria-busy", String(working));
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

function showTau() {
  tauValue.textContent = Number(tau.value).toFixed(2);
}

file.addEventListener("change", () => {
  const chosen = file.files?.[0] ?? null;
  open(chosen, chosen?.name ?? "").then(() => (file.value = "")); // so that the same file can be chosen again
});
example.addEventListener("click", async () => {
  const answer = await fetch(new URL("example.png", import.meta.url)).catch(() => null);
  if (answer?.ok) await open(await answer.blob(), "example.png");
  else complain("The example could not be loaded: choose a photo of yours.");
});
document.addEventListener("paste", (event) => {
  const pasted = pictureIn(event.clipboardData);
  if (pasted) open(pasted, pasted.name);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", () => drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const dropped = pictureIn(event.dataTransfer);
  if (dropped) open(dropped, dropped.name);
});
element("controls", HTMLFormElement).addEventListener("submit", (event) => event.preventDefault());
split.addEventListener("input", () => view.style.setProperty("--split", `${split.value}%`));
tau.addEventListener("input", () => {
  showTau();
  draw();
});
auto.addEventListener("change", () => draw());
seed.addEventListener("input", () => draw());
another.addEventListener("click", () => {
  const [random] = crypto.getRandomValues(new Uint32Array(1));
  seed.value = String(random);
  draw();
});
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
