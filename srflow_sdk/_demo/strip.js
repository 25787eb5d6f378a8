// Buttons with the middle of each sample. The value is JSON with `images` (URLs; null clears them) and `chosen`.
const strip = element.querySelector(".sf-strip");

function choose(number) {
  [...strip.children].forEach((button, index) => button.setAttribute("aria-pressed", String(index === number)));
}

function take() {
  const value = props.value ? JSON.parse(props.value) : { images: null };
  if ("images" in value) {
    strip.replaceChildren(
      ...(value.images || []).map((url, index) => {
        const button = document.createElement("button");
        const image = document.createElement("img");
        const name = document.createElement("span");
        button.type = "button";
        image.src = url;
        image.alt = "";
        name.textContent = `sample ${index}`;
        button.append(image, name);
        button.addEventListener("click", () => {
          choose(index);
          trigger("select", { sample: index });
        });
        return button;
      }),
    );
  }
  choose(value.chosen || 0);
}
watch("value", take);
take();
