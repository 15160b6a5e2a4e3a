"use strict";
/* Which owner keeps which weight: a pixel for each weight, outputs down and inputs across. */

const BOTH = "#1b1f24", ONLY_FIRST = "#d55e00", ONLY_SECOND = "#56b4e9", NEITHER = "#f3f4f6";
const MOST_ZOOM = 24;
const MOST_HEIGHT = 320;  // pixels of a layer at first

class MaskPicture {
  constructor(host, layers) {
    Object.assign(this, { layers, cell: null });
    this.layer = this.choice("layer", layers.map((layer) => layer.name), () => this.setLayer());
    this.view = this.choice("show", ["how many owners keep it", "two owners", "one owner"], () => this.draw());
    this.first = this.choice("owner", [], () => this.draw());
    this.second = this.choice("and", [], () => this.draw());
    this.zoom = element("input", { type: "range", min: 1, max: MOST_ZOOM, step: 1 });
    this.zoom.addEventListener("input", () => this.scale());
    const zoom = element("label", {}, "zoom");
    zoom.append(this.zoom);
    const tools = element("div", { class: "tools" });
    tools.append(...[this.layer, this.view, this.first, this.second].map((select) => select.parentElement), zoom);
    this.frame = element("div", { class: "mask-frame", tabindex: "0", role: "group" });
    this.frame.setAttribute("aria-label", "Weights, outputs down and inputs across. The arrow keys walk over them, plus and minus zoom.");
    this.inner = element("div", { class: "mask-inner" });
    this.canvas = element("canvas");
    this.box = element("div", { class: "mask-cell", hidden: "" });
    this.inner.append(this.canvas, this.box);
    this.frame.append(this.inner);
    this.key = element("div", { class: "tools" });
    this.readout = element("div", { class: "readout", "aria-live": "polite" });
    host.append(tools, this.frame, this.key, this.readout);
    this.listen();
    this.setLayer();
  }

  choice(label, names, changed) {
    const select = element("select");
    fill(select, names);
    select.addEventListener("change", changed);
    const around = element("label", {}, label);
    around.append(select);
    return select;
  }

  setLayer() {
    const layer = this.layers[this.layer.selectedIndex];
    this.now = layer;
    this.bits ??= new Map();
    if (!this.bits.has(layer.name)) this.bits.set(layer.name, unpack(layer));
    this.kept = this.bits.get(layer.name);
    fill(this.first, layer.owners);
    fill(this.second, layer.owners);
    this.second.selectedIndex = Math.min(1, layer.owners.length - 1);
    this.cell = null;
    const fits = Math.floor((this.frame.parentElement.clientWidth - 20) / layer.inputs);
    this.zoom.value = Math.max(1, Math.min(fits, Math.ceil(MOST_HEIGHT / layer.outputs), MOST_ZOOM));
    this.draw();
  }

  /* What the reader chose, by which the same layers' picture of other weights goes on. */
  state() {
    const chosen = [this.layer, this.view, this.first, this.second].map((select) => select.selectedIndex);
    return { chosen, zoom: this.zoom.value, cell: this.cell };
  }

  restore({ chosen: [layer, view, first, second], zoom, cell }) {
    if (layer >= this.layers.length) return;
    this.layer.selectedIndex = layer;
    this.setLayer();
    [this.view.selectedIndex, this.first.selectedIndex, this.second.selectedIndex] = [view, first, second];
    this.zoom.value = zoom;
    this.cell = cell;
    this.draw();
  }

  keeps(owner, output, input) {
    const { outputs, inputs } = this.now;
    return this.kept[(owner * outputs + output) * inputs + input];
  }

  /* The colours of the view, and which of them a weight has. */
  paint() {
    const { owners } = this.now;
    const [a, b] = [this.first.selectedIndex, this.second.selectedIndex];
    if (this.view.selectedIndex === 1) {
      const colours = [[NEITHER, "neither"], [ONLY_FIRST, `only ${owners[a]}`], [ONLY_SECOND, `only ${owners[b]}`], [BOTH, "both"]];
      return { colours, of: (output, input) => this.keeps(a, output, input) + 2 * this.keeps(b, output, input) };
    }
    if (this.view.selectedIndex === 2) {
      return { colours: [[NEITHER, "left out"], [BOTH, `kept by ${owners[a]}`]], of: (output, input) => this.keeps(a, output, input) };
    }
    const colours = [...owners.keys(), owners.length].map((count) => {
      const name = count === owners.length ? `all ${count}: they agree` : count === 0 ? "none: they agree" : `${count}`;
      return [ramp(count / owners.length), name];
    });
    const of = (output, input) => owners.reduce((sum, _, owner) => sum + this.keeps(owner, output, input), 0);
    return { colours, of };
  }

