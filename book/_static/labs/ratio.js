/* The one number: where both answers end when DPO's two weights have the ratio r, from the stored runs.

   The data are the rows of one series, or several series, of which the reader chooses. */
(function () {
  "use strict";
  const parts = window.bookParts;

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.ratio = function (lab, data) {
    const all = data.series || [data];
    const body = parts.element(lab, "div", "lab-body lab-column");
    const row = parts.element(body, "div", "lab-control");
    const which = data.series ? parts.choice(row, "runs", all.map((one, k) => [k, one.title])) : null;
    let series = all[0];
    const written = (ratio) => ratio.toFixed(4).replace(/0{1,2}$/, "");
    const at = (k) => series.rows[Math.min(k, series.rows.length - 1)];
    const slider = parts.slider(row, "ratio r of the two weights", 0, series.rows.length - 1, 0,
      (k) => written(at(k).ratio));
    const holder = parts.element(body, "div");
    let bars;
    const said = parts.element(body, "p", "lab-said");
    said.setAttribute("aria-live", "polite");
    const draw = () => {
      const found = at(slider.value());
      bars.set(found.chosen[0], found.rejected[0]);
      const interval = (side) => `${parts.signed(found[side][0])} [${parts.signed(found[side][1])}, ${parts.signed(found[side][2])}]`;
      const way = found.chosen[0] < 0 ? "Both fall." : found.rejected[0] > 0 ? "Both rise." : "They part.";
      said.textContent = `${way} Chosen ${interval("chosen")}, rejected ${interval("rejected")} nats, ${series.seeds} seeds.`;
      lab.dataset.values = JSON.stringify([found.ratio, found.chosen[0], found.rejected[0]]);
    };
    // Another series has a scale of its own; its nearest ratio is shown.
    const begin = (ratio) => {
      holder.textContent = "";
      bars = parts.pairBars(holder, series.reach, "Changes of both answers over the whole training, in nats");
      slider.input.max = series.rows.length - 1;
      const near = series.rows.map((one) => Math.abs(Math.log(one.ratio / ratio)));
      slider.set(near.indexOf(Math.min(...near)));
      draw();
    };
    slider.onChange(draw);
    if (which) which.onChange(() => {
      const ratio = at(slider.value()).ratio;
      series = all[Number(which.value())];
      begin(ratio);
    });
    begin(1);
  };
})();
