/**
 * Where tiles lie, in LR pixels: the plan of srflow_sdk/geometry/tiles.py, so that a picture has the same tiles as Upscaler's.
 *
 * @typedef {{top: number, left: number, height: number, width: number}} Window
 * @typedef {{core: Window, window: Window}} Tile core: what the tile contributes; window: what the network sees
 */

export const CORE = 64; // the largest side of a large photo's cores
const MANY = 8; // tiles a side: from here on, all windows of a side have one size

/** The smallest multiple that is at least `size`. @param {number} size @param {number} multiple */
export function paddedSize(size, multiple) {
  return Math.ceil(size / multiple) * multiple;
}

/**
 * Tiles whose cores cover a height×width image exactly once, row by row.
 * @param {number} height a multiple of `multiple`, as is `width`
 * @param {number} width
 * @param {{core: number | null, halo: number, multiple: number}} options core: the largest side of a core; null: one
 *   tile. halo: rounded up to a multiple.
 * @returns {Tile[]}
 */
export function planTiles(height, width, { core, halo, multiple }) {
  const reach = paddedSize(halo, multiple);
  const rows = spans(height, { core, reach, multiple });
  const columns = spans(width, { core, reach, multiple });
  return rows.flatMap((row) => columns.map((column) => ({
    core: box(row.start, row.end, column.start, column.end),
    window: box(row.from, row.to, column.from, column.to),
  })));
}

/**
 * One tile for a part of an image.
 * @param {Window} core its sides and its place are multiples of `multiple`
 * @param {{height: number, width: number, halo: number, multiple: number}} image
 * @returns {Tile}
 */
export function tileAround(core, { height, width, halo, multiple }) {
  const reach = paddedSize(halo, multiple);
  const top = Math.max(core.top - reach, 0), left = Math.max(core.left - reach, 0);
  const bottom = Math.min(core.top + core.height + reach, height);
  const right = Math.min(core.left + core.width + reach, width);
  return { core, window: box(top, bottom, left, right) };
}

/**
 * @param {number} top @param {number} bottom @param {number} left @param {number} right
 * @returns {Window}
 */
function box(top, bottom, left, right) {
  return { top, left, height: bottom - top, width: right - left };
}

/**
 * Nearly equal parts of a length, none longer than the core, and what each of them sees.
 * @param {number} length
 * @param {{core: number | null, reach: number, multiple: number}} options
 */
function spans(length, { core, reach, multiple }) {
  const count = core === null ? 1 : Math.ceil(length / core);
  const edges = Array.from({ length: count + 1 }, (_, i) => Math.floor(((length / multiple) * i) / count) * multiple);
  const parts = edges.slice(1).map((end, i) => ({ start: edges[i], end }));
  const longest = Math.max(...parts.map(({ start, end }) => end - start));
  const seen = longest + 2 * reach;
  return parts.map(({ start, end }) => {
    let from = Math.max(start - reach, 0), to = Math.min(end + reach, length);
    const shorter = longest - (end - start);
    if (count >= MANY && seen <= length) {
      from = Math.max(Math.min(from, length - seen), 0);
      to = from + seen;
    } else if (to < length) {
      to = Math.min(to + shorter, length);
    } else {
      from = Math.max(from - shorter, 0);
    }
    return { start, end, from, to };
  });
}
