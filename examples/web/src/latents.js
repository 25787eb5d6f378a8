/**
 * Latents of scheme 1, bit for bit: srflow_sdk/latents/random_field.py is the definition, and this is the same in JavaScript.
 *
 * JavaScript has no 64-bit integers that are fast, so Philox's words are pairs of 32-bit halves. Its numbers are IEEE
 * doubles and every operation is rounded separately, which is what the scheme asks for.
 */

const CHANNELS_PER_BLOCK = 8;
const COORDINATE_LIMIT = 2 ** 32;

const MULTIPLIER_0 = [0xd2e7470e, 0xe14c6c93]; // high half, low half
const MULTIPLIER_1 = [0xca5a8263, 0x95121157];
const WEYL_0 = [0x9e3779b9, 0x7f4a7c15];
const WEYL_1 = [0xbb67ae85, 0x84caa73b];
const ROUNDS = 10;

// AS 241's PPND16, highest power first.
const A = [
  2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
  1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.387132872796366608,
];
const B = [
  5.226495278852854561e3, 2.8729085735721942674e4, 3.930789580009271061e4, 2.1213794301586595867e4,
  5.3941960214247511077e3, 6.871870074920579083e2, 4.2313330701600911252e1, 1,
];
const C = [
  7.7454501427834140764e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
  3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734,
];
const D = [
  1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 1.4810397642748007459e-1,
  6.8976733498510000455e-1, 1.67638483018380384940, 2.05319162663775882187, 1,
];
const LOG_SERIES = [1 / 23, 1 / 21, 1 / 19, 1 / 17, 1 / 15, 1 / 13, 1 / 11, 1 / 9, 1 / 7, 1 / 5, 1 / 3, 1];
const LN2 = 0.6931471805599453;
const SQRT_HALF = 0.7071067811865476;

const double = new Float64Array(1);
const halves = new Uint32Array(double.buffer);
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0; // the half with sign and exponent

/** @param {number[]} coefficients highest power first @param {number} x */
function polynomial(coefficients, x) {
  let value = coefficients[0];
  for (let index = 1; index < coefficients.length; index++) value = value * x + coefficients[index];
  return value;
}

/** The natural logarithm of a positive normal double, by scheme 1's series. @param {number} p */
function seriesLog(p) {
  double[0] = p;
  let exponent = (halves[HIGH] >>> 20) - 1022;
  halves[HIGH] = (halves[HIGH] & 0x000fffff) | 0x3fe00000;
  let m = double[0];
  if (m < SQRT_HALF) {
    m += m;
    exponent -= 1;
  }
  const s = (m - 1) / (m + 1);
  return exponent * LN2 + (s + s) * polynomial(LOG_SERIES, s * s);
}

/**
 * A standard normal number from a uniform 32-bit word, by scheme 1's transform.
 * @param {number} word 0 … 2^32 - 1
 */
export function normalFromWord(word) {
  const u = (word + 0.5) * 2 ** -32;
  const q = u - 0.5;
  if (Math.abs(q) <= 0.425) {
    const r = 0.180625 - q * q;
    return Math.fround(q * (polynomial(A, r) / polynomial(B, r)));
  }
  const r = Math.sqrt(-seriesLog(Math.min(u, 1 - u))) - 1.6;
  const magnitude = polynomial(C, r) / polynomial(D, r);
  return Math.fround(q < 0 ? -magnitude : magnitude);
}

/** The high 32 bits of a 32×32-bit product. @param {number} a @param {number} b */
function multiplyHigh(a, b) {
  const aHigh = a >>> 16, aLow = a & 0xffff, bHigh = b >>> 16, bLow = b & 0xffff;
  const middle = aHigh * bLow + (Math.imul(aLow, bLow) >>> 16);
  const other = aLow * bHigh + (middle % 65536);
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(other / 65536)) >>> 0;
}

const product = new Uint32Array(4); // of two 64-bit numbers, lowest 32 bits first

