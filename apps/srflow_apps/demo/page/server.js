// The page's end of the server: what it asks, the page's key there, errors in words, pictures that are sent, long work.
import { photo } from "./photo.js";

const PAUSE_MS = 250; // between two looks at long work
const ALIVE_MS = 15_000;
const { uploadBytes, formats } = document.body.dataset;
let key = null; // a promise of the page's key
let said = () => {};
let gone = () => {};

// error(words): tells the visitor what went wrong; "" takes it away. ended(): the server ended the page's session.
export function listen({ error, ended }) {
  said = error;
  gone = ended;
}

// Ask for something of this page. body: a File or Blob is sent as it is, anything else as JSON.
// Returns the answer, an object or null; throws an Error whose message is for the visitor, or an AbortError.
export async function ask(method, path, body, signal) {
  key ??= opened();
  const mine = key;
  try {
    return await fetched(method, `pages/${await mine}/${path}`, body, signal);
  } catch (error) {
    const lost = error.status === 410 || !(await mine.catch(() => null));
    if (lost && key === mine) {
      key = null;
      if (error.status === 410) gone();
    }
    throw error;
  }
}

// The key of a page, which the server hears of from now on.
async function opened() {
  const { page } = await fetched("POST", "pages");
  const tell = () =>
    fetch(`pages/${page}/alive`, { method: "POST" }).then((answer) => answer.status === 410 && clearInterval(timer), () => {});
  const timer = setInterval(tell, ALIVE_MS);
  tell();
  return page;
}

async function fetched(method, path, body, signal) {
  const raw = body instanceof Blob;
  const headers = body === undefined ? {} : { "Content-Type": raw ? "application/octet-stream" : "application/json" };
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, body: raw || body === undefined ? body : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Does srflow-demo still run?");
  }
  const text = await answer.text();
  let value = { error: text.trim() };
  try {
    value = JSON.parse(text);
  } catch {
    // a refusal in plain text
  }
  if (answer.ok) return value;
  throw Object.assign(new Error(value?.error || `The server refused: status ${answer.status}.`), { status: answer.status });
}

addEventListener("pagehide", () => key?.then((page) => navigator.sendBeacon(`pages/${page}/close`), () => {}));
addEventListener("pageshow", (event) => event.persisted && location.reload()); // its pictures were deleted

// Run something whose errors the visitor sees.
export async function shown(function_) {
  try {
    return await function_();
  } catch (error) {
    if (error.name !== "AbortError") said(error.message);
    return undefined;
  }
}

// A field whose picture is sent to the server. changed(answer): called with the server's answer once a picture is there,
// with null as soon as the older one is not.
export function picture(element, changed) {
  const { tab } = element.dataset;
  const most = Number(uploadBytes);
  let sending = new AbortController();

  function clear() {
    sending.abort();
    field.show("empty");
    changed(null);
  }

  async function take(file) {
    said(""); // what was said of an older one
    clear();
    if (!file) return said("The example did not come. Does srflow-demo still run?");
    if (file.size > most) return said(`${file.name} is larger than the limit of ${most / 1e6} MB; choose a smaller one`);
    const mine = (sending = new AbortController());
    field.show("sent", `${file.name} is sent …`);
    const answer = await shown(() => ask("PUT", `pictures/${tab}?name=${encodeURIComponent(file.name)}`, file, mine.signal));
    if (mine !== sending) return;
    if (!answer) return clear();
    field.show("chosen", `${file.name} (${Math.max(1, Math.round(file.size / 1000)).toLocaleString("en")} kB)`);
    changed(answer);
  }

  const field = photo(element, take, () => {
    clear();
    shown(() => ask("DELETE", `pictures/${tab}`));
  });
  return { clear };
}

// Long work of a tab: its buttons, how far it is, and the file at the end. controls(): what is sent to begin.
// done(viewer): called with what the server shows of the result.
export function work(element, controls, done) {
  const { tab, start: label } = element.dataset;
  element.innerHTML = `
    <div class="sf-line">
      <label>File <select>${formats.split(" ").map((name) => `<option>${name}</option>`).join("")}</select></label>
      <button type="button" class="sf-start">${label}</button>
      <button type="button" class="sf-stop" hidden>Cancel</button>
      <a class="sf-file" download hidden>Download</a>
    </div>
    <div class="sf-progress" role="status"><progress max="1" aria-label="done" hidden></progress> <span></span></div>`;
  const [format, start, stop, file, bar, words] =
    ["select", ".sf-start", ".sf-stop", ".sf-file", "progress", ".sf-progress span"].map((one) => element.querySelector(one));
  let run = 0; // the newest; older ones show nothing any more

  function show(text, fraction) {
    words.textContent = text;
    bar.hidden = fraction === undefined;
    bar.value = fraction ?? 0;
  }

  function clear(text = "") {
    run += 1;
    stop.hidden = file.hidden = true;
    show(text);
  }

  async function follow(mine) {
    await ask("POST", `work/${tab}`, { ...controls(), format: format.value });
    for (;;) {
      const told = await ask("GET", `work/${tab}`);
      if (mine !== run) return;
      if (told.state === "failed") throw new Error(told.error);
      if (told.state === "cancelled") return clear("Cancelled; nothing was written.");
      if (told.state === "done") {
        clear();
        file.href = `pages/${await key}/files/${tab}`;
        file.hidden = false;
        show(`${told.name} is ready`, 1);
        return done(told.viewer);
      }
      stop.hidden = false;
      const left = told.left_s === null ? "" : `, about ${Math.ceil(told.left_s)} s left`;
      show(told.state === "waiting" ? "waiting for other work" : `${Math.round(100 * told.fraction)} %${left}`, told.fraction);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  start.addEventListener("click", () => {
    said("");
    clear();
    const mine = run;
    show("begins", 0);
    shown(() => follow(mine).catch((error) => {
      if (mine === run) clear();
      throw error;
    }));
  });
  stop.addEventListener("click", () => shown(() => ask("DELETE", `work/${tab}`)));
  return { clear };
}
