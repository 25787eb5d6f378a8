// The tabs of the page. In "Enlarge", the newest state of the controls is sent, whatever changes, as soon as the server has
// answered the one before, and what is shown last is always that of the newest.
import { controls } from "./controls.js";
import { overview } from "./overview.js";
import { ask, picture, shown, work } from "./server.js";
import { viewer } from "./viewer.js";

const SETTLED_MS = 300; // eight samples are drawn once nothing changed for this long
const checked = (panel, name) => panel.querySelector(`[name=${name}]:checked`).value;

export function enlarge(panel) {
  const find = (selector) => panel.querySelector(selector);
  const model = find("#model");
  const dials = controls(find(".sf-dials"), change);
  const views = viewer(find(".sf-viewer"));
  const whole = viewer(find(".sf-work ~ .sf-viewer"));
  const samples = strip(find(".sf-strip"), (number) => ((sample = number), change()));
  const map = overview(find(".sf-chooser"), (to) => ((place = to), change()));
  const job = work(find(".sf-work"), state, whole.show);
  const field = picture(find(".sf-photo"), (answer) => {
    opened = answer;
    place = null;
    sample = 0;
    shows = undefined;
    job.clear();
    views.show(null);
    whole.show(null);
    samples.show(null, 0);
    map.show(answer);
    change();
  });
  let opened = null; // what the server told of the photo
  let sample = 0;
  let side = Number(checked(panel, "side")); // of the crop, enlarged
  let place = null; // of the crop; null: in the middle of the photo
  let shows; // the place of the photo that the viewer has
  let newest = 0; // counts changes
  let drawn = 0; // the change whose picture is shown
  let drawing = false;
  let sampled = ""; // the state that the strip shows
  let resting;
  let waiting = new AbortController();

  function state() {
    const { seed, ...how } = dials.value();
    return { ...how, seed: seed === "" ? null : Number(seed), model: model.value, side, sample, left: null, top: null, ...place };
  }

  function change() {
    newest += 1;
    clearTimeout(resting);
    waiting.abort();
    if (!drawing) draw();
  }

  async function draw() {
    drawing = true;
    while (drawn !== newest) {
      const mine = newest;
      const of = opened;
      if (of) {
        const answer = await shown(() => ask("POST", "show", { ...state(), shows }));
        if (answer && of === opened) apply(answer, mine === newest);
        if (answer === undefined && mine === newest) break; // the visitor saw why
      }
      drawn = mine;
    }
    drawing = false;
    if (drawn === newest && opened) resting = setTimeout(eight, SETTLED_MS);
    drawn = newest;
  }

  function apply(answer, last) {
    const names = { before: "photo, bicubic", after: answer.name, spread: "uncertainty by 8 samples" };
    if (answer.before) {
      shows = answer.place;
      views.show({ before: answer.before, after: answer.after, spread: null, names });
      samples.show(null, sample);
      sampled = "";
    } else {
      views.show({ after: answer.after, names });
    }
    find(".sf-model .sf-hint").textContent = `${answer.model}, ×${answer.scale}${answer.why && `: ${answer.why}`}`;
    if (dials.value().auto) dials.suggest(answer.tau);
    if (!last) return;
    map.move(answer.place);
    place = { left: answer.place.left, top: answer.place.top };
  }

  async function eight() {
    const mine = newest;
    const now = state();
    const of = JSON.stringify({ ...now, sample: null });
    if (of === sampled) return;
    waiting = new AbortController();
    const answer = await shown(() => ask("POST", "samples", now, waiting.signal));
    if (!answer || mine !== newest) return;
    sampled = of;
    samples.show(answer.images, sample);
    views.show({ spread: answer.spread, scale: answer.scale });
  }

  const names = document.body.dataset.models.split(" ");
  find(".sf-model").hidden = names.length < 2;
  model.append(...names.map((name) => new Option(name)));
  model.addEventListener("change", () => {
    shows = undefined; // the other model's picture stands beside the photo from the beginning
    change();
  });
  for (const button of panel.querySelectorAll("[name=side]")) {
    button.addEventListener("change", () => {
      place &&= map.around(Number(button.value) / side);
      side = Number(button.value);
      change();
    });
  }
  return { clear: field.clear };
}

// Buttons with the part of each sample where all differ most. `show` takes their images (URLs; null removes
// them) and which is chosen. select(number) is called when the visitor chooses one.
function strip(element, select) {
  const choose = (number) =>
    [...element.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === number)));
  return {
    show(images, chosen) {
      element.innerHTML = (images ?? []).map((url, index) =>
        `<button type="button"><img src="${url}" alt=""><span>sample ${index}</span></button>`).join("");
      for (const [index, button] of [...element.children].entries()) {
        button.addEventListener("click", () => (choose(index), select(index)));
      }
      choose(chosen);
    },
  };
}

export function restore(panel) {
  const views = viewer(panel.querySelector(".sf-viewer"));
  const job = work(panel.querySelector(".sf-work"), () => ({ over: checked(panel, "over") }), views.show);
  return picture(panel.querySelector(".sf-photo"), () => (job.clear(), views.show(null)));
}
