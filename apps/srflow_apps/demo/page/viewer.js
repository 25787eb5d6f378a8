// @ts-nocheck  (examples/web shows its pictures with it, too)
// Two panes that show the same place of a picture: before and after under one divider, side by side, or beside the
// deviation. `show` takes any of `before`, `after`, `spread` (image URLs or canvases, null clears one), `names`, `note`,
// `scale` (words about the deviation's colours), and `width` of the whole picture where `after` is reduced; null clears
// everything. Crops open at 100 %, a pixel of the picture for a pixel of the screen; elements with data-whole as large as
// fits, and those with data-fit enlarged until they do. data-spread: there is a deviation. data-empty: words until then.
const SHOWN = { compare: ["before", "after"], side: ["before", "after"], spread: ["after", "spread"] };
const PANE = `<figure class="sf-pane"><figcaption></figcaption><div class="sf-view" tabindex="0" role="group">
  <div class="sf-layer"></div><div class="sf-layer"></div><div class="sf-divider" aria-hidden="true"></div></div></figure>`;
const MARKUP = `
  <div class="sf-bar" role="toolbar" aria-label="How the picture is shown">
    <button type="button" data-mode="compare">Compare</button>
    <button type="button" data-mode="side">Side by side</button>
    <button type="button" data-mode="spread">Uncertainty</button>
    <span class="sf-space"></span>
    <span class="sf-zooming">
      <button type="button" class="sf-out" aria-label="Zoom out">−</button>
      <button type="button" class="sf-zoom" title="Show a pixel of the picture for a pixel of the screen"></button>
      <button type="button" class="sf-in" aria-label="Zoom in">+</button>
      <button type="button" class="sf-fit">Fit</button>
    </span>
  </div>
  <p class="sf-empty"></p>
  <div class="sf-panes">${PANE}${PANE}</div>
  <label class="sf-slide">Divider <input type="range" min="0" max="100" value="50"></label>
  <p class="sf-note" role="status"></p>`;

const within = (value, least, most) => Math.min(Math.max(value, least), most);

