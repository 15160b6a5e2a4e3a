"use strict";
/* One episode, step by step: the picture, and what each agent did and thought of its actions. */

const STEP_MS = 250;

class Episode {
  constructor(host, episode) {
    Object.assign(this, { episode, steps: episode.actions.length, at: 0, timer: null });
    this.slider = element("input", { type: "range", min: 0, max: this.steps, value: 0, "aria-label": "step of the episode" });
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.playing = element("button", { type: "button", class: "tool", "aria-pressed": "false" }, "play");
    this.playing.addEventListener("click", () => this.toggle());
    const tools = element("div", { class: "tools" });
    tools.append(this.button("first", () => 0), this.button("back", () => this.at - 1), this.playing, this.button("on", () => this.at + 1));
    this.told = element("p", { "aria-live": "polite" });
    const film = element("div", { class: "film" });
    if (episode.frames.length) {
      this.picture = element("img", { alt: "the environment at this step" });
      film.append(this.picture);
    }
    film.append(this.slider, tools, this.told);
    this.numbers = element("div", { class: "numbers" });
    const stage = element("div", { class: "stage" });
    stage.append(film, this.numbers);
    host.append(stage);
    this.ranges = episode.agents.map((_, agent) => {
      const all = episode.values.flatMap((step) => step[agent]).filter((value) => value !== null);
      return [Math.min(...all), Math.max(...all)];
    });
    this.go(0);
  }

  button(name, where) {
    const made = element("button", { type: "button" }, name);
    made.addEventListener("click", () => this.go(where()));
    return made;
  }

  toggle() {
    if (this.timer !== null) return this.stop();
    if (this.at >= this.steps) this.go(0);
    this.playing.setAttribute("aria-pressed", "true");
    this.playing.textContent = "pause";
    this.timer = setInterval(() => (this.at >= this.steps ? this.stop() : this.go(this.at + 1)), STEP_MS);
    return undefined;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.playing.setAttribute("aria-pressed", "false");
    this.playing.textContent = "play";
  }

  state() {
    return { at: this.at, plays: this.timer !== null };
  }

  restore({ at, plays }) {
    this.go(at);
    if (plays && this.at < this.steps) this.toggle();
  }

  go(step) {
    this.at = clamp(step, this.steps + 1);
    this.slider.value = this.at;
    const frame = this.episode.frames[Math.min(this.at, this.episode.frames.length - 1)];
    if (frame) this.picture.src = frame;
    const soFar = this.episode.rewards.slice(0, this.at).reduce((sum, reward) => sum + reward, 0);
    this.told.textContent = `step ${this.at} of ${this.steps}, return so far ${short(soFar)}${this.at === this.steps ? ", the end" : ""}`;
    this.numbers.replaceChildren(this.table(Math.min(this.at, this.steps - 1)));
  }

  table(step) {
    const { agents, owners, values, actions } = this.episode;
    const table = element("table");
    table.append(element("caption", {}, "Each agent's value of each action; what it takes is framed, - is not available"));
    const head = element("tr");
    const names = ["agent", "owner", ...values[0][0].keys()].map((name) => element("th", { scope: "col" }, String(name)));
    head.append(...names);
    table.append(head);
    agents.forEach((name, agent) => {
      const row = element("tr");
      row.append(element("th", { scope: "row" }, name), element("th", {}, String(owners[agent])));
      const [low, high] = this.ranges[agent];
      values[step][agent].forEach((value, action) => {
        const share = value === null ? 0 : Math.round((100 * (value - low)) / (high - low || 1));
        const cell = element("td", { style: `--fill: ${share}%` }, value === null ? "-" : short(value));
        if (action === actions[step][agent]) cell.className = "chosen";
        row.append(cell);
      });
      table.append(row);
    });
    return table;
  }
}
