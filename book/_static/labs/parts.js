/* What the labs are made of: a plane with arrows that can be dragged, bars, and numbers as the text has them. */
(function () {
  "use strict";

  const ROWS = { width: 320, left: 98, right: 62 };

  // As in the text: two decimals, a sign, and a true minus.
  function signed(value, digits) {
    const text = Math.abs(value).toFixed(digits === undefined ? 2 : digits);
    if (Number(text) === 0) return text;
    return (value < 0 ? "\u2212" : "+") + text;
  }

  function plain(value, digits) {
    return (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits === undefined ? 1 : digits);
  }

  function element(parent, tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  }

  // A square plane from -reach to reach. `at(x, y)` gives its pixels.
  function plane(parent, reach, label) {
    const size = 320;
    const scale = size / (2 * reach);
    const at = (x, y) => [size / 2 + x * scale, size / 2 - y * scale];
    const svg = d3.select(parent).append("svg").attr("class", "lab-plane")
      .attr("viewBox", `0 0 ${size} ${size}`).attr("role", "group").attr("aria-label", label);
    for (let k = Math.ceil(-reach); k <= reach; k++) {
      const name = k === 0 ? "lab-axis" : "lab-grid";
      const [[x1, y1], [x2, y2]] = [at(k, -reach), at(k, reach)];
      svg.append("line").attr("class", name).attr("x1", x1).attr("y1", y1).attr("x2", x2).attr("y2", y2);
      svg.append("line").attr("class", name).attr("x1", y2).attr("y1", x1).attr("x2", y1).attr("y2", x1);
    }
    return { svg: svg, at: at, reach: reach, back: (px, py) => [(px - size / 2) / scale, (size / 2 - py) / scale] };
  }

  // An arrow from the origin: `place(x, y)` moves its tip.
  function arrow(on, className, name) {
    const group = on.svg.append("g").attr("class", `lab-arrow ${className}`);
    const shaft = group.append("line"), head = group.append("path"), label = group.append("text").text(name);
    const place = (x, y) => {
      const [x0, y0] = on.at(0, 0), [x1, y1] = on.at(x, y);
      const length = Math.hypot(x1 - x0, y1 - y0) || 1;
      const [ux, uy] = [(x1 - x0) / length, (y1 - y0) / length];
      const tip = Math.min(11, length);
      shaft.attr("x1", x0).attr("y1", y0).attr("x2", x1 - ux * tip * 0.8).attr("y2", y1 - uy * tip * 0.8);
      const [bx, by] = [x1 - ux * tip, y1 - uy * tip];
      head.attr("d", `M${x1},${y1} L${bx - uy * 5},${by + ux * 5} L${bx + uy * 5},${by - ux * 5} Z`);
      label.attr("x", x1 + ux * 16).attr("y", y1 + uy * 16 + 5);
    };
    return { group: group, place: place };
  }

  // An arrow whose tip the reader moves, by pointer, touch or the arrow keys.
  function handle(on, className, name, said, start, moved) {
    const made = arrow(on, className, name);
    const grip = made.group.append("circle").attr("class", "lab-grip").attr("r", 16)
      .attr("tabindex", 0).attr("role", "slider").attr("aria-label", said)
      .attr("aria-valuemin", -180).attr("aria-valuemax", 180);
    let value = start.slice();
    const inside = (number) => Math.min(Math.max(Math.round(number * 10) / 10, -on.reach), on.reach);
    const place = (x, y, quiet, exact) => {
      value = exact ? [x, y] : [inside(x), inside(y)];
      made.place(value[0], value[1]);
      const [px, py] = on.at(value[0], value[1]);
      const angle = Math.round(Math.atan2(value[1], value[0]) * 180 / Math.PI);
      grip.attr("cx", px).attr("cy", py).attr("aria-valuenow", angle)
        .attr("aria-valuetext", `(${plain(value[0])}, ${plain(value[1])})`);
      if (!quiet) moved();
    };
    grip.call(d3.drag().on("drag", (event) => {
      const [x, y] = on.back(event.x, event.y);
      place(x, y);
    }).subject(() => { const [x, y] = on.at(value[0], value[1]); return { x: x, y: y }; }));
    const keys = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };
    grip.on("keydown", (event) => {
      const step = keys[event.key];
      if (!step) return;
      event.preventDefault();
      const times = event.shiftKey ? 10 : 1;
      place(value[0] + times * step[0], value[1] + times * step[1]);
    });
    place(start[0], start[1], true);
    return { value: () => value.slice(), place: place };
  }

  // A chart of rows, each with a name at its left, what `draw(group, y)` adds, and room for a number at its right.
  function rowsOf(parent, rows, step, label, draw) {
    const svg = d3.select(parent).append("svg").attr("class", "lab-bars").attr("role", "img")
      .attr("aria-label", label).attr("viewBox", `0 0 ${ROWS.width} ${rows.length * step}`);
    return {
      svg: svg,
      made: rows.map((row, i) => {
        const y = i * step + step / 2, group = svg.append("g").attr("class", row.className);
        group.append("text").attr("class", "lab-row").attr("x", ROWS.left - 10).attr("y", y + 5).text(row.name);
        const number = group.append("text").attr("class", "lab-number").attr("x", ROWS.width - 4).attr("y", y + 5);
        return Object.assign({ number: number }, draw(group, y));
      }),
    };
  }

  // Rows of bars around zero; `set(values)` moves them. The scale doubles until the longest bar has room.
  function bars(parent, rows, least, label) {
    const step = 44, room = ROWS.width - ROWS.left - ROWS.right, middle = ROWS.left + room / 2;
    const { svg, made } = rowsOf(parent, rows, step, label, (group, y) => ({
      bar: group.append("rect").attr("y", y - 9).attr("height", 18),
    }));
    svg.append("line").attr("class", "lab-axis").attr("x1", middle).attr("x2", middle)
      .attr("y1", 4).attr("y2", rows.length * step - 4);
    return {
      set: (values) => values.forEach((value, i) => {
        const most = Math.max(...values.map(Math.abs));
        const reach = least * 2 ** Math.max(0, Math.ceil(Math.log2(most / least)));
        const end = Math.abs(value) / reach * room / 2;
        made[i].bar.attr("x", value < 0 ? middle - end : middle).attr("width", end);
        made[i].number.text(signed(value));
      }),
    };
  }

  // Bars of a pair: its two answers and their margin. `set(chosen, rejected)` moves them.
  function pairBars(parent, least, label) {
    const made = bars(parent, [
      { name: "A, chosen", className: "lab-chosen" },
      { name: "B, rejected", className: "lab-rejected" },
      { name: "margin", className: "lab-margin" },
    ], least, label);
    return { set: (chosen, rejected) => made.set([chosen, rejected, chosen - rejected]) };
  }

  // Rows of bars from 0 to 1, each with a line where it began; `set(values, before)` moves them.
  function shares(parent, rows, label) {
    const room = ROWS.width - ROWS.left - ROWS.right;
    const { made } = rowsOf(parent, rows, 34, label, (group, y) => ({
      bar: group.append("rect").attr("x", ROWS.left).attr("y", y - 8).attr("height", 16),
      line: group.append("line").attr("class", "lab-before").attr("y1", y - 11).attr("y2", y + 11),
    }));
    return {
      set: (values, before) => values.forEach((value, i) => {
        const began = ROWS.left + before[i] * room;
        made[i].bar.attr("width", value * room);
        made[i].line.attr("x1", began).attr("x2", began);
        made[i].number.text(value.toFixed(2));
      }),
    };
  }

  function control(parent, name, made) {
    const box = element(parent, "span", "lab-choice");
    const label = element(box, "label", "", name);
    box.appendChild(made);
    made.id = `lab-${name.replace(/\W+/g, "-")}-${Math.random().toString(36).slice(2)}`;
    label.htmlFor = made.id;
    return box;
  }

  // A list to choose from: [value, text] each.
  function choice(parent, name, options) {
    const made = document.createElement("select");
    for (const [value, text] of options) {
      const option = element(made, "option", "", text);
      option.value = value;
    }
    control(parent, name, made);
    return {
      value: () => made.value, input: made,
      onChange: (run) => made.addEventListener("change", run),
    };
  }

  // A slider over whole numbers, with its value beside it; `shown` says how the value is written.
  function slider(parent, name, low, high, start, shown) {
    const made = document.createElement("input");
    made.type = "range";
    [made.min, made.max, made.step, made.value] = [low, high, 1, start];
    const box = control(parent, name, made);
    const output = element(box, "output", "lab-value");
    output.htmlFor = made.id;
    const say = () => {
      output.textContent = shown ? shown(Number(made.value)) : made.value;
      made.setAttribute("aria-valuetext", output.textContent);
    };
    made.addEventListener("input", say);
    say();
    return {
      value: () => Number(made.value), input: made,
      set: (value) => { made.value = value; say(); },
      onChange: (run) => made.addEventListener("input", run),
    };
  }

  window.bookParts = {
    arrow: arrow, bars: bars, choice: choice, control: control, element: element, handle: handle,
    pairBars: pairBars, plain: plain, plane: plane, shares: shares, signed: signed, slider: slider,
  };
})();
