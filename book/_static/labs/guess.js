/* Guess before you look: a mark on a line of numbers, then the figure, and the guess beside what was found.

   Nothing is stored or sent. A reader who comes by a link to the figure, or who prints, sees it at once. */
(function () {
  "use strict";
  const parts = window.bookParts;
  const WIDTH = 320, LEFT = 16, LINE = 34;

  window.bookLabs = window.bookLabs || {};
  window.bookLabs.guess = function (lab, data) {
    lab.classList.add("lab-guess");
    const body = parts.element(lab, "div", "lab-body lab-column");
    const svg = d3.select(body).append("svg").attr("class", "lab-bars").attr("viewBox", `0 0 ${WIDTH} 72`)
      .attr("role", "group").attr("aria-label", "Line of numbers");
    const x = (value) => LEFT + (value - data.low) / (data.high - data.low) * (WIDTH - 2 * LEFT);
    svg.append("line").attr("class", "lab-axis").attr("x1", x(data.low)).attr("x2", x(data.high)).attr("y1", LINE).attr("y2", LINE);
    for (let k = 0; k <= 4; k++) {
      const value = data.low + k * (data.high - data.low) / 4;
      svg.append("line").attr("class", "lab-axis").attr("x1", x(value)).attr("x2", x(value)).attr("y1", LINE - 4).attr("y2", LINE + 4);
      svg.append("text").attr("class", "lab-tick").attr("x", x(value)).attr("y", LINE + 24).text(parts.plain(value, data.axis));
    }
    const found = svg.append("g").attr("class", "lab-found").attr("visibility", "hidden");
    const size = (data.high - data.low) / 200;
    let value = data.low + 100 * size;
    const grip = svg.append("circle").attr("class", "lab-grip lab-guess-grip").attr("r", 13).attr("cy", LINE)
      .attr("tabindex", 0).attr("role", "slider").attr("aria-label", "Your guess")
      .attr("aria-valuemin", data.low).attr("aria-valuemax", data.high);
    const row = parts.element(body, "div", "lab-control");
    const said = parts.element(body, "p", "lab-said");
    said.setAttribute("aria-live", "polite");
    const place = (to) => {
      const steps = Math.round((Math.min(Math.max(to, data.low), data.high) - data.low) / size);
      value = data.low + steps * size;
      const text = `${parts.plain(value, data.digits)} ${data.unit}`;
      grip.attr("cx", x(value)).attr("aria-valuenow", value).attr("aria-valuetext", text);
      if (!lab.dataset.open) said.textContent = `Your guess: ${text}.`;
      lab.dataset.values = JSON.stringify([value]);
    };
    grip.call(d3.drag().on("drag", (event) => {
      if (!lab.dataset.open) place(data.low + (event.x - LEFT) / (WIDTH - 2 * LEFT) * (data.high - data.low));
    }).subject(() => ({ x: x(value), y: LINE })));
    const keys = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -20, PageUp: 20 };
    grip.on("keydown", (event) => {
      if (!keys[event.key] || lab.dataset.open) return;
      event.preventDefault();
      place(value + keys[event.key] * size);
    });

    const figure = document.getElementById(data.figure);
    const box = figure && figure.closest(".cell_output") || figure;
    const show = (guessed) => {
      lab.dataset.open = "true";
      if (box) box.classList.remove("lab-hidden");
      row.remove();
      const [middle, low, high] = data.found, inside = (v) => x(Math.min(Math.max(v, data.low), data.high));
      found.attr("visibility", null);
      if (low !== null) found.append("line").attr("x1", inside(low)).attr("x2", inside(high)).attr("y1", 12).attr("y2", 12);
      found.append("circle").attr("cx", inside(middle)).attr("cy", 12).attr("r", 5);
      const write = (v) => parts.plain(v, data.digits);
      const range = low === null ? "" : ` [${write(low)}, ${write(high)}]`;
      const hit = low !== null && value >= low && value <= high ? " Your guess lies in the interval." : "";
      said.textContent = (guessed ? `You guessed ${write(value)}. ` : "") + `Found: ${write(middle)}${range} ${data.unit}.`
        + (guessed ? hit : "");
      if (guessed && box) said.textContent += " The figure is below.";
    };
    const press = (text, guessed) => {
      const made = parts.element(row, "button", "lab-button", text);
      made.type = "button";
      made.addEventListener("click", () => show(guessed));
    };
    press("That is my guess", true);
    press("Show without a guess", false);
    place(value);
    if (box && location.hash.slice(1) !== data.figure) box.classList.add("lab-hidden");
    window.addEventListener("hashchange", () => {
      if (box && location.hash.slice(1) === data.figure && !lab.dataset.open) show(false);
    });
  };
})();
