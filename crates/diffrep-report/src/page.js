"use strict";
// What the page can do beyond being read: the value under the pointer or, with the arrow keys, of one mark
// after another, and series that can be taken out of a figure. Without it all values are in the page.
for (const figure of document.querySelectorAll("figure")) {
  const boxes = [...figure.querySelectorAll(":scope > .scroll")].filter(box => box.querySelector("svg"));
  const marksOf = box => [...box.querySelectorAll("svg path > title, svg rect > title")].map(t => t.parentNode);
  if (!boxes.some(box => marksOf(box).length)) continue;

  const readout = document.createElement("p");
  readout.className = "readout";
  readout.setAttribute("role", "status");
  const hint = "Point at a mark, or step through the marks with the arrow keys.";
  readout.textContent = hint;
  boxes[boxes.length - 1].after(readout);

  for (const box of boxes) {
    const all = marksOf(box);
    let current = null;
    const visible = () => all.filter(mark => !mark.closest(".off"));
    const show = mark => {
      if (current) current.classList.remove("on");
      current = mark;
      if (mark) mark.classList.add("on");
      readout.textContent = mark ? mark.querySelector("title").textContent : hint;
    };
    const nearest = event => {
      let best = null, least = 28;
      for (const mark of visible()) {
        const r = mark.getBoundingClientRect();
        const dx = Math.max(r.left - event.clientX, 0, event.clientX - r.right);
        const dy = Math.max(r.top - event.clientY, 0, event.clientY - r.bottom);
        const distance = Math.hypot(dx, dy);
        if (distance < least) { best = mark; least = distance; }
      }
      if (best && best !== current) show(best);
    };
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Figure; arrow keys read its values");
    box.addEventListener("pointermove", nearest);
    box.addEventListener("pointerdown", nearest);
    box.addEventListener("keydown", event => {
      const marks = visible(), at = marks.indexOf(current);
      const next = {
        ArrowRight: at + 1, ArrowDown: at + 1,
        ArrowLeft: at < 0 ? marks.length - 1 : at - 1, ArrowUp: at < 0 ? marks.length - 1 : at - 1,
        Home: 0, End: marks.length - 1,
      }[event.key];
      if (event.key === "Escape") { show(null); return; }
      if (next === undefined || !marks.length) return;
      event.preventDefault();
      show(marks[(next + marks.length) % marks.length]);
      current.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    box.addEventListener("blur", () => show(null));
  }

  const names = new Map();
  for (const group of figure.querySelectorAll("g[data-name]")) names.set(group.dataset.series, group);
  if (names.size < 2) continue;
  const toggles = document.createElement("div");
  toggles.className = "toggles";
  for (const [series, group] of names) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = group.dataset.name;
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const part of figure.querySelectorAll(`[data-series="${series}"]`)) part.classList.toggle("off", !shown);
    });
    toggles.append(button);
  }
  readout.after(toggles);
}

// On paper nothing is folded but values of figures; what was folded before is folded again after.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open], .values)")];
  for (const part of opened) part.open = true;
});
addEventListener("afterprint", () => {
  for (const part of opened) part.open = false;
});
