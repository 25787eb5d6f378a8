// A mask, painted over a picture with a pointer or with the keyboard. `show` takes `photo` and `other` (image URLs of one
// size; absent: nothing to paint on) and clears the mask. `drawn()` is a promise of the mask as a PNG, white where it was
// painted; null if there is nothing to paint on.
export function mask(element) {
  const [board, size, erase, beneath, clear, painter, empty] =
    ["canvas", "input", ".sf-erase", ".sf-beneath", ".sf-clear", ".sf-painter", ".sf-empty"].map((one) =>
      element.querySelector(one));
  const pictures = { photo: null, other: null };
  const layer = document.createElement("canvas");
  let cursor = null; // where the keyboard paints
  let last = null; // where the pointer was

  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const radius = () => (Number(size.value) / 200) * Math.max(layer.width, layer.height);

  function show() {
    const picture = pictures[pressed(beneath) ? "photo" : "other"];
    const ready = Boolean(picture?.complete && picture.naturalWidth);
    painter.hidden = !ready;
    empty.hidden = ready;
    if (!ready) return;
    if (layer.width !== picture.naturalWidth || layer.height !== picture.naturalHeight) {
      layer.width = board.width = picture.naturalWidth;
      layer.height = board.height = picture.naturalHeight;
      board.style.width = `min(100%, ${(70 * layer.width) / layer.height}vh)`; // small photos are enlarged
    }
    const pen = board.getContext("2d");
    pen.clearRect(0, 0, board.width, board.height);
    pen.drawImage(picture, 0, 0);
    pen.globalAlpha = 0.5;
    pen.drawImage(layer, 0, 0);
    pen.globalAlpha = 1;
    if (!cursor || document.activeElement !== board) return;
    pen.lineWidth = 2;
    pen.strokeStyle = "white";
    pen.beginPath();
    pen.arc(cursor.x, cursor.y, radius(), 0, 7);
    pen.stroke();
  }

  function paint(from, to) {
    const pen = layer.getContext("2d");
    pen.globalCompositeOperation = pressed(erase) ? "destination-out" : "source-over";
    pen.strokeStyle = "rgb(255, 64, 64)";
    pen.lineCap = "round";
    pen.lineWidth = 2 * radius();
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x + 0.01, to.y);
    pen.stroke();
    show();
  }

  function follow(event) {
    const box = board.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * layer.width;
    const to = { x, y: ((event.clientY - box.top) / box.height) * layer.height };
    paint(last ?? to, to);
    last = to;
  }

  board.addEventListener("pointerdown", (event) => (board.setPointerCapture(event.pointerId), follow(event)));
  board.addEventListener("pointermove", (event) => last && follow(event));
  for (const end of ["pointerup", "pointercancel"]) board.addEventListener(end, () => (last = null));
  board.addEventListener("focus", () => ((cursor ??= { x: layer.width / 2, y: layer.height / 2 }), show()));
  board.addEventListener("blur", show);
  board.addEventListener("keydown", (event) => {
    const step = Math.max(2, radius() / 2);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key !== " " && !moves[event.key]) return;
    event.preventDefault();
    if (event.key === " ") return paint(cursor, cursor);
    cursor.x = Math.min(Math.max(cursor.x + moves[event.key][0], 0), layer.width);
    cursor.y = Math.min(Math.max(cursor.y + moves[event.key][1], 0), layer.height);
    show();
  });
  for (const button of [erase, beneath]) {
    button.addEventListener("click", () => (button.setAttribute("aria-pressed", String(!pressed(button))), show()));
  }
  const wipe = () => ((layer.width = layer.width), show());
  clear.addEventListener("click", wipe);

  function drawn() {
    if (!pictures.other) return null;
    const sheet = Object.assign(document.createElement("canvas"), { width: layer.width, height: layer.height });
    const pen = sheet.getContext("2d");
    pen.drawImage(layer, 0, 0);
    for (const [where, colour] of [["source-in", "white"], ["destination-over", "black"]]) {
      pen.globalCompositeOperation = where;
      pen.fillStyle = colour;
      pen.fillRect(0, 0, sheet.width, sheet.height);
    }
    return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  }

  return {
    drawn,
    show(value) {
      for (const name of Object.keys(pictures)) {
        pictures[name] = value[name] ? Object.assign(new Image(), { onload: show, src: value[name] }) : null;
      }
      cursor = null;
      wipe();
    },
  };
}
