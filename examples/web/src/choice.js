/**
 * Which of the two ×4 models suits a picture: the rules of srflow_sdk/model/model_choice.py, which explains them. A picture is
 * measured in bands of rows, as there.
 */

import { halfToEven } from "./texture.js";

export const CLEAN = "x4-small", PHOTO = "x4-photo";

const BAND_ROWS = 128, BLOCK = 16, CELL = 32;
const DARKEST = 3, BRIGHTEST = 252, MOST_CLIPPED = 0.1;
const QUIETEST = 0.1, MIDDLE = 0.5, MEDIAN_OF_NORMAL = 0.6745;
const LARGEST_STEP = 2, UNSEEN_STEP = 0.3;
const LEAST_DOT = 30, DOT_OVER_RANGE = 2;
const NOISY_IN_THE_MIDDLE = 3.5, WHITE = 0.5;
const NOISY = 1.6, FAINTLY_NOISY = 1.2, BLOCKY = 1.2, FAINTLY_BLOCKY = 1.05, FEW_BITS = 1, LITTLE_BITS = 2, DOTTED = 0.03;
const STANDARD_LUMA_SUM = 3688, COARSE = 88;
const FAINT_TAU = 0.4;
const SNIFFED_BYTES = 1 << 16;
const HEIF = ["avif", "avis", "heic", "heix", "hevc", "heim", "heis", "mif1"];

/**
 * @typedef {{quality: number | null, lossy: string | null, bits: number, noise: number, blocks: number, dots: number}} Damage
 * @typedef {{levels: Float32Array, rows: number, columns: number}} Band luma in 8-bit levels
 */

/** @param {Damage} damage @returns {{name: string, why: string, tau: number | null}} tau: at most so much; null: as the model */
export function choice({ quality, lossy, bits, noise, blocks, dots }) {
  const gif = lossy === "GIF", little = lossy !== null && bits < LITTLE_BITS;
  /** @type {[string, boolean, boolean][]} what it may be, whether it is, and whether it is a little */
  const seen = [
    [`${lossy} of ${bits.toFixed(1)} bits a pixel`, gif ? !little : lossy !== null && bits < FEW_BITS, little && !gif],
    [`JPEG of quality ${quality}`, quality !== null && quality < COARSE, false],
    ["blocks of 8×8, as of a JPEG", blocks > BLOCKY, blocks > FAINTLY_BLOCKY],
    [`noise of ${noise.toFixed(1)}/255`, noise > NOISY, noise > FAINTLY_NOISY],
    ["black and white dots", dots > DOTTED, false],
  ];
  const much = seen.filter((one) => one[1]), faint = seen.filter((one) => one[2]);
  /** @param {typeof seen} found */
  const words = (found) => found.map(([what]) => what).join(", ");
  if (much.length > 0) return { name: PHOTO, why: words(much), tau: null };
  if (faint.length === 0) return { name: CLEAN, why: "no damage found", tau: null };
  return { name: CLEAN, why: `faint: ${words(faint)}; auto τ ${FAINT_TAU}`, tau: FAINT_TAU };
}

/**
 * @param {Uint8ClampedArray | Uint8Array} rgba height×width×4, opaque @param {number} height @param {number} width
 * @param {Uint8Array} file the bytes that it was decoded from
 * @returns {Damage}
 */
export function damageOf(rgba, height, width, file) {
  /** @type {[number[], number[]]} by distance */
  const noises = [[], []];
  /** @type {[Float64Array[], Float64Array[]]} by direction */
  const cells = [[], []];
  const dots = [0, 0];
  let inner = 0;
  for (let top = 0; top < height; top += BAND_ROWS) {
    const band = luma(rgba, top, Math.min(BAND_ROWS, height - top), width);
    addNoises(band, noises);
    addSteps(band, cells[0]);
    addSteps(transposed(band), cells[1]);
    addDots(band, dots);
    inner += Math.max(band.rows - 2, 0) * Math.max(width - 2, 0);
  }
  const lossy = lossyKind(file);
  return {
    quality: file[0] === 0xff && file[1] === 0xd8 ? jpegQuality(file) : null,
    lossy,
    bits: lossy === null ? 0 : (8 * file.length) / (height * width),
    noise: noise(noises),
    blocks: Math.min(blockiness(cells[0]), blockiness(cells[1])),
    dots: (100 * Math.min(...dots)) / Math.max(inner, 1),
  };
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
  if (one.length === 0) return 0;
  const quiet = Math.floor(QUIETEST * one.length), middle = Math.floor(MIDDLE * one.length);
  if (one[quiet] <= NOISY && one[middle] > NOISY_IN_THE_MIDDLE && one[middle] > WHITE * two[middle]) return one[middle];
  return one[quiet] > WHITE * two[quiet] ? one[quiet] : 0;
}

/**
 * In cells, how far the steps between columns exceed those around them, by their place modulo 8.
 * @param {Band} band @param {Float64Array[]} cells
 */
function addSteps({ levels, rows, columns }, cells) {
  /** @param {number} at */
  const step = (at) => Math.abs(levels[at + 1] - levels[at]);
  const across = columns - 9; // the first step that counts is between columns 7 and 8
  for (let top = 0; top + CELL <= rows; top += CELL) {
    for (let left = 0; left + CELL <= across; left += CELL) {
      const sums = new Float64Array(8);
      for (let y = top; y < top + CELL; y++) {
        for (let x = 0; x < CELL; x++) {
          const at = y * columns + left + x + 7;
          sums[x % 8] += Math.min(Math.max(step(at) - (step(at - 1) + step(at + 1)) / 2, 0), LARGEST_STEP);
        }
      }
      cells.push(sums.map((sum) => sum / ((CELL * CELL) / 8)));
    }
  }
}

/** @param {Float64Array[]} cells of one direction */
function blockiness(cells) {
  if (cells.length === 0) return 1;
  const sums = cells.reduce((all, cell) => all.map((sum, i) => sum + cell[i]), new Float64Array(8));
  const place = sums.indexOf(Math.max(...sums));
  return median(cells.map((cell) => {
    const others = median([...cell].filter((_, i) => i !== place));
    return (cell[place] + UNSEEN_STEP) / (others + UNSEEN_STEP);
  }));
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
  if (/^GIF8[79]a/.test(head)) return "GIF";
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
