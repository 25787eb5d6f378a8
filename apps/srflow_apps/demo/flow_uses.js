// The tabs "Restore" and "Transfer".
import { mask } from "./mask.js";
import { ask, picture, shown } from "./server.js";
import { viewer } from "./viewer.js";
import { work } from "./work.js";

function checked(panel, name) {
  return panel.querySelector(`[name=${name}]:checked`).value;
}

export function restore(panel) {
  const views = viewer(panel.querySelector(".sf-viewer"));
  const [choose, strength] = ["#choose", "#strength"].map((one) => panel.querySelector(one));
  const said = () => ({ over: checked(panel, "over"), choose: choose.checked, tau: Number(strength.value) });
  const job = work(panel.querySelector(".sf-work"), said, views.show);
  choose.addEventListener("change", () => (strength.disabled = !choose.checked));
  strength.addEventListener("input", () => (panel.querySelector("output").value = strength.value));
  return picture(panel.querySelector(".sf-photo"), () => {
    job.clear();
    views.show(null);
  });
}

export function transfer(panel) {
  const views = viewer(panel.querySelector(".sf-viewer"));
  const painter = mask(panel.querySelector(".sf-mask"));
  const seed = panel.querySelector("#transfer-seed");

  async function said() {
    const drawn = await painter.drawn();
    if (drawn) await ask("PUT", "pictures/mask?name=mask.png", drawn);
    return { blend: checked(panel, "blend"), seed: seed.value === "" ? null : Number(seed.value) };
  }

  const job = work(panel.querySelector(".sf-work"), said, views.show);
  const there = new Set();
  let newest = 0;
  const fields = [...panel.querySelectorAll(".sf-photo")].map((element) =>
    picture(element, async (answer) => {
      there[answer ? "add" : "delete"](element);
      newest += 1;
      const mine = newest;
      job.clear();
      views.show(null);
      painter.show({});
      if (there.size < 2) return;
      const pictures = await shown(() => ask("GET", "canvas"));
      if (pictures && mine === newest) painter.show(pictures);
    }),
  );
  return { clear: () => fields.forEach((field) => field.clear()) };
}
