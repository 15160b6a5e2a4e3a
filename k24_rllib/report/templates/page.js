"use strict";
/* Draws what the page's data has, each part where its section left room for it. */

(() => {
  const { sections, looks } = JSON.parse(document.getElementById("report-data").textContent);
  const part = (host) => sections[Number(host.dataset.section)];
  for (const host of document.querySelectorAll(".charts")) {
    for (const chart of part(host).charts) new LineChart(host, chart, looks);
  }
  for (const host of document.querySelectorAll(".masks")) new MaskPicture(host, part(host).masks);
  for (const host of document.querySelectorAll(".episode")) new Episode(host, part(host).episode);
  document.documentElement.dataset.drawn = "yes";
})();
