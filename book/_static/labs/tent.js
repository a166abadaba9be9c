/* The geometry of a pair: its two gradients as arrows, its place under the tent, and what a ratio r makes of it. */
(function () {
  "use strict";
  const geometry = window.bookGeometry, parts = window.bookParts;

  const SAID = {
    ideal: "A rises and B falls.", both_down: "Both fall.", both_up: "Both rise.", reversed: "A falls and B rises.",
  };
  const WIDTH = 320, HEIGHT = 300, LEFT = 40, BOTTOM = 40, TOP = 12, REACH = 2; // b/a from 2^-2 to 2^2

  // The plane of all pairs: x is log2 of b/a, y the cosine.
  function tent(parent) {
    const svg = d3.select(parent).append("svg").attr("class", "lab-plane").attr("role", "group")
      .attr("viewBox", `0 0 ${WIDTH} ${HEIGHT}`).attr("aria-label", "The plane of norm ratio and cosine");
    const x = (logRatio) => LEFT + (logRatio + REACH) / (2 * REACH) * (WIDTH - LEFT - 8);
    const y = (rho) => TOP + (1 - rho) / 2 * (HEIGHT - TOP - BOTTOM);
    const regions = ["both_up", "both_down", "ideal"].map((name) => [name, svg.append("path").attr("class", `lab-${name}`)]);
    const edge = svg.append("path").attr("class", "lab-edge");
    for (const [k, text] of [[-2, "1/4"], [-1, "1/2"], [0, "1"], [1, "2"], [2, "4"]]) {
      svg.append("line").attr("class", "lab-grid").attr("x1", x(k)).attr("x2", x(k)).attr("y1", y(-1)).attr("y2", y(1));
      svg.append("text").attr("class", "lab-tick").attr("x", x(k)).attr("y", y(-1) + 18).text(text);
    }
    for (const k of [-1, 0, 1]) {
      svg.append("line").attr("class", "lab-grid").attr("x1", x(-2)).attr("x2", x(2)).attr("y1", y(k)).attr("y2", y(k));
      svg.append("text").attr("class", "lab-number").attr("x", LEFT - 6).attr("y", y(k) + 5).text(parts.plain(k, 0));
    }
    svg.append("text").attr("class", "lab-tick").attr("x", x(0)).attr("y", HEIGHT - 4).text("b/a");
    svg.append("text").attr("class", "lab-tick").attr("x", 12).attr("y", y(0.5) + 5).text("ρ");
    return {
      svg: svg, x: x, y: y,
      back: (px, py) => [
        Math.min(Math.max((px - LEFT) / (WIDTH - LEFT - 8) * 2 * REACH - REACH, -REACH), REACH),
        Math.min(Math.max(1 - 2 * (py - TOP) / (HEIGHT - TOP - BOTTOM), -1), 1),
      ],
      // Chosen stands still on ρ = r a/b, rejected on ρ = b/(r a): the two sides of the tent, with its top at r.
      set: (logR) => {
        const across = Array.from({ length: 161 }, (_, k) => -REACH + k * REACH / 80);
        const side = across.map((at) => [at, Math.min(1, 2 ** -Math.abs(at - logR))]);
        const line = (points) => points.map(([at, rho]) => `${x(at)},${y(rho)}`).join(" L");
        const under = (points, floor) => points.length < 2 ? "" :
          `M${x(points[0][0])},${y(floor)} L${line(points)} L${x(points[points.length - 1][0])},${y(floor)} Z`;
        const shapes = {
          ideal: under(side, -1),
          both_up: under(side.filter(([at]) => at <= logR), 1),
          both_down: under(side.filter(([at]) => at >= logR), 1),
        };
        for (const [name, path] of regions) path.attr("d", shapes[name]);
        edge.attr("d", `M${line(side)}`);
      },
    };
  }

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.tent = function (lab, data) {
    const body = parts.element(lab, "div", "lab-body");
    const left = parts.element(body, "div", "lab-side"), right = parts.element(body, "div", "lab-side");
    const on = parts.plane(left, 4, "Two gradients in a plane of two parameters");
    const step = parts.arrow(on, "lab-step", "step");
    const plane = tent(right);
    const below = parts.element(body, "div", "lab-wide");
    const row = parts.element(below, "div", "lab-control");
    const losses = data.losses ? parts.choice(row, "loss", [["", "one of my own"], ...data.losses.map((one) => [one.r, one.title])]) : null;
    const ratio = parts.slider(row, "ratio r of the two weights", -100, 100, 0, (k) => (2 ** (k / 50)).toFixed(2));
    const bars = parts.pairBars(below, 4, "Changes of both answers and of their margin per unit of step");
    const said = parts.element(below, "p", "lab-said");
    said.setAttribute("aria-live", "polite");

    let own = 1; // r, exactly: the slider knows it to a fiftieth of an octave
    const dot = plane.svg.append("circle").attr("class", "lab-grip lab-dot").attr("r", 12)
      .attr("tabindex", 0).attr("role", "slider").attr("aria-label", "The pair in the plane of norm ratio and cosine")
      .attr("aria-valuemin", -1).attr("aria-valuemax", 1);
    const mark = plane.svg.append("circle").attr("class", "lab-mark").attr("r", 5);
    const draw = () => {
      const w = chosen.value(), l = rejected.value(), r = own;
      const pair = geometry.fromVectors(w, l), found = geometry.rates(pair, r, 1), rho = geometry.cosine(pair);
      step.place(r * w[0] - l[0], r * w[1] - l[1]);
      bars.set(found.chosen, found.rejected);
      plane.set(Math.log2(r));
      const place = Math.log2(Math.sqrt(pair.b2 / pair.a2));
      const known = Number.isFinite(place) && Number.isFinite(rho);
      const inside = Math.min(Math.max(known ? place : 0, -REACH), REACH);
      for (const circle of [dot, mark]) {
        circle.attr("cx", plane.x(inside)).attr("cy", plane.y(known ? rho : 0)).attr("visibility", known ? null : "hidden");
      }
      dot.attr("aria-valuenow", known ? rho.toFixed(2) : 0)
        .attr("aria-valuetext", known ? `b/a ${(2 ** place).toFixed(2)}, cosine ${parts.signed(rho)}` : "no place");
      const name = geometry.caseOf(pair, r, 1), [low, high] = geometry.band(pair);
      const band = pair.c > 0 ? `Safe ratios: from ${low.toFixed(2)} to ${high.toFixed(2)}.` : "Every ratio is safe.";
      said.textContent = `${SAID[name]} a² = ${pair.a2.toFixed(2)}, b² = ${pair.b2.toFixed(2)}, `
        + `c = ${parts.plain(pair.c, 2)}, ρ = ${known ? parts.signed(rho) : "none"}, r = ${r.toFixed(2)}. ${band}`;
      lab.dataset.case = name;
      lab.dataset.values = JSON.stringify([found.chosen, found.rejected, low, Number.isFinite(high) ? high : null, r]);
    };
    const rejected = parts.handle(on, "lab-rejected", "B", "Gradient of B, the rejected answer", data.rejected, () => draw());
    const chosen = parts.handle(on, "lab-chosen", "A", "Gradient of A, the chosen answer", data.chosen, () => draw());

    // The point moves B's arrow: A's stays, and B's takes the length and the angle that the place asks for.
    const moveTo = (place, rho) => {
      const w = chosen.value(), a = Math.hypot(w[0], w[1]), b = a * 2 ** place;
      if (a === 0) return;
      const l = rejected.value(), turn = w[0] * l[1] - w[1] * l[0] < 0 ? -1 : 1;
      const sine = turn * Math.sqrt(Math.max(0, 1 - rho * rho));
      const [ux, uy] = [w[0] / a, w[1] / a];
      const to = [b * (rho * ux - sine * uy), b * (rho * uy + sine * ux)];
      const fits = Math.min(1, on.reach / Math.max(Math.abs(to[0]), Math.abs(to[1])));
      rejected.place(fits * to[0], fits * to[1], false, true);
    };
    const where = () => {
      const pair = geometry.fromVectors(chosen.value(), rejected.value());
      return [Math.log2(Math.sqrt(pair.b2 / pair.a2)), geometry.cosine(pair)];
    };
    dot.call(d3.drag().on("drag", (event) => moveTo(...plane.back(event.x, event.y)))
      .subject(() => ({ x: Number(dot.attr("cx")), y: Number(dot.attr("cy")) })));
    const keys = { ArrowLeft: [-0.25, 0], ArrowRight: [0.25, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    dot.on("keydown", (event) => {
      const moved = keys[event.key];
      if (!moved) return;
      event.preventDefault();
      const [place, rho] = where();
      moveTo(Math.min(Math.max(place + moved[0], -REACH), REACH), Math.min(Math.max(rho + moved[1], -1), 1));
    });
    ratio.onChange(() => {
      own = 2 ** (ratio.value() / 50);
      if (losses) losses.input.value = "";
      draw();
    });
    if (losses) losses.onChange(() => {
      if (losses.value() === "") return;
      own = Number(losses.value());
      ratio.set(Math.round(50 * Math.log2(own)));
      draw();
    });
    draw();
  };
})();
