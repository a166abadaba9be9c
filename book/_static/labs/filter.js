/* A field that leaves of the page's tables of losses the rows that have all its words. */
(function () {
  "use strict";
  const parts = window.bookParts;

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.filter = function (lab) {
    const rows = Array.from(document.querySelectorAll("table.losses tbody tr"));
    const words = new Map(rows.map((row) => {
      // A formula's text is what was typeset, and no word; names and notes are.
      const copy = row.cloneNode(true);
      for (const formula of copy.querySelectorAll(".math")) formula.remove();
      return [row, copy.textContent.toLowerCase()];
    }));
    const body = parts.element(lab, "div", "lab-body");
    const input = document.createElement("input");
    input.type = "search";
    parts.control(body, "losses that speak of", input);
    const said = parts.element(body, "p", "lab-count");
    said.setAttribute("aria-live", "polite");
    const draw = () => {
      const asked = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const fits = asked.every((word) => words.get(row).includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      said.textContent = `${shown} of ${rows.length}`;
      lab.dataset.values = JSON.stringify([shown, rows.length]);
    };
    input.addEventListener("input", draw);
    draw();
  };
})();
