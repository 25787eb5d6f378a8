/**
 * Which of the two ×4 models suits a picture: the rules of srflow_sdk/model/model_choice.py, and the measurements of
 * srflow_sdk/pixels/damage.py, which explain them. A picture is measured in bands of rows, as there.
 */

import { halfToEven } from "./texture.js";

export const CLEAN = "x4-small", PHOTO = "x4-photo";

const GOOD_QUALITY = 94, GOOD_BITS = 2.5, NOISY = 1.3, DOTTED = 0.03, SOFT = 0.1, STAYS_SOFT = 0.02;
const CERTAIN_GRID = 2, WHITE = 0.7;
const BAND_ROWS = 128, BLOCK = 16, GRID = 8;
const DARKEST = 3, BRIGHTEST = 252, MOST_CLIPPED = 0.1;
const QUIETEST = 0.1, MIDDLE = 0.5, MEDIAN_OF_NORMAL = 0.6745;
const NOISY_IN_BLOCKS = 1.6, NOISY_IN_THE_MIDDLE = 3.5, LEAST_WHITE = 0.5;
const LARGEST_STEP = 2, STEP_OF_THINGS = 40.0003, ROUNDING = 0.001, FOR_ANY_PLACE = 1.3;
const LEAST_DOT = 30, DOT_OVER_RANGE = 2;
const EDGE_STEPS = 5, LEAST_EDGE = 24.0003, RAMP = 0.253, SHARP = 0.703, FEWEST_EDGES = 50;
const STANDARD_LUMA_SUM = 3688;
const SNIFFED_BYTES = 1 << 16;
const HEIF = ["avif", "avis", "heic", "heix", "hevc", "heim", "heis", "mif1"];

/**
 * @typedef {{quality: number | null, lossy: string | null, bits: number, noise: number, white: number, grid: number,
 *   dots: number, sharp: number, sharp_at_half: number}} Damage
 * @typedef {{levels: Float32Array, rows: number, columns: number}} Band luma in 8-bit levels
 */

/** @param {Damage} damage @returns {{name: string, why: string}} */
export function choice(damage) {
  const seen = seenIn(damage);
  const why = damage.sharp < SOFT && damage.sharp_at_half < STAYS_SOFT ? `${seen}; it stays soft` : seen;
  return seen ? { name: PHOTO, why } : { name: CLEAN, why: "no damage found" };
}

/** @param {Damage} damage what is wrong, in words; "" if nothing certainly is */
function seenIn({ quality, lossy, bits, noise, white, grid, dots, sharp }) {
  if (quality !== null && quality < GOOD_QUALITY) return `JPEG of quality ${quality}`;
  if (lossy !== null && bits < GOOD_BITS) return `${lossy} of ${bits.toFixed(1)} bits a pixel`;
  if (lossy === null && grid > CERTAIN_GRID) return "blocks of 8×8, as of a JPEG";
  if (noise > NOISY && white > WHITE) return `noise of ${halfToEven(noise)}/255`;
  if (dots > DOTTED) return "black and white dots";
  if (sharp < SOFT) return "soft: no sharp edge";
  return "";
}

/**
 * @param {Uint8ClampedArray | Uint8Array} rgba height×width×4, opaque @param {number} height @param {number} width
 * @param {Uint8Array} file the bytes that it was decoded from
 * @returns {Damage}
 */
export function damageOf(rgba, height, width, file) {
  /** @type {[number[], number[]]} by distance */
  const noises = [[], []];
  const steps = [new Float64Array(GRID + 1), new Float64Array(GRID + 1)]; // by direction
  const edges = [0, 0], edgesAtHalf = [0, 0]; // of which are sharp
  const dots = [0, 0];
  let inner = 0;
  for (let top = 0; top < height; top += BAND_ROWS) {
    const band = luma(rgba, top, Math.min(BAND_ROWS, height - top), width);
    addNoises(band, noises);
    addDots(band, dots);
    for (const [direction, lines] of [band, transposed(band)].entries()) {
      addSteps(lines, steps[direction]);
      addEdges(lines, edges);
      addEdges(halved(lines), edgesAtHalf);
    }
    inner += Math.max(band.rows - 2, 0) * Math.max(width - 2, 0);
  }
  const lossy = lossyKind(file);
  return {
    quality: file[0] === 0xff && file[1] === 0xd8 ? jpegQuality(file) : null,
    lossy,
    bits: lossy === null ? 0 : (8 * file.length) / (height * width),
    ...noise(noises),
    grid: grid(steps),
    dots: (100 * Math.min(...dots)) / Math.max(inner, 1),
    sharp: sharpShare(edges),
    sharp_at_half: sharpShare(edgesAtHalf),
  };
}

