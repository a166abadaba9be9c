/* One pair in a log-linear model, stepped by a loss or a rule: every probability at the token that differs. */
(function () {
  "use strict";
  const geometry = window.bookGeometry, losses = window.bookLosses, model = window.bookModel;
  const parts = window.bookParts;

  // The faster of the two answers moves by so much in one step, to first order: losses differ in scale.
  const STRIDE = 0.05;

  function truncated(data, length, factor) {
    const scaled = (states, from) => states.map((h, t) => (t < from ? h : h.map((x) => factor * x)));
    const states = data.states.slice(0, 1 + length), rest = data.suffix.slice(0, length);
    return {
      weight: data.weight.map((row) => row.slice()),
      chosen: { states: states, tokens: [data.first[0], ...rest] },
      rejected: { states: scaled(states, 1), tokens: [data.first[1], ...rest] },
    };
  }

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.steps = function (lab, data) {
    const body = parts.element(lab, "div", "lab-body lab-column");
    const controls = parts.element(body, "div", "lab-control");
    const loss = parts.choice(controls, "loss", Object.entries(losses.titles));
    const rule = parts.choice(controls, "rule", Object.entries(losses.ruleTitles));
    const most = data.suffix.length;
    const length = most ? parts.slider(controls, "shared words", 0, most, data.length) : null;
    const factor = most ? parts.choice(controls, "rejected states", data.factors.map((x) => [x, `× ${x}`])) : null;
    const buttons = parts.element(body, "div", "lab-control");
    const press = (text, run) => {
      const made = parts.element(buttons, "button", "lab-button", text);
      made.type = "button";
      made.addEventListener("click", run);
    };
    const sides = parts.element(body, "div", "lab-body");
    const left = parts.element(sides, "div", "lab-side"), right = parts.element(sides, "div", "lab-side");
    parts.element(left, "p", "lab-head", "Probability at the token that differs (line: at the start)");
    const tokens = parts.shares(left, data.words.map((word, v) => ({
      name: word, className: v === data.first[0] ? "lab-chosen" : v === data.first[1] ? "lab-rejected" : "lab-margin",
    })), "Probabilities of the tokens at the place where the answers differ");
    parts.element(right, "p", "lab-head", "Change of log-probability since the start, in nats");
    const bars = parts.pairBars(right, 0.5, "Changes of both answers and of their margin, in nats");
    const said = parts.element(body, "p", "lab-said");
    said.setAttribute("aria-live", "polite");

    let pair, start, taken;
    const weights = () => {
      const found = model.ofPair(pair);
      const state = {
        fW: model.logp(pair.weight, pair.chosen), fL: model.logp(pair.weight, pair.rejected),
        refW: start.w, refL: start.l, nW: pair.chosen.tokens.length, nL: pair.rejected.tokens.length,
      };
      const own = losses.weights(loss.value(), state);
      return { pair: found, weights: losses.rules[rule.value()](found, own[0], own[1]) };
    };
    const draw = () => {
      const { pair: found, weights: [dW, dL] } = weights();
      const w = model.logp(pair.weight, pair.chosen) - start.w, l = model.logp(pair.weight, pair.rejected) - start.l;
      tokens.set(model.probabilities(pair.weight, pair.chosen.states[0]), start.shares);
      bars.set(w, l);
      const next = { ideal: "A rises and B falls", both_down: "both fall", both_up: "both rise", reversed: "A falls and B rises" };
      const ratio = dL === 0 ? "∞" : (dW / dL).toFixed(2);
      said.textContent = `After ${taken} steps. To first order the next one has the ratio r = ${ratio}, and `
        + `${next[geometry.caseOf(found, dW, dL)]}. Cosine ${parts.signed(geometry.cosine(found))}, `
        + `b/a ${Math.sqrt(found.b2 / found.a2).toFixed(2)}.`;
      lab.dataset.values = JSON.stringify([w, l, taken]);
    };
    const begin = () => {
      pair = truncated(data, length ? Number(length.value()) : 0, factor ? Number(factor.value()) : 1);
      start = {
        w: model.logp(pair.weight, pair.chosen), l: model.logp(pair.weight, pair.rejected),
        shares: model.probabilities(pair.weight, pair.chosen.states[0]),
      };
      taken = 0;
      draw();
    };
    const steps = (count) => {
      for (let k = 0; k < count; k++) {
        const { pair: found, weights: [dW, dL] } = weights();
        const rates = geometry.rates(found, dW, dL);
        const fastest = Math.max(Math.abs(rates.chosen), Math.abs(rates.rejected));
        if (!(fastest > 0)) break;
        pair = model.step(pair, STRIDE / fastest, dW, dL);
        taken += 1;
      }
      draw();
    };
    press("One step", () => steps(1));
    press("Twenty steps", () => steps(20));
    press("Start again", begin);
    for (const control of [loss, rule, length, factor]) if (control) control.onChange(begin);
    begin();
  };
})();
