"use strict";
/* Draws what the page's data has, each part where its section left room for it. */

window.drawPage = () => {
  const drawn = [];
  const { sections, looks } = JSON.parse(document.getElementById("report-data").textContent);
  const part = (host) => sections[Number(host.dataset.section)];
  for (const host of document.querySelectorAll(".charts")) {
    for (const chart of part(host).charts) drawn.push({ host, name: chart.title, part: new LineChart(host, chart, looks) });
  }
  for (const host of document.querySelectorAll(".masks")) drawn.push({ host, name: "masks", part: new MaskPicture(host, part(host).masks) });
  for (const host of document.querySelectorAll(".episode")) drawn.push({ host, name: "episode", part: new Episode(host, part(host).episode) });
  document.documentElement.dataset.drawn = "yes";
  window.drawn = drawn;
};
window.drawPage();
