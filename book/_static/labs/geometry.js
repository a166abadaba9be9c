/* The geometry of a pair, by the same arithmetic as entanglement.geometry, in doubles as there.

   A pair is {a2, b2, c}: the squared lengths of the two gradients and their inner product. */
(function () {
  "use strict";

  // Two products closer than this, relatively, are a tie: that is their own rounding error.
  const TIE = 16 * Number.EPSILON;

  function difference(x, y) {
    const gap = x - y;
    return Math.abs(gap) <= TIE * Math.max(Math.abs(x), Math.abs(y)) ? 0 : gap;
  }

  function dot(x, y) {
    return x.reduce((sum, value, i) => sum + value * y[i], 0);
  }

  function fromVectors(gW, gL) {
    return fromNumbers(dot(gW, gW), dot(gL, gL), dot(gW, gL));
  }

  // By Cauchy–Schwarz |c| is at most ab; rounding may cross that.
  function fromNumbers(a2, b2, c) {
    const bound = Math.sqrt(a2) * Math.sqrt(b2);
    return { a2: a2, b2: b2, c: Math.min(Math.max(c, -bound), bound) };
  }

  function cosine(pair) {
    if (pair.a2 === 0 || pair.b2 === 0) return NaN;
    return Math.min(Math.max(pair.c / Math.sqrt(pair.a2) / Math.sqrt(pair.b2), -1), 1);
  }

  // The changes per unit step of a loss with weights dW, dL; 0 for a near tie.
  function rates(pair, dW, dL) {
    return {
      chosen: difference(dW * pair.a2, dL * pair.c),
      rejected: difference(dW * pair.c, dL * pair.b2),
    };
  }

  // The ratios r = dW / dL > 0 with which the chosen response does not fall nor the rejected one rise.
  function band(pair) {
    if (!(pair.c > 0)) return [0, Infinity];
    const low = pair.c / pair.a2;
    return [low, Math.max(low, pair.b2 / pair.c)];
  }

  function caseOf(pair, dW, dL) {
    const found = rates(pair, dW, dL);
    const falls = found.chosen < 0, rises = found.rejected > 0;
    return falls ? (rises ? "reversed" : "both_down") : rises ? "both_up" : "ideal";
  }

  window.bookGeometry = {
    band: band, caseOf: caseOf, cosine: cosine, dot: dot, fromNumbers: fromNumbers, fromVectors: fromVectors,
    rates: rates,
  };
})();
