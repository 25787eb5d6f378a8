// @ts-nocheck  (examples/web has them, too)
// Temperature, auto τ and seed. `value` gives them, the seed as it was typed; `suggest` shows the temperature at which
// auto τ draws. changed() is called when the visitor changes one.
export function controls(element, changed) {
  element.innerHTML = `
    <div class="sf-control">
      <label for="tau">Temperature τ <output for="tau"></output></label>
      <input type="range" id="tau" min="0" max="1" step="0.01">
      <p class="sf-hint">0 smooth, 1 most texture</p>
      <label class="sf-check"><input type="checkbox" id="auto"> auto τ</label>
      <p class="sf-hint">less on flat areas; the slider turns it off</p>
    </div>
    <div class="sf-control sf-line">
      <label>Seed <input type="text" id="seed" inputmode="numeric" autocomplete="off" value="0"></label>
      <button type="button" id="another">Another seed</button>
    </div>`;
  const [tau, auto, seed, output] = ["#tau", "#auto", "#seed", "output"].map((one) => element.querySelector(one));

  function suggest(value) {
    output.value = tau.value = value;
  }

  auto.checked = "auto" in element.dataset;
  suggest(element.dataset.tau ?? "0");
  tau.addEventListener("input", () => {
    output.value = tau.value;
    auto.checked = false;
    changed();
  });
  auto.addEventListener("change", changed);
  seed.addEventListener("input", changed);
  element.querySelector("#another").addEventListener("click", () => {
    seed.value = String(crypto.getRandomValues(new Uint32Array(1))[0]);
    changed();
  });
  return {
    suggest,
    value: () => ({ tau: Number(tau.value), auto: auto.checked, seed: seed.value.trim() }),
  };
}

// A line about what went wrong; "" takes it away.
export function notice(element) {
  element.innerHTML = `<p></p><button type="button" aria-label="Close this message">×</button>`;
  element.querySelector("button").addEventListener("click", () => (element.hidden = true));
  return (words) => {
    element.querySelector("p").textContent = words;
    element.hidden = !words;
  };
}
