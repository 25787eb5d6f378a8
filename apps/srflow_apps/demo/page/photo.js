// @ts-nocheck  (examples/web has it, too)
// A field for a picture: choose it, drop it anywhere on the page or paste it while the field is shown, try an example, and
// remove it. What it says stands in its data-label, data-choose and data-example (a file's address). take(file) is called
// with a picture, or null if the example did not come, and clear() when it is to be removed; they show what became of it.
export function photo(element, take, clear) {
  const { label, choose, example } = element.dataset;
  element.innerHTML = `
    <span class="sf-label"></span>
    <label class="sf-drop"><span class="sf-chosen"></span><input type="file" accept="image/*"></label>
    ${example ? '<button type="button" class="sf-example">Try the example</button>' : ""}
    <span class="sf-hint">or drop it here, or paste it</span>
    <button type="button" class="sf-remove">×</button>`;
  const [input, remove, chosen] = ["input", ".sf-remove", ".sf-chosen"].map((one) => element.querySelector(one));
  element.querySelector(".sf-label").textContent = label;
  remove.setAttribute("aria-label", `Remove: ${label}`);
  input.setAttribute("aria-label", label);

  // state: "empty", "sent" or "chosen"; the page's style follows it.
  function show(state, words = choose) {
    element.dataset.state = state;
    chosen.textContent = words;
    if (state === "empty") input.value = "";
  }

  function given(event, data) {
    const files = [...data.files];
    const file = files.find(({ type }) => type.startsWith("image/")) ?? files[0];
    if (!file || !element.offsetParent) return;
    event.preventDefault();
    take(file);
  }

  input.addEventListener("change", (event) => given(event, input));
  element.querySelector(".sf-example")?.addEventListener("click", async () => {
    const answer = await fetch(example).catch(() => null);
    take(answer?.ok ? new File([await answer.blob()], example.split("/").pop()) : null);
  });
  remove.addEventListener("click", clear);
  document.addEventListener("dragover", () => element.classList.add("sf-over"));
  for (const kind of ["dragleave", "drop"]) document.addEventListener(kind, () => element.classList.remove("sf-over"));
  document.addEventListener("drop", (event) => given(event, event.dataTransfer));
  document.addEventListener("paste", (event) => given(event, event.clipboardData));
  show("empty");
  return { show };
}

// What is dropped never takes the place of the page.
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());
