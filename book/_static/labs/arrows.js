/* Two gradients as arrows, and what DPO's step on their pair does to both answers. */
(function () {
  "use strict";
  const geometry = window.bookGeometry, parts = window.bookParts;

  const SAID = {
    ideal: "A rises and B falls, as one would wish.",
    both_down: "Both fall. B falls further, so the margin grows and the loss is content.",
    both_up: "Both rise. A rises further, so the margin grows and the loss is content.",
  };

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.arrows = function (lab, data) {
    const body = parts.element(lab, "div", "lab-body");
    const left = parts.element(body, "div", "lab-side"), right = parts.element(body, "div", "lab-side");
    const on = parts.plane(left, 4, "Two gradients in a plane of two parameters");
    const step = parts.arrow(on, "lab-step", "step");
    const draw = () => {
      const w = chosen.value(), l = rejected.value();
      const pair = geometry.fromVectors(w, l), found = geometry.rates(pair, 1, 1);
      step.place(w[0] - l[0], w[1] - l[1]);
      bars.set(found.chosen, found.rejected);
      const still = (found.chosen === 0) + (found.rejected === 0);
      const name = geometry.caseOf(pair, 1, 1);
      said.textContent = still === 2 ? "Nothing moves: the step changes neither answer."
        : still === 1 ? "On the edge: one of the two answers stands still." : SAID[name];
      lab.dataset.case = name;
      lab.dataset.values = JSON.stringify([found.chosen, found.rejected]);
    };
    const rejected = parts.handle(on, "lab-rejected", "B", "Gradient of B, the rejected answer",
      data.rejected, () => draw());
    const chosen = parts.handle(on, "lab-chosen", "A", "Gradient of A, the chosen answer", data.chosen, () => draw());
    parts.element(right, "p", "lab-head", "A step of DPO on this pair changes the log-probability of");
    const bars = parts.pairBars(right, 4, "Changes of both answers and of their margin per unit of step");
    const said = parts.element(right, "p", "lab-said");
    said.setAttribute("aria-live", "polite");
    const again = parts.element(right, "button", "lab-button", "Back to the pair of the text");
    again.type = "button";
    again.addEventListener("click", () => {
      chosen.place(data.chosen[0], data.chosen[1], true);
      rejected.place(data.rejected[0], data.rejected[1]);
    });
    draw();
  };
})();
