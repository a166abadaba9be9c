/* The one number: where both answers end when DPO's two weights have the ratio r, from the stored runs. */
(function () {
  "use strict";
  const parts = window.bookParts;

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.ratio = function (lab, data) {
    const body = parts.element(lab, "div", "lab-body lab-column");
    const row = parts.element(body, "div", "lab-control");
    const label = parts.element(row, "label", "", "ratio r of the two weights");
    const input = parts.element(row, "input");
    input.type = "range";
    input.min = 0;
    input.max = data.rows.length - 1;
    input.step = 1;
    input.value = 0;
    input.id = `lab-ratio-${Math.random().toString(36).slice(2)}`;
    label.htmlFor = input.id;
    const shown = parts.element(row, "output", "lab-value");
    shown.htmlFor = input.id;
    const bars = parts.bars(body, [
      { name: "A, chosen", className: "lab-chosen" },
      { name: "B, rejected", className: "lab-rejected" },
      { name: "margin", className: "lab-margin" },
    ], data.reach, "Changes of both answers over the whole training, in nats");
    const said = parts.element(body, "p", "lab-said");
    said.setAttribute("aria-live", "polite");
    const draw = () => {
      const at = data.rows[Number(input.value)];
      shown.textContent = at.ratio.toFixed(4).replace(/0$/, "");
      input.setAttribute("aria-valuetext", `r = ${at.ratio}`);
      bars.set([at.chosen[0], at.rejected[0], at.chosen[0] - at.rejected[0]]);
      const range = (side) => `${parts.signed(at[side][0])} [${parts.signed(at[side][1])}, ${parts.signed(at[side][2])}]`;
      const way = at.chosen[0] < 0 ? "Both fall." : at.rejected[0] > 0 ? "Both rise." : "They part.";
      said.textContent = `${way} Chosen ${range("chosen")}, rejected ${range("rejected")} nats, ${data.seeds} seeds.`;
      lab.dataset.values = JSON.stringify([at.ratio, at.chosen[0], at.rejected[0]]);
    };
    input.addEventListener("input", draw);
    draw();
  };
})();
