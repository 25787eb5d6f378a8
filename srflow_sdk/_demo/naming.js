() => {
  // Gradio makes a tab's panel when the tab is first chosen, and gives it no name.
  function name() {
    for (const panel of document.querySelectorAll("[role=tabpanel]:not([aria-label])")) {
      const tab = document.querySelector(`[role=tab][aria-controls="${CSS.escape(panel.id)}"]`);
      if (tab) panel.setAttribute("aria-label", tab.textContent.trim());
    }
  }
  name();
  new MutationObserver(name).observe(document.querySelector(".tabs") ?? document.body, {
    childList: true,
    subtree: true,
    attributeFilter: ["aria-controls"],
  });
}
