/* How hard each loss pulls the chosen response up and pushes the rejected one down: entanglement.losses, in its
   closed forms and at its published hyper-parameters.

   A pair is {fW, fL}, its log-probabilities, {refW, refL}, the reference's, and {nW, nL}, the lengths. */
(function () {
  "use strict";

  const S = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
  const slope = (x) => S(x) * S(-x);
  const logS = (x) => (x >= 0 ? -Math.log1p(Math.exp(-x)) : x - Math.log1p(Math.exp(x)));
  const both = (d) => [d, d];

  function fdpo(beta, pair, value, derivative) {
    const d = beta * S(-beta * (value(pair.rW) - value(pair.rL)));
    return [d * derivative(pair.rW), d * derivative(pair.rL)];
  }

  function means(beta, pair, gap, pullW, pullL) {
    const d = beta * S(-gap);
    return [d * pullW / pair.nW, d * pullL / pair.nL];
  }

  // rW, rL: the log-ratios; D: their difference, the margin gained; mW, mL: means over tokens.
  const LOSSES = {
    dpo: (p) => both(0.1 * S(-0.1 * p.D)),
    cdpo: (p) => both(0.1 * (0.9 - S(0.1 * p.D))),
    robust: (p) => both(0.1 * (0.9 / 0.8 - S(0.1 * p.D))),
    rdpo: (p) => both(0.1 * S(-0.1 * p.D - 0.2 * (p.nW - p.nL))),
    ipo: (p) => both(2 * (5 - p.D)),
    hinge: (p) => both(0.05 * p.D < 1 ? 0.05 : 0),
    exo: (p) => both(0.1 * slope(0.1 * p.D) * (Math.log(0.999 / 0.001) - 0.1 * p.D)),
    discopop: (p) => {
      const X = 0.05 * p.D, mu = S(X / 0.05);
      return both(0.05 * ((1 - mu) * S(-X) + mu * Math.exp(-X)
        - mu * (1 - mu) / 0.05 * (Math.exp(-X) + logS(X))));
    },
    aot: (p) => both(0.01 * S(-0.01 * p.D)),
    dpo_shift: (p) => {
      const d = 0.1 * S(-0.1 * (p.rW - 0.95 * p.rL));
      return [d, 0.95 * d];
    },
    simpo: (p) => means(2.5, p, 2.5 * (p.mW - p.mL) - 1.375, 1, 1),
    ipo_norm: (p) => {
      const M = 5 - (p.rW / p.nW - p.rL / p.nL);
      return [2 * M / p.nW, 2 * M / p.nL];
    },
    sigmoid_norm: (p) => means(5, p, 5 * (p.rW / p.nW - p.rL / p.nL), 1, 1),
    alphapo: (p) => {
      const reward = (mean) => -Math.expm1(-0.25 * mean) / 0.25;
      const gap = 2.5 * (reward(p.mW) - reward(p.mL)) - 0.1;
      return means(2.5, p, gap, Math.exp(-0.25 * p.mW), Math.exp(-0.25 * p.mL));
    },
    fdpo_forward_kl: (p) => fdpo(0.1, p, (r) => -Math.exp(-r), (r) => Math.exp(-r)),
    fdpo_js: (p) => fdpo(0.1, p, logS, (r) => S(-r)),
    fdpo_alpha: (p) => fdpo(0.1, p, (r) => Math.exp(-0.5 * r) / -0.5, (r) => Math.exp(-0.5 * r)),
    aot_unpaired: (p) => both(0.01 * S(-0.01 * p.D)),
    rpo: (p) => {
      const d = 0.1 * S(-0.1 * p.D);
      return [d + 1 / p.nW, d];
    },
    cpo: (p) => {
      const d = 0.1 * S(-0.1 * (p.fW - p.fL));
      return [d + 1 / p.nW, d];
    },
    slic_hf: (p) => {
      const active = p.fW - p.fL < 1 ? 1 : 0;
      return [active + 0.1, active];
    },
    rrhf: (p) => {
      const active = p.mW < p.mL ? 1 : 0;
      return [(active + 1) / p.nW, active / p.nL];
    },
    dpop: (p) => {
      const fallen = Math.max(0, -p.rW), d = 0.1 * S(-0.1 * (p.D - 50 * fallen));
      return [d * (1 + (p.rW < 0 ? 50 : 0)), d];
    },
    orpo: (p) => {
      const odds = (mean) => mean - Math.log(-Math.expm1(mean));
      const d = 0.1 * S(odds(p.mL) - odds(p.mW));
      return [(1 + d / -Math.expm1(p.mW)) / p.nW, d / -Math.expm1(p.mL) / p.nL];
    },
    kto: (p) => [0.1 * slope(0.1 * p.rW), 0.1 * slope(0.1 * p.rL)],
    apo_zero: (p) => [0.1 * slope(0.1 * p.rW), 0.1 * slope(0.1 * p.rL)],
    bco: (p) => [0.01 * S(-0.01 * p.rW), 0.01 * S(0.01 * p.rL)],
    nca: (p) => [0.01 * (1 - 1.5 * S(0.01 * p.rW)), 0.005 * S(0.01 * p.rL)],
    sppo: (p) => [2 * (500 - p.rW), 2 * (p.rL + 500)],
    sft: (p) => [1 / p.nW, 0],
    apo_down: (p) => {
      const d = 0.1 * slope(0.1 * p.D);
      return [d - 0.1 * slope(0.1 * p.rW), d];
    },
    caldpo: (p) => [S(-p.D) + 500 - p.rW, S(-p.D) + 500 + p.rL],
  };

  // (d_w, d_l) of a loss on a pair.
  function weights(name, pair) {
    const rW = pair.fW - pair.refW, rL = pair.fL - pair.refL;
    return LOSSES[name](Object.assign({
      rW: rW, rL: rL, D: rW - rL, mW: pair.fW / pair.nW, mL: pair.fL / pair.nL,
    }, pair));
  }

  // Keeps the geometric mean of the loss's weights; where there is nothing to balance they stay.
  function balanced(dW, dL, ratio) {
    if (!(dW > 0 && dL > 0 && Number.isFinite(ratio) && ratio > 0)) return [dW, dL];
    const mean = Math.sqrt(dW * dL), root = Math.sqrt(ratio);
    return [mean * root, mean / root];
  }

  // What rules make of a pair's weights, from its a², b² and c: entanglement.updates.pair_rules.
  const RULES = {
    joint: (g, dW, dL) => [dW, dL],
    normalized: (g, dW, dL) => balanced(dW, dL, Math.sqrt(g.b2) / Math.sqrt(g.a2)),
    band: (g, dW, dL) => {
      const [low, high] = window.bookGeometry.band(g);
      return balanced(dW, dL, Math.min(Math.max(dW / dL, low), high));
    },
    pcgrad: (g, dW, dL) => {
      if (!(dW * dL * g.c > 0 && g.a2 > 0 && g.b2 > 0)) return [dW, dL];
      return [dW + dL * g.c / g.a2, dL + dW * g.c / g.b2];
    },
    mgda: (g, dW, dL) => {
      const first = dW * dW * g.a2, second = dL * dL * g.b2, cross = dW * dL * g.c;
      const total = first + second + 2 * cross;
      const share = total > 0 ? Math.min(Math.max((second + cross) / total, 0), 1) : 0.5;
      return [2 * share * dW, 2 * (1 - share) * dL];
    },
  };

  // As the library calls them; they stand here so that no page depends on every loss.
  const TITLES = {
    dpo: "DPO",
    cdpo: "cDPO",
    robust: "Robust DPO",
    rdpo: "R-DPO",
    ipo: "IPO",
    hinge: "Hinge",
    exo: "EXO",
    discopop: "DiscoPOP",
    aot: "AOT (paired)",
    dpo_shift: "DPO-Shift",
    simpo: "SimPO",
    ipo_norm: "IPO by token means",
    sigmoid_norm: "DPO by token means",
    alphapo: "AlphaPO",
    fdpo_forward_kl: "f-DPO, forward KL",
    fdpo_js: "f-DPO, Jensen–Shannon",
    fdpo_alpha: "f-DPO, α-divergence",
    aot_unpaired: "AOT (unpaired)",
    rpo: "RPO (DPO + NLL)",
    cpo: "CPO",
    slic_hf: "SLiC-HF",
    rrhf: "RRHF",
    dpop: "DPOP",
    orpo: "ORPO",
    kto: "KTO (one pair)",
    apo_zero: "APO-zero",
    bco: "BCO (pair)",
    nca: "NCA (pair)",
    sppo: "SPPO (hard)",
    sft: "SFT",
    apo_down: "APO-down",
    caldpo: "Cal-DPO",
  };
  const RULE_TITLES = {
    joint: "the loss itself",
    normalized: "normalized gradients",
    band: "clipped to the band",
    pcgrad: "PCGrad",
    mgda: "MGDA",
  };

  window.bookLosses = {
    names: Object.keys(LOSSES), rules: RULES, ruleTitles: RULE_TITLES, titles: TITLES, weights: weights,
  };
})();
