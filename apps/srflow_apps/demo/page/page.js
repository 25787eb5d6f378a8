// The page: its tabs, its errors, and what happens to all of it when the server ends its session.
import { notice } from "./controls.js";
import { listen } from "./server.js";
import * as builders from "./tabs.js";

const nav = document.querySelector("nav");
const tabs = [];
for (const tab of document.querySelectorAll("[role=tab]")) {
  const panel = document.getElementById(tab.getAttribute("aria-controls"));
  if (document.body.dataset.tabs.split(" ").includes(panel.id)) tabs.push({ tab, panel, ...builders[panel.id](panel) });
  else [tab, panel].forEach((one) => one.remove());
}

function choose(chosen) {
  for (const one of tabs) {
    one.tab.setAttribute("aria-selected", String(one === chosen));
    one.tab.tabIndex = one === chosen ? 0 : -1;
    one.panel.hidden = one !== chosen;
  }
}

tabs.forEach((one, number) => {
  one.tab.addEventListener("click", () => choose(one));
  one.tab.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const next = tabs[(number + step + tabs.length) % tabs.length];
    choose(next);
    next.tab.focus();
  });
});
choose(tabs[0]);
nav.hidden = tabs.length < 2;

listen({ error: notice(document.querySelector("#error")), ended: () => tabs.forEach((one) => one.clear()) });
