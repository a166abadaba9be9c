/* The log-linear model of one pair, as entanglement.loglinear.LogLinear: logits W h over states that do not move.

   A pair is {weight: V x d, chosen: {states: n x d, tokens: n}, rejected: likewise}; all numbers are doubles. */
(function () {
  "use strict";
  const geometry = window.bookGeometry;

  function probabilities(weight, state) {
    const logits = weight.map((row) => geometry.dot(row, state));
    const most = Math.max(...logits);
    const odds = logits.map((z) => Math.exp(z - most));
    const sum = odds.reduce((total, x) => total + x, 0);
    return odds.map((x) => x / sum);
  }

  function logp(weight, answer) {
    return answer.tokens.reduce((total, token, t) =>
      total + Math.log(probabilities(weight, answer.states[t])[token]), 0);
  }

  // Σ_t (e_{y_t} − p_t) h_tᵀ, as one list of V d numbers.
  function gradient(weight, answer) {
    const d = weight[0].length, found = new Array(weight.length * d).fill(0);
    answer.tokens.forEach((token, t) => {
      const p = probabilities(weight, answer.states[t]), h = answer.states[t];
      for (let v = 0; v < weight.length; v++) {
        const score = (v === token ? 1 : 0) - p[v];
        for (let k = 0; k < d; k++) found[v * d + k] += score * h[k];
      }
    });
    return found;
  }

  // The pair after one step of size eta along d_w g_w − d_l g_l.
  function step(pair, eta, dW, dL) {
    const gW = gradient(pair.weight, pair.chosen), gL = gradient(pair.weight, pair.rejected);
    const d = pair.weight[0].length;
    const weight = pair.weight.map((row, v) => row.map((w, k) =>
      w + eta * (dW * gW[v * d + k] - dL * gL[v * d + k])));
    return Object.assign({}, pair, { weight: weight });
  }

  function ofPair(pair) {
    return geometry.fromVectors(gradient(pair.weight, pair.chosen), gradient(pair.weight, pair.rejected));
  }

  window.bookModel = { gradient: gradient, logp: logp, ofPair: ofPair, probabilities: probabilities, step: step };
})();
