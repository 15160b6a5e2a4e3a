"use strict";
/* Line charts: bands, marks, a cursor that reads values by mouse or keys, zoom, and lines that can be switched off. */

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 58, right: 16, right2: 62, top: 10, bottom: 38 };
const CHART_HEIGHT = 260;
const FEW_POINTS = 40;

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function shape(name, attributes, parent, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

/* Numbers as short as a tick or a readout needs them: 1.2M, 0.0031, -45.2 */
function short(value) {
  if (value === null || !Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(4)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(4)}k`;
  if (size > 0 && size < 1e-3) return value.toExponential(1);
  return String(+value.toPrecision(4));
}

function ticksBetween(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((each) => each >= rough);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) ticks.push(+(at * step).toPrecision(12));
  return ticks;
}

function powersBetween(low, high) {
  const ticks = [];
  for (let power = Math.ceil(Math.log10(low) - 1e-9); power <= Math.log10(high) + 1e-9; power += 1) ticks.push(10 ** power);
  return ticks.length > 1 ? ticks : ticksBetween(low, high, 4).filter((tick) => tick > 0);
}

/* An axis: what of a value's range lies where, and where its ticks are. */
function axis(low, high, from, to, log) {
  const inner = log ? Math.log10 : (value) => value;
  const [a, b] = [inner(low), inner(high)];
  const place = (value) => from + ((inner(value) - a) / (b - a || 1)) * (to - from);
  const back = (pixel) => {
    const value = a + ((pixel - from) / (to - from)) * (b - a);
    return log ? 10 ** value : value;
  };
  return { low, high, place, back, ticks: (about) => (log ? powersBetween(low, high) : ticksBetween(low, high, about)) };
}

class LineChart {
  constructor(host, chart, looks) {
    Object.assign(this, { chart, looks, hidden: new Set(), zoom: null, logY: false, cursor: null });
    this.xs = [...new Set(chart.lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const figure = element("figure", { class: "chart", style: "margin: 0" });
    figure.append(element("h3", {}, chart.title), element("p", { class: "about" }, chart.about));
    this.plot = element("div", { class: "plot", tabindex: "0", role: "group" });
    this.plot.setAttribute("aria-label", `${chart.title}. Left and right keys read values, plus and minus zoom, 0 shows all.`);
    this.readout = element("div", { class: "readout", "aria-live": "polite" });
    figure.append(this.plot, this.legend(), this.readout);
    host.append(figure);
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.plot);
    this.draw();
  }

  look(line) {
    return this.looks[line.style % this.looks.length];
  }

  legend() {
    const legend = element("div", { class: "legend" });
    this.chart.lines.forEach((line, index) => {
      const button = element("button", { type: "button", "aria-pressed": "true" });
      const { colour, dash } = this.look(line);
      const swatch = shape("svg", { viewBox: "0 0 26 8", "aria-hidden": "true" }, button);
      if (line.points) shape("circle", { cx: 13, cy: 4, r: 3.5, fill: colour }, swatch);
      else shape("line", { x1: 0, x2: 26, y1: 4, y2: 4, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash }, swatch);
      button.append(line.name);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(index)) this.hidden.add(index);
        button.setAttribute("aria-pressed", String(!this.hidden.has(index)));
        this.draw();
      });
      legend.append(button);
    });
    legend.append(...this.tools());
    return legend;
  }

  tools() {
    const tools = [];
    if (this.chart.lines.every((line) => [...line.y, ...(line.low ?? [])].every((value) => value === null || value > 0))) {
      const log = element("button", { type: "button", class: "tool", "aria-pressed": "false" }, "log");
      log.addEventListener("click", () => {
        this.logY = !this.logY;
        log.setAttribute("aria-pressed", String(this.logY));
        this.draw();
      });
      tools.push(log);
    }
    this.reset = element("button", { type: "button", class: "tool", hidden: "" }, "show all");
    this.reset.addEventListener("click", () => this.setZoom(null));
    return [...tools, this.reset];
  }

  /* What the reader chose, by which a chart of the same lines with more points goes on. */
  state() {
    const hidden = this.chart.lines.filter((_, index) => this.hidden.has(index)).map((line) => line.name);
    return { hidden, zoom: this.zoom, logY: this.logY, cursor: this.cursor };
  }

  restore({ hidden, zoom, logY, cursor }) {
    const buttons = this.plot.parentElement.querySelectorAll(".legend button:not(.tool)");
    this.chart.lines.forEach((line, index) => { if (hidden.includes(line.name)) buttons[index].click(); });
    if (logY) [...this.plot.parentElement.querySelectorAll(".tool")].find((tool) => tool.textContent === "log")?.click();
    this.setZoom(zoom);
    this.setCursor(cursor);
  }

  setZoom(range) {
    this.zoom = range;
    this.reset.hidden = range === null;
    this.draw();
  }

  visible() {
    return this.chart.lines.filter((_, index) => !this.hidden.has(index));
  }

  axes(width) {
    const right = this.chart.second ? MARGIN.right2 : MARGIN.right;
    const whole = this.xs.length ? [this.xs[0], this.xs[this.xs.length - 1]] : [0, 1];
    let [x0, x1] = this.zoom ?? whole;
    if (this.chart.ticks.length) [x0, x1] = [-0.5, this.chart.ticks.length - 0.5];
    else if (x0 === x1) [x0, x1] = this.chart.log_x ? [x0 / 2, x1 * 2] : [x0 - 1, x1 + 1];
    else if (this.zoom === null && this.chart.lines.some((line) => line.points)) [x0, x1] = this.withRoom(x0, x1);
    let [y0, y1] = [Infinity, -Infinity];
    for (const line of this.visible()) {
      line.x.forEach((x, i) => {
        if (x < x0 || x > x1) return;
        for (const value of [line.y[i], line.low?.[i], line.high?.[i]]) {
          if (value === null || value === undefined) continue;
          [y0, y1] = [Math.min(y0, value), Math.max(y1, value)];
        }
      });
    }
    if (y0 > y1) [y0, y1] = [0, 1];
    if (y0 === y1) [y0, y1] = this.logY ? [y0 / 2, y1 * 2] : [y0 - (Math.abs(y0) / 10 || 1), y1 + (Math.abs(y1) / 10 || 1)];
    else if (!this.logY) [y0, y1] = [y0 - (y1 - y0) * 0.05, y1 + (y1 - y0) * 0.05];
    return {
      x: axis(x0, x1, MARGIN.left, width - right, this.chart.log_x),
      y: axis(y0, y1, CHART_HEIGHT - MARGIN.bottom, MARGIN.top, this.logY),
      right: width - right,
    };
  }

  /* Points at either end are whole where the axis goes on a little. */
  withRoom(x0, x1) {
    if (this.chart.log_x) return [x0 / (x1 / x0) ** 0.04, x1 * (x1 / x0) ** 0.04];
    return [x0 - (x1 - x0) * 0.04, x1 + (x1 - x0) * 0.04];
  }

  draw() {
    const width = Math.max(this.plot.clientWidth, 240);
    const axes = this.axes(width);
    this.now = axes;
    this.plot.replaceChildren();
    const svg = shape("svg", { height: CHART_HEIGHT, viewBox: `0 0 ${width} ${CHART_HEIGHT}`, "aria-hidden": "true" }, this.plot);
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    shape("rect", { x: MARGIN.left, y: 0, width: axes.right - MARGIN.left, height: CHART_HEIGHT }, shape("clipPath", { id: clip }, svg));
    this.drawGrid(svg, axes, width);
    const inside = shape("g", { "clip-path": `url(#${clip})` }, svg);
    this.drawMarks(inside, axes);
    for (const line of this.visible()) this.drawLine(inside, line, axes);
    this.over = shape("g", {}, svg);
    this.drawCursor();
  }

  drawGrid(svg, { x, y, right }, width) {
    const bottom = CHART_HEIGHT - MARGIN.bottom;
    for (const tick of y.ticks(5)) {
      const at = y.place(tick);
      shape("line", { x1: MARGIN.left, x2: right, y1: at, y2: at, stroke: "#e4e7eb" }, svg);
      shape("text", { x: MARGIN.left - 6, y: at + 4, "text-anchor": "end" }, svg, short(tick));
    }
    const names = this.chart.ticks;
    for (const tick of names.length ? names.keys() : x.ticks(Math.max(2, Math.floor((right - MARGIN.left) / 80)))) {
      const at = x.place(tick);
      shape("line", { x1: at, x2: at, y1: bottom, y2: bottom + 4, stroke: "#57606a" }, svg);
      shape("text", { x: at, y: bottom + 16, "text-anchor": "middle" }, svg, names.length ? names[tick].slice(0, 14) : short(tick));
    }
    shape("line", { x1: MARGIN.left, x2: right, y1: bottom, y2: bottom, stroke: "#57606a" }, svg);
    shape("text", { x: (MARGIN.left + right) / 2, y: CHART_HEIGHT - 4, "text-anchor": "middle" }, svg, this.chart.x_label);
    this.sideways(svg, 11, this.chart.y_label);
    if (this.chart.second) this.drawSecond(svg, y, right, width);
  }

  drawSecond(svg, y, right, width) {
    const [label, scale, shift] = this.chart.second;
    const [low, high] = [scale * (y.low + shift), scale * (y.high + shift)];
    for (const tick of ticksBetween(Math.min(low, high), Math.max(low, high), 5)) {
      shape("text", { x: right + 6, y: y.place(tick / scale - shift) + 4 }, svg, short(tick));
    }
    this.sideways(svg, width - 4, label);
  }

  sideways(svg, x, text) {
    const middle = (CHART_HEIGHT - MARGIN.bottom) / 2;
    shape("text", { x, y: middle, "text-anchor": "middle", transform: `rotate(-90 ${x} ${middle})` }, svg, text);
  }

  drawMarks(inside, { x }) {
    for (const mark of this.chart.marks) {
      const at = x.place(mark.x);
      const line = shape("line", { x1: at, x2: at, y1: MARGIN.top, y2: CHART_HEIGHT - MARGIN.bottom, stroke: "#57606a", "stroke-dasharray": "2 2" }, inside);
      shape("title", {}, line, `${mark.name} at ${short(mark.x)}`);
    }
  }

  drawLine(inside, line, { x, y }) {
    const { colour, dash } = this.look(line);
    if (line.low && line.high) {
      const up = line.x.map((at, i) => [at, line.high[i]]);
      const down = line.x.map((at, i) => [at, line.low[i]]).reverse();
      const around = [...up, ...down].filter(([, value]) => value !== null);
      const points = around.map(([at, value]) => `${x.place(at).toFixed(1)},${y.place(value).toFixed(1)}`).join(" ");
      shape("polygon", { points, fill: colour, opacity: 0.15 }, inside);
    }
    let path = "";
    line.x.forEach((at, i) => {
      if (line.y[i] === null) return;
      const begins = path === "" || line.y[i - 1] === null;
      path += `${begins ? "M" : "L"}${x.place(at).toFixed(1)} ${y.place(line.y[i]).toFixed(1)}`;
      if (line.points || line.x.length < FEW_POINTS) {
        shape("circle", { cx: x.place(at), cy: y.place(line.y[i]), r: line.points ? 4.5 : 2.2, fill: colour, "fill-opacity": line.points ? 0.65 : 1 }, inside);
      }
    });
    if (!line.points && path) shape("path", { d: path, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }, inside);
  }

  /* The cursor stands at one of the x at which some line has a value. */
  setCursor(x) {
    this.cursor = x;
    this.drawCursor();
  }

  drawCursor() {
    this.over.replaceChildren();
    const x = this.cursor;
    if (x === null || x < this.now.x.low || x > this.now.x.high) {
      this.readout.textContent = "";
      return;
    }
    const at = this.now.x.place(x);
    shape("line", { x1: at, x2: at, y1: MARGIN.top, y2: CHART_HEIGHT - MARGIN.bottom, stroke: "#1b1f24" }, this.over);
    const told = [];
    for (const line of this.visible()) {
      const near = nearest(line.x, x);
      if (near < 0 || line.y[near] === null) continue;
      if (Math.abs(this.now.x.place(line.x[near]) - at) > 25) continue;
      shape("circle", { cx: this.now.x.place(line.x[near]), cy: this.now.y.place(line.y[near]), r: 4, fill: this.look(line).colour }, this.over);
      const interval = line.low && line.high ? ` [${short(line.low[near])}, ${short(line.high[near])}]` : "";
      told.push(`${line.name} ${short(line.y[near])}${interval}`);
    }
    const where = this.chart.ticks[x] ?? (Math.abs(x) >= 1000 ? x.toLocaleString("en") : short(x));
    this.readout.textContent = `${this.chart.x_label} ${where}: ${told.join("; ")}`;
  }

  listen() {
    let from = null;
    const inPlot = (event) => ((event.clientX - this.plot.getBoundingClientRect().left) / this.plot.clientWidth) * Math.max(this.plot.clientWidth, 240);
    this.plot.addEventListener("pointermove", (event) => {
      const x = this.now.x.back(inPlot(event));
      const near = nearest(this.xs, x);
      if (near >= 0) this.setCursor(this.xs[near]);
      if (from === null) return;
      const [a, b] = [this.now.x.place(from), inPlot(event)].sort((one, other) => one - other);
      shape("rect", { x: a, y: MARGIN.top, width: b - a, height: CHART_HEIGHT - MARGIN.bottom - MARGIN.top, fill: "#0072b2", opacity: 0.15 }, this.over);
    });
    this.plot.addEventListener("pointerdown", (event) => { 
      if (event.pointerType !== "mouse") return;
      from = this.now.x.back(inPlot(event));
      this.plot.setPointerCapture(event.pointerId);  // the button may come up elsewhere
    });
    this.plot.addEventListener("pointerup", (event) => {
      if (from === null) return;
      const [a, b] = [from, this.now.x.back(inPlot(event))].sort((one, other) => one - other);
      from = null;
      if (this.now.x.place(b) - this.now.x.place(a) > 8 && !this.chart.ticks.length) this.setZoom([a, b]);
      else this.drawCursor();
    });
    this.plot.addEventListener("dblclick", () => this.setZoom(null));
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    const inside = this.xs.filter((x) => x >= this.now.x.low && x <= this.now.x.high);
    const at = this.cursor === null ? -1 : nearest(inside, this.cursor);
    const moves = { ArrowLeft: Math.max(at - 1, 0), ArrowRight: Math.min(at + 1, inside.length - 1), Home: 0, End: inside.length - 1 };
    if (event.key in moves && inside.length) this.setCursor(inside[moves[event.key]]);
    else if ("+=-".includes(event.key) && !this.chart.ticks.length && !this.chart.log_x) this.zoomBy(event.key === "-" ? 2 : 0.5);
    else if (event.key === "0") this.setZoom(null);
    else return;
    event.preventDefault();
  }

  zoomBy(factor) {
    const { low, high } = this.now.x;
    const middle = this.cursor ?? (low + high) / 2;
    const [first, last] = [this.xs[0], this.xs[this.xs.length - 1]];
    const range = [Math.max(first, middle + (low - middle) * factor), Math.min(last, middle + (high - middle) * factor)];
    if (range[0] >= range[1]) return;
    this.setZoom(range[0] <= first && range[1] >= last ? null : range);
  }
}

/* Index of what is nearest to a value in a sorted list, -1 in an empty one. */
function nearest(sorted, value) {
  let best = -1;
  sorted.forEach((each, index) => { if (best < 0 || Math.abs(each - value) < Math.abs(sorted[best] - value)) best = index; });
  return best;
}
