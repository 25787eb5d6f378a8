// Buttons with the part of each sample where all differ most. `show` takes their images (URLs; null removes them) and which is chosen.
// select(number) is called when the visitor chooses one.
export function strip(element, select) {
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
