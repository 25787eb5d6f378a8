() => {
  // A pasted picture, or one dropped on a field that has one already, takes the place of the field's picture.
  function take(field, file) {
    const input = field.querySelector("input[type=file]");
    if (!input) {
      const watcher = new MutationObserver(() => {
        if (!field.querySelector("input[type=file]")) return;
        watcher.disconnect();
        take(field, file);
      });
      watcher.observe(field, { childList: true, subtree: true });
      field.querySelector("button[aria-label]").click(); // which clears it
      return;
    }
    const list = new DataTransfer();
    list.items.add(file);
    input.files = list.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    const field = [...document.querySelectorAll(".sf-pasted")].find((one) => one.offsetParent);
    if (file && field) take(field, file);
  });
  document.addEventListener("dragover", (event) => event.preventDefault()); // or the browser leaves the page
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    const field = event.target.closest(".sf-photo");
    const [file] = event.dataTransfer.files;
    if (file && field && !field.querySelector("input[type=file]")) take(field, file);
  });
}
