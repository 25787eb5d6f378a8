/**
 * The map of τ = auto, scheme 2: how much texture surrounds each pixel. srflow_sdk/drawing/temperature.py explains it.
 */

const REACH = 3;
const SIDE = 2 * REACH + 1;
const LUMA = [0.299, 0.587, 0.114];

/**
 * The texture of a window, h×w in [0, 1].
 * @param {Float32Array} lr the picture, 3×height×width in [0, 1]
 * @param {number} height @param {number} width
 * @param {import("./tiles.js").Window} window
 */
export function texture(lr, height, width, window) {
  const rows = window.height + 2 * REACH, columns = window.width + 2 * REACH, area = height * width;
  const levels = new Float64Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    const from = clamp(window.top + y - REACH, 0, height - 1) * width;
    for (let x = 0; x < columns; x++) {
      const at = from + clamp(window.left + x - REACH, 0, width - 1);
      const luma = LUMA[0] * lr[at] + LUMA[1] * lr[area + at] + LUMA[2] * lr[2 * area + at];
      levels[y * columns + x] = clamp(halfToEven(255 * luma), 0, 255);
    }
  }
  const [mean, square] = [1, 2].map((power) => windowMeans(levels, rows, columns, power));
  return Float32Array.from(mean, (m, i) => Math.min(Math.sqrt(Math.max(square[i] - m ** 2, 0)) / 2, 1));
}

/**
 * A map on a level's grid, which has scale / 2^level points for every LR pixel: repeated or averaged.
 * @param {Float32Array} map h×w @param {{height: number, width: number}} size
 * @param {number} level @param {number} scale
 */
export function onLevel(map, { height, width }, level, scale) {
  const finer = Math.max(scale / 2 ** level, 1), coarser = Math.max(2 ** level / scale, 1);
  const rows = (height * finer) / coarser, columns = (width * finer) / coarser;
  const result = new Float32Array(rows * columns);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      let sum = 0;
      for (let i = 0; i < coarser; i++) {
        for (let j = 0; j < coarser; j++) {
          sum += map[Math.floor((y * coarser + i) / finer) * width + Math.floor((x * coarser + j) / finer)];
        }
      }
      result[y * columns + x] = sum / coarser ** 2;
    }
  }
  return result;
}

/**
 * Means of a power over all 7×7 windows. The sums are whole numbers below 2^53, so they are exact.
 * @param {Float64Array} values @param {number} rows @param {number} columns @param {number} power
 */
function windowMeans(values, rows, columns, power) {
  const across = columns + 1;
  const sums = new Float64Array((rows + 1) * across);
  for (let y = 0; y < rows; y++) {
    let row = 0;
    for (let x = 0; x < columns; x++) {
      row += values[y * columns + x] ** power;
      sums[(y + 1) * across + x + 1] = sums[y * across + x + 1] + row;
    }
  }
  const height = rows - SIDE + 1, width = columns - SIDE + 1;
  const means = new Float64Array(height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const top = y * across + x, bottom = top + SIDE * across;
      means[y * width + x] = (sums[bottom + SIDE] - sums[bottom] - sums[top + SIDE] + sums[top]) / SIDE ** 2;
    }
  }
  return means;
}

/** @param {number} value @param {number} low @param {number} high */
function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** The nearest whole number, of two equally near ones the even one, as numpy rounds. @param {number} value */
export function halfToEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
