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

/**
 * The visible part of a tile as 8-bit RGBA, rounded as the SDK rounds: half to even. A gray photo's picture is the luma of
 * the network's colours, as the SDK's is.
 * @param {Float32Array} sr the window's picture, 3×(scale·h)×(scale·w)
 * @param {import("./tiles.js").Tile} tile @param {number} scale
 * @param {{height: number, width: number, gray: boolean}} photo what lies beyond it was added to fill up the last tiles
 */
export function visible(sr, { core, window }, scale, photo) {
  const rows = scale * window.height, columns = scale * window.width;
  const top = scale * (core.top - window.top), left = scale * (core.left - window.left);
  const height = scale * Math.min(core.height, photo.height - core.top);
  const width = scale * Math.min(core.width, photo.width - core.left);
  const rgba = new Uint8ClampedArray(4 * height * width).fill(255);
  const area = rows * columns;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (top + y) * columns + left + x;
      const red = sr[from], green = sr[from + area], blue = sr[from + 2 * area], to = 4 * (y * width + x);
      const luma = 0.299 * red + 0.587 * green + 0.114 * blue;
      rgba[to] = 255 * (photo.gray ? luma : red);
      rgba[to + 1] = 255 * (photo.gray ? luma : green);
      rgba[to + 2] = 255 * (photo.gray ? luma : blue);
    }
  }
  return { rgba, height, width, top: scale * core.top, left: scale * core.left };
}

/** Whether all values are finite. @param {Float32Array} values */
export function isFinite(values) {
  return values.every(Number.isFinite);
}
