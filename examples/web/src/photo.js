/** What the user hands over, as pixels; or a line that says what is wrong with it. */

const MOST_PIXELS = 4_000_000; // the answer has 16 times as many, and browsers' canvases end soon after
const MOST_SIDE = 4096;

/** A photo that cannot be used. */
export class PhotoError extends Error {}

/**
 * Decode a photo. Transparent parts become white.
 * @param {Blob} file
 * @returns {Promise<ImageData>}
 */
export async function decoded(file) {
  const name = file instanceof File && file.name ? `“${file.name}”` : "This";
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new PhotoError(`${name} is not a picture that this browser can open: choose a JPEG, PNG or WebP file.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS || Math.max(width, height) > MOST_SIDE) {
    throw new PhotoError(
      `${name} has ${width}×${height} pixels, and this page takes up to 4 million and ${MOST_SIDE} a side: ` +
        "make it smaller, or use the command srflow-upscale, which takes any size.",
    );
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}
