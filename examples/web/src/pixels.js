/** Pixels on their way into the network and out of it. */

import { paddedSize } from "./tiles.js";

/**
 * A photo as the network takes it: float32 3×h×w in [0, 1], with the last row and column repeated up to a multiple.
 * @param {Uint8ClampedArray} rgba h×w×4 @param {number} height @param {number} width @param {number} multiple
 */
export function planes(rgba, height, width, multiple) {
  const rows = paddedSize(height, multiple), columns = paddedSize(width, multiple), area = rows * columns;
  const lr = new Float32Array(3 * area);
  for (let y = 0; y < rows; y++) {
    const from = Math.min(y, height - 1) * width;
    for (let x = 0; x < columns; x++) {
      const at = 4 * (from + Math.min(x, width - 1));
      for (let channel = 0; channel < 3; channel++) lr[channel * area + y * columns + x] = rgba[at + channel] / 255;
    }
  }
  return { lr, rows, columns };
}

/**
 * A window of planes: 3×h×w.
 * @param {Float32Array} planes 3×rows×columns @param {number} rows @param {number} columns
 * @param {import("./tiles.js").Window} window
 */
export function cut(planes, rows, columns, window) {
  const part = new Float32Array(3 * window.height * window.width);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < window.height; y++) {
      const from = (channel * rows + window.top + y) * columns + window.left;
      part.set(planes.subarray(from, from + window.width), (channel * window.height + y) * window.width);
    }
  }
  return part;
}

/** Whether a photo has no colours. @param {Uint8ClampedArray} rgba */
export function isGray(rgba) {
  for (let at = 0; at < rgba.length; at += 4) {
    if (rgba[at] !== rgba[at + 1] || rgba[at] !== rgba[at + 2]) return false;
  }
  return true;
}

const CHROMA_REACH = 3, CHROMA_SLACK = 0.5, GRAY = 0.5 / 255;

/** @param {number} red @param {number} green @param {number} blue */
const luma = (red, green, blue) => 0.299 * red + 0.587 * green + 0.114 * blue;

/**
 * How far blue less luma and red less luma may be, least and most each, where an LR pixel is: ChromaBounds of the SDK.
 * @param {{lr: Float32Array, rows: number, columns: number}} photo @param {number} y @param {number} x
 */
function chromaBounds({ lr, rows, columns }, y, x) {
  const area = rows * columns, bounds = [Infinity, -Infinity, Infinity, -Infinity];
  for (let down = -CHROMA_REACH; down <= CHROMA_REACH; down++) {
    const row = Math.min(Math.max(y + down, 0), rows - 1) * columns;
    for (let right = -CHROMA_REACH; right <= CHROMA_REACH; right++) {
      const at = row + Math.min(Math.max(x + right, 0), columns - 1);
      const level = luma(lr[at], lr[at + area], lr[at + 2 * area]), blue = lr[at + 2 * area] - level, red = lr[at] - level;
      bounds[0] = Math.min(bounds[0], blue);
      bounds[1] = Math.max(bounds[1], blue);
      bounds[2] = Math.min(bounds[2], red);
      bounds[3] = Math.max(bounds[3], red);
    }
  }
  const most = Math.max(...bounds.map(Math.abs));
  return bounds.map((bound, at) => (most < GRAY ? 0 : bound + (at % 2 ? 1 : -1) * CHROMA_SLACK * most));
}

/**
 * A window's picture without specks: the luma of no pixel is beyond the second least or the second most of its eight
 * neighbours. srflow_sdk/pixels/conservative_smoothing.py explains it.
 * @param {Float32Array} sr 3×rows×columns @param {number} rows @param {number} columns
 */
export function smooth(sr, rows, columns) {
  const area = rows * columns, result = sr.slice();
  const levels = Float32Array.from({ length: area }, (_, at) => luma(sr[at], sr[at + area], sr[at + 2 * area]));
  const around = new Float32Array(8);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      let count = 0;
      for (let down = -1; down <= 1; down++) {
        const row = Math.min(Math.max(y + down, 0), rows - 1) * columns;
        for (let right = -1; right <= 1; right++) {
          if (down === 0 && right === 0) continue;
          around[count++] = levels[row + Math.min(Math.max(x + right, 0), columns - 1)];
        }
      }
      around.sort();
      const at = y * columns + x, level = levels[at];
      const change = Math.min(Math.max(level, around[1]), around[6]) - level;
      for (let channel = 0; channel < 3 && change !== 0; channel++) result[at + channel * area] += change;
    }
  }
  return result;
}

/**
 * The visible part of a tile as 8-bit RGBA, rounded as the SDK rounds: half to even. As there, a gray photo's picture is the
 * luma of the network's colours, and no colour is far from those around it.
 * @param {Float32Array} sr the window's picture, 3×(scale·h)×(scale·w)
 * @param {import("./tiles.js").Tile} tile @param {number} scale
 * @param {{height: number, width: number, gray: boolean, lr: Float32Array, rows: number, columns: number}} photo what lies
 *   beyond it was added to fill up the last tiles
 */
export function visible(sr, { core, window }, scale, photo) {
  const rows = scale * window.height, columns = scale * window.width;
  const top = scale * (core.top - window.top), left = scale * (core.left - window.left);
  const height = scale * Math.min(core.height, photo.height - core.top);
  const width = scale * Math.min(core.width, photo.width - core.left);
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  const area = rows * columns;
  /** @type {number[][]} of a row of LR pixels */
  let bounds = [];
  for (let y = 0; y < height; y++) {
    if (y % scale === 0) {
      const places = Array.from({ length: photo.gray ? 0 : width / scale }, (_, x) => core.left + x);
      bounds = places.map((x) => chromaBounds(photo, core.top + y / scale, x));
    }
    for (let x = 0; x < width; x++) {
      const from = (top + y) * columns + left + x, to = 4 * (y * width + x);
      let red = sr[from], green = sr[from + area], blue = sr[from + 2 * area];
      const level = luma(red, green, blue);
      if (photo.gray) red = green = blue = level;
      else {
        const [leastBlue, mostBlue, leastRed, mostRed] = bounds[Math.floor(x / scale)];
        const more = Math.min(Math.max(blue - level, leastBlue), mostBlue);
        const other = Math.min(Math.max(red - level, leastRed), mostRed);
        if (more !== blue - level || other !== red - level) {
          [red, blue, green] = [level + other, level + more, level - (0.299 * other + 0.114 * more) / 0.587];
        }
      }
      rgba[to] = 255 * red;
      rgba[to + 1] = 255 * green;
      rgba[to + 2] = 255 * blue;
    }
  }
  return { rgba, height, width, top: scale * core.top, left: scale * core.left };
}

/** Whether all values are finite. @param {Float32Array} values */
export function isFinite(values) {
  return values.every(Number.isFinite);
}
