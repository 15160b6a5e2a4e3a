"""A run's page while it goes on: what it serves and to whom, and runs in every state."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.report.live import LiveReport, LiveServer
from tests.report.pages import a_line, browse, charts_of, lay_run, lines, needs_browser


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A run at 300 steps, whose last line is half written."""
    trial = lay_run(tmp_path / "exp" / "K24QMix_0", checkpoints=0)
    (trial / "result.json").write_text("\n".join(lines()[:3]) + "\n" + lines()[3][:40])
    return trial


@pytest.fixture
def server(trial: Path) -> Iterator[LiveServer]:
    with LiveServer(LiveReport(str(trial.parent)), 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def ask(server: LiveServer, path: str, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_the_page_follows_the_run_to_its_end(server: LiveServer, trial: Path) -> None:
    status, html = ask(server, "/")
    assert (status, charts_of(html)["Return"]["lines"][0]["x"]) == (200, [100, 200, 300])
    before = json.loads(ask(server, "/state")[1])
    assert before["status"] == "going on: 300 environment steps, 0 of 1 ended"
    assert f'data-version="{before["version"]}"' in html
    (trial / "result.json").write_text("\n".join(lines()) + "\n")
    server.report._next = 0.0  # time has passed
    after = json.loads(ask(server, "/state")[1])
    assert after["status"] == "ended at 1,000 environment steps"
    assert after["version"] != before["version"]
    assert charts_of(ask(server, "/")[1])["Return"]["lines"][0]["x"][-1] == 1000


def test_nothing_but_the_page_is_served_and_to_this_machine_alone(server: LiveServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    for path in ("/../result.json", "/result.json", "/%2e%2e/result.json", "/?a", "/K24QMix_0/params.json"):
        assert ask(server, path)[0] == 404, path
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1", "127.0.0.1:1"):
        assert ask(server, "/", Host=host)[0] == 403, host
    assert ask(server, "/state", Host=f"localhost:{server.server_port}")[0] == 200


def test_a_run_that_was_killed_or_failed(trial: Path) -> None:
    report = LiveReport(str(trial))
    long_ago = time.time() - 1000
    os.utime(trial / "result.json", (long_ago, long_ago))
    assert report.state()["status"].startswith("no news for 16:4")
    (trial / "error.pkl").touch()
    assert report.state()["status"] == "ended at 300 environment steps: 1 of 1 failed"


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    report = LiveReport(str(tmp_path))
    assert report.state()["status"] == "not begun"
    assert "no trial has begun" in report.page()
    lay_run(tmp_path / "K24QMix_0", checkpoints=0)
    report._next = 0.0
    assert "Return" in charts_of(report.page())


def test_what_is_no_run(trial: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"exq: no such file.*did you mean 'exp'\?"):
        LiveReport(str(tmp_path / "exq"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").touch()
    with pytest.raises(ConfigError, match="holds no trial"):
        LiveReport(str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="expected a run's directory"):
        LiveReport(str(trial / "result.json"))


def test_a_port_that_is_taken(server: LiveServer, trial: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--port: got {server.server_port}, expected a free one"):
        LiveServer(LiveReport(str(trial)), server.server_port)


RENEWED = """<script>
setTimeout(() => {
  const chart = window.drawn[0].part;
  chart.setZoom([200, 300]);
  document.querySelector(".legend button").click();
  document.querySelector(".plot").focus();
  document.querySelector(".live").dataset.ready = "yes";
}, 0);
window.addEventListener("load", () => setInterval(() => {
  const chart = window.drawn[0].part;
  const told = [chart.xs.length, chart.zoom, chart.hidden.size, document.activeElement.className];
  document.documentElement.dataset.told = told.join("|");
}, 200));
</script></body>"""


@needs_browser
def test_the_browser_keeps_what_the_reader_chose(
    server: LiveServer, trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, states = server.report.page(), 0
    state = server.report.state

    def grown() -> dict[str, str]:
        """Between the first look and the second the run goes on."""
        nonlocal states
        states += 1
        if states == 2:
            (trial / "result.json").write_text("\n".join(lines()[:6]) + "\n" + a_line(700)[:30])
            server.report._next = 0.0
        return state()

    monkeypatch.setattr(server.report, "state", grown)
    monkeypatch.setattr(server.report, "_html", first.replace("</body>", RENEWED))
    document, console = browse(server.address, words=["--virtual-time-budget=9000"])
    assert console == ""
    assert document.partition('data-told="')[2].partition('"')[0] == "6|200,300|1|plot"
    assert "Live: going on: 600 environment steps" in document
