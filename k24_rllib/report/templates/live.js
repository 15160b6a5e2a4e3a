"use strict";
/* Renews the page when the run has news; what the reader chose, and where, stays as it is. */

(() => {
  const EVERY_MS = 2000;
  const told = document.querySelector(".live");
  const key = (host, name) => `${host.dataset.section}|${name}`;
  let version = told.dataset.version;
  let busy = false;
  for (const [down, name] of [[true, "pointerdown"], [false, "pointerup"], [false, "pointercancel"]]) {
    window.addEventListener(name, () => { busy = down; }, true);
  }

  function chosen() {
    return new Map(window.drawn.map(({ host, name, part }) => [key(host, name), part.state()]));
  }

  /* The same element of the new page: the n-th that keys reach, in its section. */
  const REACHED = "a, button, select, input, [tabindex]";
  function focused() {
    const section = document.activeElement?.closest("section");
    return section ? [section.id, [...section.querySelectorAll(REACHED)].indexOf(document.activeElement)] : null;
  }

  function renew(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const [states, focus, left, top] = [chosen(), focused(), window.scrollX, window.scrollY];
    const scrolled = [...document.querySelectorAll(".wide, .mask-frame")].map((each) => [each.scrollLeft, each.scrollTop]);
    for (const { part } of window.drawn) part.stop?.();
    for (const what of ["main", "nav", "h1", "#report-data"]) document.querySelector(what).replaceWith(fresh.querySelector(what));
    document.title = fresh.title;
    window.drawPage();
    for (const { host, name, part } of window.drawn) if (states.has(key(host, name))) part.restore(states.get(key(host, name)));
    if (focus) document.getElementById(focus[0])?.querySelectorAll(REACHED)[focus[1]]?.focus({ preventScroll: true });
    document.querySelectorAll(".wide, .mask-frame").forEach((each, i) => each.scrollTo(...(scrolled[i] ?? [0, 0])));
    window.scrollTo(left, top);
    version = fresh.querySelector(".live").dataset.version;
  }

  async function look() {
    try {
      const state = await (await fetch("/state")).json();
      told.textContent = `Live: ${state.status}`;
      const reading = busy || !window.getSelection().isCollapsed;
      if (state.version !== version && !reading) renew(await (await fetch("/")).text());
    } catch {
      told.textContent = "No longer live: rllib watch has ended";
    }
    setTimeout(look, EVERY_MS);
  }
  look();
})();
