/** The small picture of a large photo, on which the part that is shown is chosen. */

const MOST_WIDTH = 320;
const MOST_HEIGHT = 240;

export class Overview {
  /**
   * @param {HTMLCanvasElement} canvas @param {() => void} changed called when another part was chosen
   */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    /** @type {import("./tiles.js").Window} in LR pixels */
    this.part = { top: 0, left: 0, height: 0, width: 0 };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.#point(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) this.#point(event);
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * Show another photo, with its middle as the part.
   * @param {HTMLCanvasElement} photo @param {number} side of the part @param {number} multiple of its place and sides
   */
  show(photo, side, multiple) {
    this.photo = photo;
    this.multiple = multiple;
    this.shrink = Math.min(1, MOST_WIDTH / photo.width, MOST_HEIGHT / photo.height);
    this.canvas.width = Math.max(1, Math.round(photo.width * this.shrink));
    this.canvas.height = Math.max(1, Math.round(photo.height * this.shrink));
    const even = (/** @type {number} */ length) => Math.ceil(length / multiple) * multiple;
    this.part = { top: 0, left: 0, height: Math.min(side, even(photo.height)), width: Math.min(side, even(photo.width)) };
    this.#move((photo.height - this.part.height) / 2, (photo.width - this.part.width) / 2);
  }

  /** @param {PointerEvent} event */
  #point(event) {
    const box = this.canvas.getBoundingClientRect(), { width, height } = /** @type {HTMLCanvasElement} */ (this.photo);
    const y = ((event.clientY - box.top) / box.height) * height, x = ((event.clientX - box.left) / box.width) * width;
    if (this.#move(y - this.part.height / 2, x - this.part.width / 2)) this.changed();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const { top, left, height, width } = this.part;
    if (this.#move(top + (step[0] * height) / 4, left + (step[1] * width) / 4)) this.changed();
  }

  /** Whether the part moved. @param {number} top @param {number} left */
  #move(top, left) {
    const { part, multiple = 1 } = this, photo = /** @type {HTMLCanvasElement} */ (this.photo);
    const place = (/** @type {number} */ start, /** @type {number} */ length, /** @type {number} */ of) => {
      const last = Math.ceil(of / multiple) * multiple - length;
      return Math.min(Math.max(Math.round(start / multiple) * multiple, 0), last);
    };
    const moved = { ...part, top: place(top, part.height, photo.height), left: place(left, part.width, photo.width) };
    const changed = moved.top !== part.top || moved.left !== part.left;
    this.part = moved;
    this.#paint();
    return changed;
  }

  #paint() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const { shrink = 1, part } = this;
    context.drawImage(/** @type {HTMLCanvasElement} */ (this.photo), 0, 0, this.canvas.width, this.canvas.height);
    const frame = [part.left, part.top, part.width, part.height].map((value) => value * shrink);
    for (const [colour, width] of /** @type {[string, number][]} */ ([["#000", 4], ["#fff", 2]])) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.strokeRect(frame[0], frame[1], frame[2], frame[3]);
    }
  }
}
