// The page's end of the server: what it asks, the page's key there, and the errors in words.
import { photo } from "./photo.js";

let key = null; // a promise of the page's key
let said = () => {};
let gone = () => {};

export function listen({ error, ended }) {
  said = error;
  gone = ended;
}

// Tell the visitor of an error; "" takes it away.
export function say(words) {
  said(words);
}

// Ask for something of this page. body: a File or Blob is sent as it is, anything else as JSON.
// Returns the answer, an object or null; throws an Error whose message is for the visitor, or an AbortError.
export async function ask(method, path, body, signal) {
  key ??= fetched("POST", "pages").then(
    ({ page }) => (beat(page), page),
    (error) => {
      key = null;
      throw error;
    },
  );
  const mine = key;
  try {
    return await fetched(method, `pages/${await mine}/${path}`, body, signal);
  } catch (error) {
    if (error.status === 410 && key === mine) {
      key = null;
      gone();
    }
    throw error;
  }
}

export async function address(path) {
  return `pages/${await key}/${path}`;
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

// Tell the server that the page lives, until it is gone.
function beat(page) {
  const tell = () =>
    fetch(`pages/${page}/alive`, { method: "POST" }).then(
      (answer) => answer.status === 410 && clearInterval(timer),
      () => {},
    );
  const timer = setInterval(tell, 15_000);
  tell();
}

addEventListener("pagehide", () => {
  key?.then((page) => navigator.sendBeacon(`pages/${page}/close`));
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // its pictures were deleted
});

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
  const { picture: name } = element.dataset;
  const most = Number(document.body.dataset.uploadBytes);
  let sending = new AbortController();

  function clear() {
    sending.abort();
    field.show("empty");
    changed(null);
  }

  function take(file) {
    said(""); // what was said of an older one
    clear();
    if (!file) return said("The example did not come. Does srflow-demo still run?");
    if (file.size > most) return said(`${file.name} is larger than the limit of ${most / 1e6} MB; choose a smaller one`);
    const mine = (sending = new AbortController());
    field.show("sent", `${file.name} is sent …`);
    return shown(async () => {
      try {
        const answer = await ask("PUT", `pictures/${name}?name=${encodeURIComponent(file.name)}`, file, mine.signal);
        if (mine !== sending) return;
        field.show("chosen", `${file.name} (${Math.max(1, Math.round(file.size / 1000)).toLocaleString("en")} kB)`);
        changed(answer);
      } catch (error) {
        if (mine === sending) clear();
        throw error;
      }
    });
  }

  const field = photo(element, take, () => {
    clear();
    shown(() => ask("DELETE", `pictures/${name}`));
  });
  return { clear };
}
