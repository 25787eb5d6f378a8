// @ts-nocheck  (examples/web has it, too)
// The whole photo, small, with a frame around the crop that is shown. `show` takes the photo's `image` (a URL), `width`
// and `height` in pixels, or null; `move` takes the crop: `left`, `top`, `across`, `down`; `around` gives the place of a
// crop `times` as large with the same middle. moved({left, top}) is called when the visitor moves the frame.
export function overview(element, moved) {
  element.innerHTML = `
    <div class="sf-overview" tabindex="0" role="group" aria-label="Part of the photo that is shown; arrow keys move it">
      <img alt="the whole photo" draggable="false"><div class="sf-frame"></div>
    </div>
    <p class="sf-where" role="status"></p>`;
  const [board, image, frame, words] = [".sf-overview", "img", ".sf-frame", ".sf-where"].map((one) =>
    element.querySelector(one));
  let place = null; // of the crop in the photo; null: nothing is shown

  function show() {
    element.hidden = !place;
    if (!place) return;
    const { left, top, across, down, width, height } = place;
    const [x, y] = [width, height].map((whole) => (part) => `${(100 * part) / whole}%`);
    Object.assign(frame.style, { left: x(left), top: y(top), width: x(across), height: y(down) });
    const all = (frame.hidden = across >= width && down >= height);
    board.tabIndex = all ? -1 : 0;
    words.textContent = all
      ? "The whole photo is shown."
      : `Shown: ${across} × ${down} of ${width} × ${height} pixels, from ${left}, ${top}. ` +
        "Drag the frame, or move it with the arrow keys.";
  }

  function move(left, top) {
    left = Math.round(Math.min(Math.max(left, 0), place.width - place.across));
    top = Math.round(Math.min(Math.max(top, 0), place.height - place.down));
    if (left === place.left && top === place.top) return;
    Object.assign(place, { left, top });
    show();
    moved({ left, top });
  }

  function follow(event) {
    if (!place || !(event.buttons & 1)) return;
    const box = board.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * place.width;
    const y = ((event.clientY - box.top) / box.height) * place.height;
    move(x - place.across / 2, y - place.down / 2);
  }

  board.addEventListener("pointerdown", (event) => (board.setPointerCapture(event.pointerId), follow(event)));
  board.addEventListener("pointermove", follow);
  board.addEventListener("keydown", (event) => {
    const [across, down] = [Math.max(2, place.across >> 2), Math.max(2, place.down >> 2)];
    const moves = { ArrowLeft: [-across, 0], ArrowRight: [across, 0], ArrowUp: [0, -down], ArrowDown: [0, down] };
    if (!moves[event.key]) return;
    event.preventDefault();
    move(place.left + moves[event.key][0], place.top + moves[event.key][1]);
  });

  return {
    show(photo) {
      place = photo && { left: 0, top: 0, across: photo.width, down: photo.height, ...photo };
      if (photo) image.src = photo.image;
      show();
    },
    around(times) {
      const start = (from, length) => Math.round(from + (length * (1 - times)) / 2);
      return place && { left: start(place.left, place.across), top: start(place.top, place.down) };
    },
    move: (crop) => (Object.assign(place, crop), show()),
  };
}