  draw() {
    const { outputs, inputs } = this.now;
    const one = this.view.selectedIndex === 0;
    this.first.parentElement.hidden = one;
    this.second.parentElement.hidden = this.view.selectedIndex !== 1;
    const { colours, of } = this.paint();
    const rgb = colours.map(([colour]) => [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16)));
    const counts = colours.map(() => 0);
    this.canvas.width = inputs;
    this.canvas.height = outputs;
    const context = this.canvas.getContext("2d");
    const image = context.createImageData(inputs, outputs);
    for (let output = 0; output < outputs; output += 1) {
      for (let input = 0; input < inputs; input += 1) {
        const which = of(output, input);
        counts[which] += 1;
        image.data.set([...rgb[which], 255], 4 * (output * inputs + input));
      }
    }
    context.putImageData(image, 0, 0);
    this.key.replaceChildren(...colours.map(([colour, name], which) => {
      const key = element("span", { class: "key" });
      const share = ((100 * counts[which]) / (outputs * inputs)).toFixed(1);
      key.append(element("i", { style: `background: ${colour}` }), `${name} (${share}%)`);
      return key;
    }));
    this.scale();
  }

  scale() {
    const zoom = Number(this.zoom.value);
    this.canvas.style.width = `${this.now.inputs * zoom}px`;
    this.canvas.style.height = `${this.now.outputs * zoom}px`;
    this.select(this.cell);
  }

  select(cell) {
    this.cell = cell;
    this.box.hidden = cell === null;
    if (cell === null) {
      this.readout.textContent = `${this.now.name}: ${this.now.outputs} outputs down, ${this.now.inputs} inputs across`;
      return;
    }
    const zoom = Number(this.zoom.value);
    const [output, input] = cell;
    Object.assign(this.box.style, { left: `${input * zoom}px`, top: `${output * zoom}px`, width: `${Math.max(zoom, 4)}px`, height: `${Math.max(zoom, 4)}px` });
    const keepers = this.now.owners.filter((_, owner) => this.keeps(owner, output, input));
    this.readout.textContent = `output ${output}, input ${input}: ${keepers.length ? `kept by ${keepers.join(", ")}` : "kept by nobody"}`;
  }

  listen() {
    this.canvas.addEventListener("pointermove", (event) => {
      const zoom = Number(this.zoom.value);
      const output = Math.min(Math.floor(event.offsetY / zoom), this.now.outputs - 1);
      const input = Math.min(Math.floor(event.offsetX / zoom), this.now.inputs - 1);
      if (output >= 0 && input >= 0) this.select([output, input]);
    });
    this.frame.addEventListener("keydown", (event) => this.onKey(event));
  }

  onKey(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      const [down, right] = moves[event.key];
      const [output, input] = this.cell ?? [-down, -right];
      this.select([clamp(output + down, this.now.outputs), clamp(input + right, this.now.inputs)]);
      this.box.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else if ("+=-".includes(event.key)) {
      this.zoom.value = Number(this.zoom.value) + (event.key === "-" ? -1 : 1);
      this.scale();
    } else return;
    event.preventDefault();
  }
}

function clamp(place, count) {
  return Math.max(0, Math.min(place, count - 1));
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => element("option", {}, name)));
}

/* Light to dark blue, told apart by their lightness alone. */
function ramp(share) {
  const [light, dark] = [[243, 244, 246], [3, 37, 76]];
  return `#${light.map((from, i) => Math.round(from + (dark[i] - from) * share).toString(16).padStart(2, "0")).join("")}`;
}

/* A byte for each weight, owner by owner and output by output, from bits whose rows end on whole bytes. */
function unpack(layer) {
  const bytes = Uint8Array.from(atob(layer.bits), (letter) => letter.charCodeAt(0));
  const perRow = Math.ceil(layer.inputs / 8);
  const rows = layer.owners.length * layer.outputs;
  const kept = new Uint8Array(rows * layer.inputs);
  for (let row = 0; row < rows; row += 1) {
    for (let input = 0; input < layer.inputs; input += 1) {
      kept[row * layer.inputs + input] = (bytes[row * perRow + (input >> 3)] >> (7 - (input & 7))) & 1;
    }
  }
  return kept;
}