/** @param {number[]} edges */
function sharpShare([all, sharp]) {
  return all < FEWEST_EDGES ? 1 : sharp / all;
}

/** @param {Band} band @returns {Band} of half as many rows and columns */
function halved({ levels, rows, columns }) {
  const half = { levels: new Float32Array((rows >> 1) * (columns >> 1)), rows: rows >> 1, columns: columns >> 1 };
  for (let y = 0; y < half.rows; y++) {
    for (let x = 0; x < half.columns; x++) {
      const at = 2 * (y * columns + x);
      half.levels[y * half.columns + x] = (levels[at] + levels[at + 1] + levels[at + columns] + levels[at + columns + 1]) / 4;
    }
  }
  return half;
}

/** @param {Uint8ClampedArray | Uint8Array} rgba @param {number} top @param {number} rows @param {number} columns @returns {Band} */
function luma(rgba, top, rows, columns) {
  const levels = new Float32Array(rows * columns);
  for (let i = 0; i < levels.length; i++) {
    const at = 4 * (top * columns + i);
    levels[i] = 0.299 * rgba[at] + 0.587 * rgba[at + 1] + 0.114 * rgba[at + 2];
  }
  return { levels, rows, columns };
}

/** @param {Band} band @returns {Band} */
function transposed({ levels, rows, columns }) {
  const turned = new Float32Array(levels.length);
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) turned[x * rows + y] = levels[y * columns + x];
  return { levels: turned, rows: columns, columns: rows };
}

/** Of every block that is not clipped, the noise at distances of one and of two pixels. @param {Band} band @param {number[][]} noises */
function addNoises({ levels, rows, columns }, noises) {
  for (let top = 0; top + BLOCK <= rows; top += BLOCK) {
    for (let left = 0; left + BLOCK <= columns; left += BLOCK) {
      let clipped = 0;
      for (let y = top; y < top + BLOCK; y++) {
        for (let x = left; x < left + BLOCK; x++) {
          const level = levels[y * columns + x];
          if (level < DARKEST || level > BRIGHTEST) clipped += 1;
        }
      }
      if (clipped / BLOCK ** 2 >= MOST_CLIPPED) continue;
      for (const apart of [1, 2]) {
        const answers = [];
        /** @param {number} y @param {number} x */
        const bend = (y, x) => {
          const at = y * columns + x;
          return levels[at - apart] - 2 * levels[at] + levels[at + apart];
        };
        for (let y = top + apart; y < top + BLOCK - apart; y++) {
          for (let x = left + apart; x < left + BLOCK - apart; x++) {
            answers.push(Math.abs(bend(y - apart, x) - 2 * bend(y, x) + bend(y + apart, x)));
          }
        }
        noises[apart - 1].push(median(answers) / (6 * MEDIAN_OF_NORMAL));
      }
    }
  }
}

/** @param {number[][]} found by distance */
function noise(found) {
  const [one, two] = found.map((values) => Float64Array.from(values).sort());
  if (one.length === 0) return { noise: 0, white: 0 };
  const quiet = Math.floor(QUIETEST * one.length), middle = Math.floor(MIDDLE * one.length);
  const onlyMiddle = one[quiet] <= NOISY_IN_BLOCKS && one[middle] > NOISY_IN_THE_MIDDLE && one[middle] > LEAST_WHITE * two[middle];
  const at = onlyMiddle ? middle : quiet;
  return one[at] > LEAST_WHITE * two[at] ? { noise: one[at], white: one[at] / two[at] } : { noise: 0, white: 0 };
}

/**
 * Of the squares of 8×8, how many more have larger steps between columns at each place than elsewhere, than smaller; and
 * how many there are.
 * @param {Band} band @param {Float64Array} steps
 */
function addSteps({ levels, rows, columns }, steps) {
  /** @param {number} at */
  const step = (at) => Math.abs(levels[at + 1] - levels[at]);
  const across = columns - 9; // the first step that counts is between columns 7 and 8
  for (let top = 0; top + GRID <= rows; top += GRID) {
    for (let left = 0; left + GRID <= across; left += GRID) {
      const means = new Float64Array(GRID);
      for (let y = top; y < top + GRID; y++) {
        for (let x = 0; x < GRID; x++) {
          const at = y * columns + left + x + 7;
          const excess = step(at) - (step(at - 1) + step(at + 1)) / 2;
          if (excess <= STEP_OF_THINGS) means[x] += Math.min(Math.max(excess, 0), LARGEST_STEP) / GRID;
        }
      }
      const mean = means.reduce((sum, one) => sum + one) / GRID;
      means.forEach((one, x) => (steps[x] += Math.sign(Math.trunc((one - mean) / ROUNDING))));
      steps[GRID] += 1;
    }
  }
}

