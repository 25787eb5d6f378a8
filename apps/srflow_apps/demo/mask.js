// A mask, painted over a picture with a pointer or with the keyboard. `show` takes `photo` and `other` (image URLs of one
// size; absent: nothing to paint on) and clears the mask. `drawn()` is a promise of the mask as a PNG, white where it was
// painted; null if there is nothing to paint on.
export function mask(element) {
  const board = element.querySelector("canvas");
  const size = element.querySelector("input[type=range]");
  const erase = element.querySelector(".sf-erase");
  const beneath = element.querySelector(".sf-beneath");
  const pictures = { photo: null, other: null };
  const layer = document.createElement("canvas");
  let cursor = null; // where the keyboard paints
  let last = null;

  function show() {
    const picture = pictures[beneath.getAttribute("aria-pressed") === "true" ? "photo" : "other"];
    const ready = Boolean(picture && picture.complete && picture.naturalWidth);
    element.querySelector(".sf-painter").hidden = !ready;
    element.querySelector(".sf-empty").hidden = ready;
    if (!ready) return;
    if (layer.width !== picture.naturalWidth || layer.height !== picture.naturalHeight) {
      layer.width = board.width = picture.naturalWidth;
      layer.height = board.height = picture.naturalHeight;
      board.style.width = `min(100%, ${(70 * layer.width) / layer.height}vh)`; // small photos are enlarged
    }
    const pen = board.getContext("2d");
    pen.globalAlpha = 1;
    pen.drawImage(picture, 0, 0);
    pen.globalAlpha = 0.5;
    pen.drawImage(layer, 0, 0);
    pen.globalAlpha = 1;
    if (cursor && document.activeElement === board) {
      pen.lineWidth = 2;
      pen.strokeStyle = "white";
      pen.beginPath();
      pen.arc(cursor.x, cursor.y, radius(), 0, 7);
      pen.stroke();
    }
  }

  function radius() {
    return (Number(size.value) / 200) * Math.max(layer.width, layer.height);
  }

  function paint(from, to) {
    const pen = layer.getContext("2d");
    pen.globalCompositeOperation = erase.getAttribute("aria-pressed") === "true" ? "destination-out" : "source-over";
    pen.strokeStyle = "rgb(255, 64, 64)";
    pen.lineCap = "round";
    pen.lineWidth = 2 * radius();
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x + 0.01, to.y);
    pen.stroke();
    show();
  }

  function point(event) {
    const box = board.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * layer.width,
      y: ((event.clientY - box.top) / box.height) * layer.height,
    };
  }

  board.addEventListener("pointerdown", (event) => {
    board.setPointerCapture(event.pointerId);
    last = point(event);
    paint(last, last);
  });
  board.addEventListener("pointermove", (event) => {
    if (!last) return;
    const to = point(event);
    paint(last, to);
    last = to;
  });
  for (const end of ["pointerup", "pointercancel"]) board.addEventListener(end, () => (last = null));
  board.addEventListener("focus", () => {
    cursor = cursor || { x: layer.width / 2, y: layer.height / 2 };
    show();
  });
  board.addEventListener("blur", show);
  board.addEventListener("keydown", (event) => {
    const step = Math.max(2, radius() / 2);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === " ") paint(cursor, cursor);
    else if (moves[event.key]) {
      cursor.x = Math.min(Math.max(cursor.x + moves[event.key][0], 0), layer.width);
      cursor.y = Math.min(Math.max(cursor.y + moves[event.key][1], 0), layer.height);
      show();
    } else return;
    event.preventDefault();
  });
  for (const button of [erase, beneath]) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      show();
    });
  }
  element.querySelector(".sf-clear").addEventListener("click", () => {
    layer.getContext("2d").clearRect(0, 0, layer.width, layer.height);
    show();
  });

  function drawn() {
    if (!pictures.other) return null;
    const sheet = document.createElement("canvas");
    sheet.width = layer.width;
    sheet.height = layer.height;
    const pen = sheet.getContext("2d");
    pen.drawImage(layer, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "white";
    pen.fillRect(0, 0, sheet.width, sheet.height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "black";
    pen.fillRect(0, 0, sheet.width, sheet.height);
    return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  }

  return {
    drawn,
    show(value) {
      for (const name of Object.keys(pictures)) {
        pictures[name] = null;
        if (!value[name]) continue;
        const image = new Image();
        pictures[name] = image;
        image.onload = show;
        image.src = value[name];
      }
      layer.width = layer.width; // clears it
      cursor = null;
      show();
    },
  };
}
