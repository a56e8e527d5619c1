"use strict";
// The search box over the sampled conversations. Without it the page is whole; text is only ever compared.
(() => {
  const form = document.querySelector("form.search");
  if (!form) return;
  const [box, button, found] = ["search", "unfold", "found"].map((id) => document.getElementById(id));
  const samples = [...document.querySelectorAll(".sample")].map((node) => ({
    node,
    text: [...node.querySelectorAll(".place, .said")].map((part) => part.textContent).join("\n").toLowerCase(),
    open: node.open,
  }));

  const rangesOf = (node, words) => {
    const ranges = [];
    const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const text = walker.currentNode.data.toLowerCase();
      if (text.length !== walker.currentNode.length) continue;
      for (const word of words) {
        for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
          const range = document.createRange();
          range.setStart(walker.currentNode, at);
          range.setEnd(walker.currentNode, at + word.length);
          ranges.push(range);
        }
      }
    }
    return ranges;
  };

  const search = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    const ranges = [];
    let count = 0;
    for (const { node, text, open } of samples) {
      node.hidden = !words.every((word) => text.includes(word));
      node.open = words.length ? !node.hidden : open;
      if (node.hidden) continue;
      count += 1;
      if (words.length) ranges.push(...rangesOf(node, words));
    }
    found.textContent = words.length ? `${count} of ${samples.length}` : "";
    if (window.CSS?.highlights) CSS.highlights.set("found", new Highlight(...ranges));
  };

  const unfold = () => {
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", open);
    button.textContent = open ? "Close all" : "Open all";
    for (const sample of samples) sample.node.open = sample.open = open;
  };

  box.addEventListener("input", search);
  button.addEventListener("click", unfold);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  search(); // a browser may have kept what was typed
})();
