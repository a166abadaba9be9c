/* One pair token by token: choose a token of either answer, and every other one shows its inner product with it.

   The data are {chosen, rejected: tokens; gram: the inner products of all, chosen ones first}, a set a stage. */
(function () {
  "use strict";
  const parts = window.bookParts;

  function written(value) {
    const size = Math.abs(value);
    const digits = size >= 100 ? 0 : size >= 1 ? 1 : size >= 0.01 ? 2 : 3;
    return parts.signed(value, digits);
  }

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.tokens = function (lab, data) {
    const body = parts.element(lab, "div", "lab-body lab-column");
    const row = parts.element(body, "div", "lab-control");
    const stage = parts.choice(row, "model", data.stages.map((one, k) => [k, one.title]));
    const kind = parts.choice(row, "show", [["inner", "inner products (nats²)"], ["cosine", "cosines"]]);
    const said = parts.element(body, "p", "lab-said");
    const sides = ["chosen", "rejected"].map((side) => {
      const group = parts.element(body, "div", "lab-tokens");
      group.setAttribute("role", "group");
      group.setAttribute("aria-label", `Tokens of the ${side} answer`);
      parts.element(group, "span", `lab-side-name lab-name-${side}`, side);
      return data[side].map((word) => {
        const made = parts.element(group, "button", "lab-token");
        made.type = "button";
        parts.element(made, "span", "lab-word", word.trim() || "␣");
        parts.element(made, "span", "lab-value");
        return made;
      });
    });
    const all = sides.flat();
    said.setAttribute("aria-live", "polite");
    let at = 0;
    const draw = () => {
      const gram = data.stages[Number(stage.value())].gram, cosine = kind.value() === "cosine";
      const values = gram[at].map((value, t) => cosine ? value / Math.sqrt(gram[at][at] * gram[t][t]) || 0 : value);
      const most = cosine ? 1 : Math.max(...values.map(Math.abs)) || 1;
      all.forEach((button, t) => {
        button.setAttribute("aria-pressed", t === at);
        button.querySelector(".lab-value").textContent = cosine ? parts.signed(values[t]) : written(values[t]);
        // On a root's scale, as sizes differ widely.
        const strength = Math.round(38 * Math.sqrt(Math.abs(values[t]) / most));
        button.style.setProperty("--lab-tint", `color-mix(in srgb, ${values[t] < 0 ? "#148f5c" : "#8a3fc0"} ${strength}%, transparent)`);
      });
      const n = data.chosen.length, own = at < n ? "chosen" : "rejected";
      const sum = (from, to) => gram[at].slice(from, to).reduce((total, x) => total + x, 0);
      const name = (data[own][at < n ? at : at - n]).trim() || "␣";
      const inside = own === "chosen" ? sum(0, n) : sum(n), across = own === "chosen" ? sum(n) : sum(0, n);
      said.textContent = `“${name}” of the ${own} answer. With all tokens of its own answer ${written(inside)}, `
        + `with all of the other one ${written(across)} nats². A step that moves the answers apart changes this token's `
        + `log-probability at the rate ${written(own === "chosen" ? inside - across : across - inside)}.`;
      lab.dataset.values = JSON.stringify([at, inside, across]);
    };
    all.forEach((button, t) => {
      const choose = () => { at = t; draw(); };
      button.addEventListener("click", choose);
      button.addEventListener("focus", choose);
      button.addEventListener("pointerenter", choose);
    });
    stage.onChange(draw);
    kind.onChange(draw);
    draw();
  };
})();