export function viewer(element) {
  element.innerHTML = MARKUP;
  const find = (selector) => element.querySelector(selector);
  const [empty, slider, zoomed, bar, board, slide, note] =
    [".sf-empty", "input", ".sf-zoom", ".sf-bar", ".sf-panes", ".sf-slide", ".sf-note"].map(find);
  empty.textContent = element.dataset.empty ?? "";
  if (!("spread" in element.dataset)) find("[data-mode=spread]").remove();
  const panes = [...element.querySelectorAll(".sf-pane")].map((pane) => ({
    pane,
    caption: pane.querySelector("figcaption"),
    view: pane.querySelector(".sf-view"),
    layers: [...pane.querySelectorAll(".sf-layer")],
    divider: pane.querySelector(".sf-divider"),
  }));
  panes[1].divider.remove();
  const modes = [...element.querySelectorAll("[data-mode]")];
  const pictures = { before: null, after: null, spread: null }; // images or canvases
  const words = { note: "", scale: "" };
  const names = { before: "bicubic", after: "sample", spread: "deviation" };
  let mode = "compare";
  // Pixels of the screen for one of the picture; or "whole", "fit".
  let scale = "whole" in element.dataset ? "whole" : "fit" in element.dataset ? "fit" : 1;
  const middle = { x: 0.5, y: 0.5 }; // of the view, as a fraction of the picture
  let drawn = { width: 1, height: 1 }; // the picture, in pixels
  let whole; // its width, if what is shown is reduced
  let part = { x: 1, y: 1 }; // of the picture's sides, that the view shows

  const room = () => ({ width: panes[0].pane.clientWidth, height: 0.7 * innerHeight });
  const pans = () => part.x < 1 || part.y < 1;

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
    for (const axis of ["x", "y"]) middle[axis] = within(middle[axis], part[axis] / 2, 1 - part[axis] / 2);
    const snapped = (length) => `${Math.round(length * devicePixelRatio) / devicePixelRatio}px`; // pixels of the screen
    const [left, top] = [snapped((part.x / 2 - middle.x) * full.width), snapped((part.y / 2 - middle.y) * full.height)];
    for (const { view } of panes) {
      const touchAction = pans() ? "none" : "pan-y";
      Object.assign(view.style, { touchAction, width: `${box.width}px`, height: `${box.height}px` });
    }
    for (const picture of Object.values(pictures).filter(Boolean)) {
      const imageRendering = now >= 3 ? "pixelated" : "auto";
      Object.assign(picture.style, { width: `${full.width}px`, height: `${full.height}px`, left, top, imageRendering });
    }
    const percent = (zoomed.textContent = `${Math.round(now * 100)} %`);
    zoomed.setAttribute("aria-label", now === 1 ? "100 %" : `${percent}: show at 100 %`);
  }

  function measure({ naturalWidth, naturalHeight, width, height }) {
    const across = whole ?? naturalWidth ?? width;
    drawn = { width: across, height: ((naturalHeight ?? height) * across) / (naturalWidth ?? width) };
    place();
  }

  function divide() {
    const at = Number(slider.value);
    panes[0].layers[1].style.clipPath = mode === "compare" ? `inset(0 0 0 ${at}%)` : "";
    panes[0].divider.style.left = `${at}%`;
    slider.setAttribute("aria-valuetext", `${at} % ${names.before}, ${100 - at} % ${names.after}`);
  }

  function fill(layer, name) {
    const picture = pictures[name];
    if (layer.firstChild !== picture) layer.replaceChildren(...(picture ? [picture] : []));
    picture?.setAttribute(picture instanceof Image ? "alt" : "aria-label", names[name]);
  }

  function show() {
    const nothing = !pictures.before && !pictures.after;
    const [first, second] = SHOWN[mode];
    const together = mode === "compare";
    empty.hidden = !nothing || !empty.textContent;
    bar.hidden = board.hidden = nothing;
    slide.hidden = !together || nothing;
    panes[1].pane.hidden = together;
    panes[0].divider.hidden = !together;
    fill(panes[0].layers[0], first);
    fill(panes[0].layers[1], together ? second : null);
    fill(panes[1].layers[0], together ? null : second);
    panes[0].caption.textContent = together ? `${names.before} | ${names.after}` : names[first];
    panes[1].caption.textContent = names[second];
    for (const { view, caption } of panes) {
      view.setAttribute("aria-label", `${caption.textContent}; plus, minus and arrow keys zoom and move`);
    }
    for (const button of modes) button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
    const deviation = pictures.spread ? words.scale : "The deviation appears once eight samples are drawn.";
    note.textContent = nothing ? "" : mode === "spread" ? deviation : words.note;
    divide();
    place();
  }

  function zoomTo(value, at = { x: 0.5, y: 0.5 }) {
    const old = part;
    scale = "fit";
    const least = Math.min(zoom(), 1);
    scale = typeof value === "number" ? within(value, least, 16) : value;
    place();
    moveBy((at.x - 0.5) * (old.x - part.x), (at.y - 0.5) * (old.y - part.y)); // what is under the pointer stays there
  }

  function moveBy(x, y) {
    middle.x += x;
    middle.y += y;
    place();
  }

  function slideTo(fraction) {
    slider.value = String(Math.round(within(fraction, 0, 1) * 100));
    divide();
  }

  for (const { view } of panes) {
    const fingers = new Map();
    let dividing = false;
    const spot = (event) => {
      const box = view.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    };
    view.addEventListener("pointerdown", (event) => {
      const at = spot(event);
      const near = Math.abs(at.x * 100 - Number(slider.value)) * view.clientWidth < 100 * 16;
      dividing = mode === "compare" && (!pans() || near) && fingers.size === 0;
      fingers.set(event.pointerId, at);
      view.setPointerCapture(event.pointerId);
      if (dividing) slideTo(at.x);
    });
    view.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const at = spot(event);
      fingers.set(event.pointerId, at);
      const [other, third] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      if (other && !third) {
        const reach = (point) => Math.hypot(point.x - other.x, point.y - other.y);
        const between = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
        zoomTo((zoom() * reach(at)) / Math.max(reach(before), 0.01), between);
      } else if (dividing) {
        slideTo(at.x);
      } else {
        moveBy((before.x - at.x) * part.x, (before.y - at.y) * part.y);
      }
    });
    for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => fingers.delete(event.pointerId));
    view.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== view) return; // the page scrolls
      event.preventDefault();
      zoomTo(zoom() * Math.exp(-event.deltaY / 300), spot(event));
    }, { passive: false });
    view.addEventListener("dblclick", (event) => zoomTo(zoom() * 2, spot(event)));
    view.addEventListener("keydown", (event) => {
      const [x, y] = [part.x / 10, part.y / 10];
      const moves = { ArrowLeft: [-x, 0], ArrowRight: [x, 0], ArrowUp: [0, -y], ArrowDown: [0, y] };
      const zooms = { "+": zoom() * 1.5, "=": zoom() * 1.5, "-": zoom() / 1.5, 0: 1 };
      if (zooms[event.key]) zoomTo(zooms[event.key]);
      else if (moves[event.key]) moveBy(...moves[event.key]);
      else return;
      event.preventDefault();
    });
  }

  slider.addEventListener("input", divide);
  for (const button of modes) button.addEventListener("click", () => ((mode = button.dataset.mode), show()));
  find(".sf-in").addEventListener("click", () => zoomTo(zoom() * 1.5));
  find(".sf-out").addEventListener("click", () => zoomTo(zoom() / 1.5));
  zoomed.addEventListener("click", () => zoomTo(1));
  find(".sf-fit").addEventListener("click", () => zoomTo("fit"));
  new ResizeObserver(place).observe(element);

  function take(name, value) {
    if (typeof value !== "string") return (pictures[name] = value);
    if (!(pictures[name] instanceof Image)) {
      const image = (pictures[name] = new Image());
      image.draggable = false;
      image.addEventListener("load", () => image === pictures.after && measure(image)); // what is beside it may be smaller
    }
    if (pictures[name].getAttribute("src") !== value) pictures[name].src = value;
  }

  show();
  return {
    show(value) {
      value ??= { before: null, after: null, spread: null, note: "" };
      if (value.after) whole = value.width;
      for (const name of Object.keys(pictures)) if (name in value) take(name, value[name]);
      if (value.after instanceof HTMLCanvasElement) measure(value.after);
      Object.assign(names, value.names);
      for (const name of Object.keys(words)) if (name in value) words[name] = value[name];
      show();
    },
  };
}
