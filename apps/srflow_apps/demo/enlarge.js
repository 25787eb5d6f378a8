// The tab "Enlarge". Whatever changes, the newest state of the controls is sent as soon as the server has answered the
// one before, and what is shown last is always that of the newest.
import { controls } from "./controls.js";
import { overview } from "./overview.js";
import { ask, picture, shown } from "./server.js";
import { viewer } from "./viewer.js";
import { work } from "./work.js";

const SETTLED_MS = 300; // eight samples are drawn once nothing changed for this long

export function enlarge(panel) {
  const model = panel.querySelector("#model");
  const dials = controls(panel.querySelector(".sf-dials"), change);
  const views = viewer(panel.querySelector(".sf-viewer"));
  const samples = strip(panel.querySelector(".sf-strip"), (number) => {
    sample = number;
    change();
  });
  const map = overview(panel.querySelector(".sf-chooser"), (to) => {
    place = to;
    change();
  });
  const whole = viewer(panel.querySelector(".sf-work ~ .sf-viewer"));
  const job = work(panel.querySelector(".sf-work"), state, whole.show);
  const field = picture(panel.querySelector(".sf-photo"), (answer) => {
    opened = Boolean(answer);
    photos += 1;
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
  let opened = false;
  let photos = 0; // counts them: an answer about an older one is dropped
  let sample = 0;
  let side = Number(panel.querySelector("[name=side]:checked").value); // of the crop, enlarged
  let place = null; // of the crop; null: where the photo has most detail
  let shows; // the place of the photo that the viewer has
  let newest = 0; // counts changes
  let drawn = 0; // the change whose picture is shown
  let drawing = false;
  let sampled = ""; // the state that the strip shows
  let resting;
  let waiting = new AbortController();

  function state() {
    const { seed, ...how } = dials.value();
    const number = seed === "" ? null : Number(seed);
    return { ...how, seed: number, model: model.value, side, sample, left: null, top: null, ...place };
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
      if (opened) {
        const of = photos;
        const answer = await shown(() => ask("POST", "show", { ...state(), shows }));
        if (answer && of === photos) apply(answer, mine === newest);
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
    panel.querySelector(".sf-model .sf-hint").textContent = answer.model + (answer.why && `: ${answer.why}`);
    document.querySelector("#drawn").textContent = `${answer.model}, ×${answer.scale}`;
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
  panel.querySelector(".sf-model").hidden = names.length < 2;
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
  function choose(number) {
    [...element.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === number)));
  }

  function button(url, index) {
    const made = document.createElement("button");
    const image = document.createElement("img");
    const name = document.createElement("span");
    made.type = "button";
    image.src = url;
    image.alt = "";
    name.textContent = `sample ${index}`;
    made.append(image, name);
    made.addEventListener("click", () => {
      choose(index);
      select(index);
    });
    return made;
  }

  return {
    show(images, chosen) {
      element.replaceChildren(...(images || []).map(button));
      choose(chosen);
    },
  };
}
