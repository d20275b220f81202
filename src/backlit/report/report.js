// The way back one step at a time: buttons, arrow keys and links; without this script all steps stand below each other.
"use strict";
(() => {
  const stepper = document.querySelector(".stepper");
  if (!stepper) return;
  const steps = [...stepper.querySelectorAll(".step")];
  const links = [...stepper.querySelectorAll(".rail a")];
  const controls = stepper.querySelector(".controls");
  const where = controls.querySelector(".where");
  const buttons = [...controls.querySelectorAll("button")];
  let current = 0;

  function show(index) {
    current = Math.min(Math.max(index, 0), steps.length - 1);
    steps.forEach((step, i) => step.classList.toggle("current", i === current));
    links.forEach((link, i) => {
      if (i === current) link.setAttribute("aria-current", "step");
      else link.removeAttribute("aria-current");
    });
    buttons[0].disabled = current === 0;
    buttons[1].disabled = current === steps.length - 1;
    where.textContent = `Step ${current + 1} of ${steps.length}: ${steps[current].querySelector("h3").textContent}`;
    const link = links[current].parentElement;
    const rail = link.parentElement;
    rail.scrollLeft = link.offsetLeft - (rail.clientWidth - link.offsetWidth) / 2;
  }

  const indexOf = (hash) => steps.findIndex((step) => "#" + step.id === hash);

  stepper.classList.add("stepping");
  controls.hidden = false;
  show(Math.max(indexOf(location.hash), 0));

  controls.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) show(current + Number(button.dataset.go));
  });

  // Links within the section turn the page instead of scrolling away.
  stepper.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#step-"]');
    if (!link) return;
    event.preventDefault();
    show(indexOf(link.getAttribute("href")));
  });

  addEventListener("hashchange", () => {
    const index = indexOf(location.hash);
    if (index >= 0) show(index);
  });

  // Arrow keys, while the section is in view, unless what has the focus scrolls sideways itself.
  addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    const focused = event.target.closest(".scroll");
    if (focused && focused.scrollWidth > focused.clientWidth) return;
    const box = stepper.getBoundingClientRect();
    if (box.bottom < 0 || box.top > innerHeight * 0.8) return;
    event.preventDefault();
    show(current + way);
  });

  // A product of a worked sum, under the pointer, shows where its two factors lie.
  stepper.querySelectorAll(".sum").forEach((sum) => {
    const light = (term) =>
      sum.querySelectorAll("[data-term]").forEach((part) => part.classList.toggle("lit", part.dataset.term === term));
    sum.addEventListener("pointerover", (event) => {
      const part = event.target.closest("[data-term]");
      light(part ? part.dataset.term : "");
    });
    sum.addEventListener("pointerleave", () => light(""));
  });
})();