/** Writes a·(high, low) to `product`. @param {number[]} a @param {number} high @param {number} low */
function multiply(a, high, low) {
  const [aHigh, aLow] = a;
  const cross = Math.imul(aHigh, low) >>> 0, other = Math.imul(aLow, high) >>> 0;
  const second = multiplyHigh(aLow, low) + cross + other; // below 2^34: exact
  const third = multiplyHigh(aHigh, low) + multiplyHigh(aLow, high) + (Math.imul(aHigh, high) >>> 0)
    + Math.floor(second / COORDINATE_LIMIT);
  product[0] = Math.imul(aLow, low);
  product[1] = second;
  product[2] = third;
  product[3] = multiplyHigh(aHigh, high) + Math.floor(third / COORDINATE_LIMIT);
}

/**
 * Philox4x64-10 (Salmon et al., SC 2011), in place.
 * @param {Uint32Array} c the counter of four 64-bit words, low half first; becomes the block
 * @param {Uint32Array} key two 64-bit words, low half first
 */
export function philox(c, key) {
  let [low0, high0, low1, high1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    multiply(MULTIPLIER_0, c[1], c[0]);
    const [a0, a1, a2, a3] = product;
    multiply(MULTIPLIER_1, c[5], c[4]);
    c[0] = product[2] ^ c[2] ^ low0;
    c[1] = product[3] ^ c[3] ^ high0;
    c[2] = product[0];
    c[3] = product[1];
    c[4] = a2 ^ c[6] ^ low1;
    c[5] = a3 ^ c[7] ^ high1;
    c[6] = a0;
    c[7] = a1;
    const sum0 = low0 + WEYL_0[1], sum1 = low1 + WEYL_1[1];
    high0 = (high0 + WEYL_0[0] + (sum0 >= COORDINATE_LIMIT ? 1 : 0)) >>> 0;
    high1 = (high1 + WEYL_1[0] + (sum1 >= COORDINATE_LIMIT ? 1 : 0)) >>> 0;
    low0 = sum0 >>> 0;
    low1 = sum1 >>> 0;
  }
}

/**
 * A window of the standard normal latent field of one level: channels×height×width.
 * @param {{seed: bigint, sample?: bigint, level: number, channels: number, top: number, left: number, height: number,
 *   width: number}} window seed, sample: 0 … 2^64 - 1; the rest in the level's own latent pixels, 0 … 2^32 - 1
 */
export function standardNormal({ seed, sample = 0n, level, channels, top, left, height, width }) {
  const key = new Uint32Array([seed, seed >> 32n, sample, sample >> 32n].map((word) => Number(word & 0xffffffffn)));
  const counter = new Uint32Array(8);
  const noise = new Float32Array(channels * height * width);
  for (let first = 0; first < channels; first += CHANNELS_PER_BLOCK) {
    const count = Math.min(CHANNELS_PER_BLOCK, channels - first);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const column = left + x + 1;
        counter.fill(0);
        counter[0] = column;
        counter[1] = Math.floor(column / COORDINATE_LIMIT);
        counter[2] = top + y;
        counter[4] = first / CHANNELS_PER_BLOCK;
        counter[6] = level;
        philox(counter, key);
        for (let word = 0; word < count; word++) {
          noise[((first + word) * height + y) * width + x] = normalFromWord(counter[word]);
        }
      }
    }
  }
  return noise;
}

/**
 * The latents of a window in LR pixels, by level, as the sampler takes them for τ = 1.
 * @param {{level: number, channels: number}[]} levels the manifest's latent_levels
 * @param {{scale: number, seed: bigint, sample?: bigint, top: number, left: number, height: number,
 *   width: number}} window in LR pixels of the whole image; multiples of the model's size multiple
 * @returns {Map<number, Float32Array>}
 */
export function windowNoise(levels, { scale, seed, sample, ...place }) {
  return new Map(levels.map(({ level, channels }) => {
    const [top, left, height, width] = [place.top, place.left, place.height, place.width].map(
      (value) => (value * scale) / 2 ** level,
    );
    return [level, standardNormal({ seed, sample, level, channels, top, left, height, width })];
  }));
}
