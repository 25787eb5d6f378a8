// Long work of a tab: its buttons, how far it is, and the file at the end.
import { address, ask, say, shown } from "./server.js";

const PAUSE_MS = 250;

// said(): a promise of what is sent to begin. done(viewer): called with what the server shows of the result.
export function work(element, said, done) {
  element.innerHTML = `
    <div class="sf-line">
      <label>File <select></select></label>
      <button type="button" class="sf-start"></button>
      <button type="button" class="sf-stop" hidden>Cancel</button>
      <a class="sf-file" download hidden>Download</a>
    </div>
    <div class="sf-progress" role="status"><progress max="1" aria-label="done" hidden></progress> <span></span></div>`;
  const { tab, start: label } = element.dataset;
  const [format, start, stop] = ["select", ".sf-start", ".sf-stop"].map((one) => element.querySelector(one));
  const file = element.querySelector(".sf-file");
  const bar = element.querySelector("progress");
  const words = element.querySelector(".sf-progress span");
  let run = 0; // the newest; older ones show nothing any more
  start.textContent = label;
  format.append(...document.body.dataset.formats.split(" ").map((name) => new Option(name)));

  function show(text, fraction) {
    words.textContent = text;
    bar.hidden = fraction === undefined;
    if (fraction !== undefined) bar.value = fraction;
  }

  function clear() {
    run += 1;
    stop.hidden = true;
    file.hidden = true;
    show("");
  }

  async function follow(mine) {
    for (;;) {
      const told = await ask("GET", `work/${tab}`);
      if (mine !== run) return;
      if (told.state === "failed") throw new Error(told.error);
      if (told.state === "cancelled") {
        clear();
        return show("Cancelled; nothing was written.");
      }
      if (told.state === "done") {
        clear();
        file.href = await address(`files/${told.file}`);
        file.hidden = false;
        show(`${told.name} is ready`, 1);
        return done(told.viewer);
      }
      const left = told.left_s === null ? "" : `, about ${Math.ceil(told.left_s)} s left`;
      const waits = told.state === "waiting";
      show(waits ? "waiting for other work" : `${Math.round(100 * told.fraction)} %${left}`, told.fraction);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  start.addEventListener("click", () => {
    say("");
    clear();
    const mine = run;
    show("begins", 0);
    shown(async () => {
      try {
        await ask("POST", `work/${tab}`, { ...(await said()), format: format.value });
        if (mine !== run) return;
        stop.hidden = false;
        await follow(mine);
      } catch (error) {
        if (mine === run) clear();
        throw error;
      }
    });
  });
  stop.addEventListener("click", () => shown(() => ask("DELETE", `work/${tab}`)));
  return { clear };
}
