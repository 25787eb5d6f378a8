// A field for a picture: choose, drop or paste it, and remove it.
import { ask, say, shown } from "./server.js";

// changed(answer): called with the server's answer once a picture is there, with null as soon as the older one is not.
export function photo(element, changed) {
  element.append(document.querySelector("#photo").content.cloneNode(true));
  const name = element.dataset.picture;
  const label = element.dataset.label;
  const input = element.querySelector("input");
  const remove = element.querySelector(".sf-remove");
  const example = element.querySelector(".sf-example");
  const chosen = element.querySelector(".sf-chosen");
  const pasted = "pasted" in element.dataset;
  const most = Number(document.body.dataset.uploadBytes);
  let sending = new AbortController();
  element.querySelector(".sf-label").textContent = label;
  remove.setAttribute("aria-label", `Remove: ${label}`);
  input.setAttribute("aria-label", label);
  element.querySelector(".sf-hint").textContent = pasted ? "or drop it here, or paste it" : "or drop it here";
  if (!element.dataset.example) example.remove();

  // state: "empty", "sent" or "chosen"; the page's style follows it.
  function show(state, words) {
    element.dataset.state = state;
    chosen.textContent = words;
  }

  function clear() {
    sending.abort();
    input.value = "";
    show("empty", element.dataset.choose);
    changed(null);
  }

  function take(file) {
    say(""); // what was said of an older one
    clear();
    if (file.size > most) return say(`${file.name} is larger than the limit of ${most / 1e6} MB; choose a smaller one`);
    const mine = (sending = new AbortController());
    show("sent", `${file.name} is sent …`);
    return shown(async () => {
      try {
        const answer = await ask("PUT", `pictures/${name}?name=${encodeURIComponent(file.name)}`, file, mine.signal);
        if (mine !== sending) return;
        show("chosen", `${file.name} (${Math.max(1, Math.round(file.size / 1000)).toLocaleString("en")} kB)`);
        changed(answer);
      } catch (error) {
        if (mine === sending) clear();
        throw error;
      }
    });
  }

  input.addEventListener("change", () => input.files[0] && take(input.files[0]));
  example.addEventListener("click", () =>
    shown(async () => {
      const answer = await fetch(`static/${element.dataset.example}`).catch(() => null);
      if (!answer?.ok) throw new Error("The example did not come. Does srflow-demo still run?");
      await take(new File([await answer.blob()], element.dataset.example));
    }),
  );
  remove.addEventListener("click", () => {
    clear();
    shown(() => ask("DELETE", `pictures/${name}`));
  });
  for (const kind of ["dragenter", "dragover"]) {
    element.addEventListener(kind, () => element.classList.add("sf-over"));
  }
  for (const kind of ["dragleave", "drop"]) element.addEventListener(kind, () => element.classList.remove("sf-over"));
  element.addEventListener("drop", (event) => event.dataTransfer.files[0] && take(event.dataTransfer.files[0]));
  if (pasted) {
    document.addEventListener("paste", (event) => {
      const [file] = event.clipboardData.files;
      if (file && element.offsetParent) take(file);
    });
  }
  show("empty", element.dataset.choose);
  return { clear };
}
