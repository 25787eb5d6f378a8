// Two or three panes that show the same place of a picture: before and after under one divider, side by side, or beside
// the deviation. `show` takes any of `before`, `after`, `spread` (image URLs, null clears one), `names`, `note`, and `scale`
// (words about the deviation's colours), and `width` of the whole picture where `after` is reduced; null clears everything.
// Crops open at 100 %, a pixel of the picture for a pixel of the screen; elements with data-whole as large as fits.
const SHOWN = { compare: ["before", "after"], side: ["before", "after"], spread: ["after", "spread"] };

export function viewer(element) {
  element.append(document.querySelector("#viewer").content.cloneNode(true));
  element.querySelector(".sf-empty").textContent = element.dataset.empty;
  if (!("spread" in element.dataset)) element.querySelector("[data-mode=spread]").remove();
  const panes = [...element.querySelectorAll(".sf-pane")];
  const slider = element.querySelector("input[type=range]");
  const note = element.querySelector(".sf-note");
  const modes = [...element.querySelectorAll("[data-mode]")];
  const images = { before: null, after: null, spread: null };
  const words = { note: "", scale: "" };
  const names = { before: "bicubic", after: "sample", spread: "deviation" };
  let mode = "compare";
  let scale = "whole" in element.dataset ? "whole" : 1; // pixels of the screen for one of the picture; or "whole", "fit"
  let middle = { x: 0.5, y: 0.5 }; // of the view, as a fraction of the picture
  let drawn = { width: 1, height: 1 }; // the picture, in pixels
  let whole; // its width, if what is shown is reduced
  let part = { x: 1, y: 1 }; // of the picture's sides, that the view shows

  function layers(pane) {
    return [...pane.querySelectorAll(".sf-layer")];
  }

  function room() {
    return { width: panes[0].clientWidth, height: 0.8 * innerHeight };
  }

  function zoom() {
    if (typeof scale === "number") return scale;
    const fits = Math.min(room().width / drawn.width, room().height / drawn.height) * devicePixelRatio;
    return scale === "whole" ? Math.min(fits, 1) : fits;
  }

  function place() {
    if (!room().width) return; // its tab is not shown
    const now = zoom();
    const full = { width: (drawn.width * now) / devicePixelRatio, height: (drawn.height * now) / devicePixelRatio };
    const box = { width: Math.min(full.width, room().width), height: Math.min(full.height, room().height) };
    part = { x: box.width / full.width, y: box.height / full.height };
    middle.x = Math.min(Math.max(middle.x, part.x / 2), 1 - part.x / 2);
    middle.y = Math.min(Math.max(middle.y, part.y / 2), 1 - part.y / 2);
    const snapped = (length) => `${Math.round(length * devicePixelRatio) / devicePixelRatio}px`; // pixels of the screen
    for (const pane of panes) {
      const view = pane.querySelector(".sf-view");
      view.style.touchAction = pans() ? "none" : "pan-y";
      Object.assign(view.style, { width: `${box.width}px`, height: `${box.height}px` });
      for (const image of pane.querySelectorAll("img")) {
        const left = snapped((part.x / 2 - middle.x) * full.width);
        const top = snapped((part.y / 2 - middle.y) * full.height);
        Object.assign(image.style, { width: `${full.width}px`, height: `${full.height}px`, left, top });
        image.style.imageRendering = now >= 3 ? "pixelated" : "auto";
      }
    }
    element.querySelector(".sf-zoom").textContent = `${Math.round(now * 100)} %`;
  }

  function pans() {
    return part.x < 1 || part.y < 1;
  }

  function divide() {
    const at = Number(slider.value);
    const [under, over] = layers(panes[0]);
    over.style.clipPath = mode === "compare" ? `inset(0 0 0 ${at}%)` : "";
    panes[0].querySelector(".sf-divider").style.left = `${at}%`;
    slider.setAttribute("aria-valuetext", `${at} % ${names.before}, ${100 - at} % ${names.after}`);
  }

  function fill(layer, name) {
    const image = layer.querySelector("img");
    layer.hidden = !images[name];
    if (images[name] && image.getAttribute("src") !== images[name]) image.src = images[name];
    image.alt = names[name];
  }

  function show() {
    const empty = !images.before && !images.after;
    element.querySelector(".sf-empty").hidden = !empty;
    for (const part of [".sf-bar", ".sf-panes"]) element.querySelector(part).hidden = empty;
    const [first, second] = SHOWN[mode];
    const together = mode === "compare";
    panes[1].hidden = together;
    fill(layers(panes[0])[0], first);
    layers(panes[0])[1].hidden = true;
    if (together) fill(layers(panes[0])[1], second);
    else fill(layers(panes[1])[0], second);
    panes[0].querySelector(".sf-divider").hidden = !together;
    element.querySelector(".sf-slide").hidden = !together || empty;
    const waiting = mode === "spread" && !images.spread && !empty;
    element.querySelector(".sf-wait").hidden = !waiting;
    const caption = (pane, text) => (pane.querySelector("figcaption").textContent = text);
    caption(panes[0], together ? `${names.before} | ${names.after}` : names[first]);
    caption(panes[1], names[second]);
    for (const pane of panes) {
      const what = pane.querySelector("figcaption").textContent;
      pane.querySelector(".sf-view").setAttribute("aria-label", `${what}; plus, minus and arrow keys zoom and move`);
    }
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    note.textContent = mode === "spread" && images.spread ? words.scale : words.note;
    divide();
    place();
  }

  function zoomTo(value, at = { x: 0.5, y: 0.5 }) {
    const old = part;
    scale = "fit";
    const least = Math.min(zoom(), 1);
    scale = typeof value === "number" ? Math.min(Math.max(value, least), 16) : value;
    place();
    // What is under the pointer stays there.
    middle.x += (at.x - 0.5) * (old.x - part.x);
    middle.y += (at.y - 0.5) * (old.y - part.y);
    place();
  }

  function within(view, event) {
    const box = view.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  }

  for (const pane of panes) {
    const view = pane.querySelector(".sf-view");
    const fingers = new Map();
    let dividing = false;
    view.addEventListener("pointerdown", (event) => {
      const at = within(view, event);
      const near = Math.abs(at.x * 100 - Number(slider.value)) * view.clientWidth < 100 * 16;
      dividing = mode === "compare" && (!pans() || near) && fingers.size === 0;
      fingers.set(event.pointerId, at);
      view.setPointerCapture(event.pointerId);
      if (dividing) slideTo(at.x);
    });
    view.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const at = within(view, event);
      const others = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      fingers.set(event.pointerId, at);
      if (others.length === 1) {
        const reach = (point) => Math.hypot(point.x - others[0].x, point.y - others[0].y);
        const between = { x: (at.x + others[0].x) / 2, y: (at.y + others[0].y) / 2 };
        zoomTo((zoom() * reach(at)) / Math.max(reach(before), 0.01), between);
      } else if (dividing) {
        slideTo(at.x);
      } else {
        middle.x -= (at.x - before.x) * part.x;
        middle.y -= (at.y - before.y) * part.y;
        place();
      }
    });
    for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => fingers.delete(event.pointerId));
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== view) return; // the page scrolls
      event.preventDefault();
      zoomTo(zoom() * Math.exp(-event.deltaY / 300), within(view, event));
    }, { passive: false });
    view.addEventListener("dblclick", (event) => zoomTo(zoom() * 2, within(view, event)));
    view.addEventListener("keydown", (event) => {
      const [x, y] = [part.x / 10, part.y / 10];
      const moves = { ArrowLeft: [-x, 0], ArrowRight: [x, 0], ArrowUp: [0, -y], ArrowDown: [0, y] };
      if (event.key === "+" || event.key === "=") zoomTo(zoom() * 1.5);
      else if (event.key === "-") zoomTo(zoom() / 1.5);
      else if (event.key === "0") zoomTo(1);
      else if (moves[event.key]) {
        middle.x += moves[event.key][0];
        middle.y += moves[event.key][1];
        place();
      } else return;
      event.preventDefault();
    });
    for (const image of pane.querySelectorAll("img")) {
      image.addEventListener("load", () => {
        if (image.src !== images.after) return; // what is beside it may be smaller
        const width = whole ?? image.naturalWidth;
        drawn = { width, height: (image.naturalHeight * width) / image.naturalWidth };
        place();
      });
    }
  }

  function slideTo(fraction) {
    slider.value = String(Math.round(Math.min(Math.max(fraction, 0), 1) * 100));
    divide();
  }

  slider.addEventListener("input", divide);
  for (const button of modes) {
    button.addEventListener("click", () => {
      mode = button.dataset.mode;
      show();
    });
  }
  element.querySelector(".sf-in").addEventListener("click", () => zoomTo(zoom() * 1.5));
  element.querySelector(".sf-out").addEventListener("click", () => zoomTo(zoom() / 1.5));
  element.querySelector(".sf-true").addEventListener("click", () => zoomTo(1));
  element.querySelector(".sf-fit").addEventListener("click", () => zoomTo("fit"));
  new ResizeObserver(place).observe(element);

  function take(value) {
    value ??= { before: null, after: null, spread: null, note: "" };
    for (const name of Object.keys(images)) if (name in value) images[name] = value[name];
    if (value.after) whole = value.width;
    Object.assign(names, value.names || {});
    for (const name of Object.keys(words)) if (name in value) words[name] = value[name];
    show();
  }

  show();
  return { show: take };
}
