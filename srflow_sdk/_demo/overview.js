// The whole photo, small, with a frame around the crop that is shown. The value is JSON with `image`, `width`, `height`
// (of the photo, in pixels), `left`, `top`, `across`, `down` (of the crop). Moving the frame triggers `select`.
const board = element.querySelector(".sf-overview");
const frame = element.querySelector(".sf-frame");
const words = element.querySelector(".sf-where");
let place = null;

function show() {
  element.querySelector(".sf-chooser").hidden = !place;
  if (!place) return;
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  frame.style.left = percent(place.left, place.width);
  frame.style.top = percent(place.top, place.height);
  frame.style.width = percent(place.across, place.width);
  frame.style.height = percent(place.down, place.height);
  const all = place.across >= place.width && place.down >= place.height;
  frame.hidden = all;
  board.tabIndex = all ? -1 : 0;
  words.textContent = all
    ? "The whole photo is shown."
    : `Shown: ${place.across} × ${place.down} of ${place.width} × ${place.height} pixels, from ${place.left}, ${place.top}. ` +
      "Drag the frame, or move it with the arrow keys.";
}

function move(left, top) {
  left = Math.round(Math.min(Math.max(left, 0), place.width - place.across));
  top = Math.round(Math.min(Math.max(top, 0), place.height - place.down));
  if (left === place.left && top === place.top) return;
  Object.assign(place, { left, top });
  show();
  trigger("select", { left, top });
}

function follow(event) {
  if (!place || !(event.buttons & 1)) return;
  const box = board.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * place.width;
  const y = ((event.clientY - box.top) / box.height) * place.height;
  move(x - place.across / 2, y - place.down / 2);
}

board.addEventListener("pointerdown", (event) => {
  board.setPointerCapture(event.pointerId);
  follow(event);
});
board.addEventListener("pointermove", follow);
board.addEventListener("keydown", (event) => {
  const across = Math.max(2, place.across >> 2);
  const down = Math.max(2, place.down >> 2);
  const moves = { ArrowLeft: [-across, 0], ArrowRight: [across, 0], ArrowUp: [0, -down], ArrowDown: [0, down] };
  if (!moves[event.key]) return;
  event.preventDefault();
  move(place.left + moves[event.key][0], place.top + moves[event.key][1]);
});

function take() {
  place = props.value ? { ...place, ...JSON.parse(props.value) } : null;
  if (place) element.querySelector("img").src = place.image;
  show();
}
watch("value", take);
take();