/** @param {Float64Array[]} steps by direction */
function grid(steps) {
  const errors = steps.map((sums) => sums.subarray(0, GRID).map((sum) => sum / Math.sqrt(Math.max(sums[GRID], 1))));
  const corner = errors[0][0] + errors[1][0], strongest = Math.max(...errors[0]) + Math.max(...errors[1]);
  return Math.max(corner / Math.SQRT2, strongest / Math.SQRT2 - FOR_ANY_PLACE);
}

/** Count the edges, and those that are sharp. @param {Band} band @param {number[]} edges */
function addEdges({ levels, rows, columns }, edges) {
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x + EDGE_STEPS < columns; x++) {
      const at = y * columns + x, rise = Math.abs(levels[at + EDGE_STEPS] - levels[at]);
      if (rise <= LEAST_EDGE) continue;
      const steps = [0, 1, 2, 3, 4].map((by) => Math.abs(levels[at + by + 1] - levels[at + by]));
      if (steps[2] <= RAMP * rise || steps[2] <= Math.max(...steps) - ROUNDING) continue;
      edges[0] += 1;
      if (steps[2] > SHARP * rise) edges[1] += 1;
    }
  }
}

/** Count the pixels that stand out alone: bright ones, dark ones. @param {Band} band @param {number[]} dots */
function addDots({ levels, rows, columns }, dots) {
  const around = [-columns - 1, -columns, -columns + 1, -1, 1, columns - 1, columns, columns + 1];
  for (let y = 1; y < rows - 1; y++) {
    for (let x = 1; x < columns - 1; x++) {
      const at = y * columns + x;
      for (const [kind, sign] of [1, -1].entries()) {
        const level = sign * levels[at];
        if (!(level - Math.max(sign * levels[at - 1], sign * levels[at + 1]) > LEAST_DOT)) continue;
        const others = around.map((by) => sign * levels[at + by]), highest = Math.max(...others);
        if (level - highest > Math.max(LEAST_DOT, DOT_OVER_RANGE * (highest - Math.min(...others)))) dots[kind] += 1;
      }
    }
  }
}

/** The kind of a file that hides its blocks; null for others. @param {Uint8Array} file @returns {string | null} */
function lossyKind(file) {
  const head = new TextDecoder("latin1").decode(file.subarray(0, SNIFFED_BYTES));
  const webp = head.startsWith("RIFF") && head.slice(8, 12) === "WEBP";
  const heif = head.slice(4, 8) === "ftyp" && HEIF.some((brand) => brands(head).includes(brand));
  const lossless = head.includes("VP8L") || /colrnclx[^]{4}\0\0/.test(head);
  if (lossless || !(webp || heif)) return null;
  return webp ? "WebP" : head.slice(0, 64).includes("avif") ? "AVIF" : "HEIC";
}

/** @param {string} head of an HEIF file */
function brands(head) {
  const length = [0, 1, 2, 3].reduce((sum, at) => 256 * sum + head.charCodeAt(at), 0), found = [head.slice(8, 12)];
  for (let at = 16; at < Math.min(length, 256); at += 4) found.push(head.slice(at, at + 4));
  return found;
}

/** The quality that libjpeg's scale gives the luma table; null without one. @param {Uint8Array} file */
function jpegQuality(file) {
  let sum = 0;
  for (let at = 2; at + 4 <= file.length && file[at] === 0xff; ) {
    const marker = file[at + 1], end = at + 2 + 256 * file[at + 2] + file[at + 3];
    if (marker === 0xda) break; // the picture begins
    if (marker === 0xff) {
      at += 1; // it fills up
      continue;
    }
    for (let table = at + 4; marker === 0xdb && table < end; ) {
      const wide = file[table] >> 4 ? 2 : 1, values = file.subarray(table + 1, table + 1 + 64 * wide);
      if ((file[table] & 15) === 0) sum = values.reduce((all, value, i) => all + (wide === 2 && i % 2 === 0 ? 256 * value : value), 0);
      table += 1 + 64 * wide;
    }
    at = end;
  }
  if (sum === 0) return null;
  const percent = (100 * sum) / STANDARD_LUMA_SUM;
  return Math.min(Math.max(halfToEven(percent <= 100 ? (200 - percent) / 2 : 5000 / percent), 1), 100);
}

/** @param {number[]} values */
function median(values) {
  const sorted = Float64Array.from(values).sort(), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
