"""The report of a run that goes on, served on loopback: the page is made anew when the run's files have changed."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.runs import ERROR_FILES, RESULTS_FILE, find_trials
from k24_rllib.comparison.sources import parse_source
from k24_rllib.report.page import Page, Section, render
from k24_rllib.report.reading import Trial, read
from k24_rllib.report.write import report_on
from k24_rllib.reporting import duration

LOOPBACK = "127.0.0.1"
TUNES_FILES = ("tuner.pkl", "experiment_state-*.json", "*/params.json")
"""What lies in an experiment's directory before its first trial has a result."""
WATCHED = (RESULTS_FILE, *ERROR_FILES, "params.json", "checkpoint_*", "../search.csv")
SILENT_S = 120.0
"""Seconds without news after which a run may have been killed, which leaves no other trace."""
SHARE = 0.1
"""Of the time that is spent on making pages, at most: the run that is watched has the machine first."""
BUSY_S = 10.0
"""Seconds until a client that says nothing is let go."""


class LiveReport:
    """A run's page and a word on how the run is, made of what lies on disk when somebody asks.

    Raises:
        ConfigError: for a path that is no run's, nor that of one to begin, naming the nearest.
    """

    def __init__(self, given: str) -> None:
        self.path = parse_source(given).path
        if not self.path.is_dir():
            raise ConfigError(f"{given}: is a file, expected a run's directory; rllib report reads files")
        if not _may_begin(self.path):
            find_trials(self.path)
        self._given = given
        self._lock = threading.Lock()
        self._version, self._html = "", ""
        self._next = 0.0

    def page(self) -> str:
        """Returns the page as HTML, of what can be read now."""
        with self._lock:
            version = self._wanted()
            if version != self._version:
                began = time.monotonic()
                self._html = render(self._report(), live=version)
                self._version = version
                self._next = time.monotonic() + (time.monotonic() - began) / SHARE
            return self._html

    def state(self) -> dict[str, str]:
        """Returns the `version` of the page that `page` would give, and the run's `status` in words."""
        return {"version": self._wanted(), "status": self._status()}

    def _wanted(self) -> str:
        return _fingerprint(self._trials()) if time.monotonic() >= self._next else self._version

    def _trials(self) -> list[Path]:
        try:
            return find_trials(self.path)
        except (ConfigError, OSError):
            return []

    def _report(self) -> Page:
        name = str(self.path)
        if not self._trials():
            return Page(name, [Section("A run to come", notes=["no trial has begun: this page goes on when one does"])])
        try:
            return report_on([self._given])
        except Exception as error:  # of files that change while they are read: the next page has them
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            return Page(name, [Section("The run", notes=[f"can't be read now: {reason}"])])

    def _status(self) -> str:
        """Returns whether trials go on, have ended or failed, or have been silent for long."""
        trials = [read(directory) for directory in self._trials()]
        if not trials:
            return "not begun"
        steps = f"{sum(trial.steps for trial in trials):,} environment steps"
        failed = sum(trial.run.failure is not None for trial in trials)
        ended = sum(bool(trial.last.get("done")) and trial.run.failure is None for trial in trials)
        if failed + ended == len(trials):
            return f"ended at {steps}" + (f": {failed} of {len(trials)} failed" if failed else "")
        silent = time.time() - max(_newest(trial) for trial in trials)
        if silent > SILENT_S:
            return f"no news for {duration(silent)}, at {steps}: stopped, killed, or slow"
        return f"going on: {steps}, {ended} of {len(trials)} ended"


def _may_begin(directory: Path) -> bool:
    """Returns whether a directory is empty, or one that Tune has begun to fill."""
    return next(directory.iterdir(), None) is None or any(any(directory.glob(sign)) for sign in TUNES_FILES)


def _newest(trial: Trial) -> float:
    try:
        return (trial.directory / RESULTS_FILE).stat().st_mtime
    except OSError:
        return 0.0


def _fingerprint(trials: Sequence[Path]) -> str:
    """Returns a word that changes when one of the files does that a page is made of."""
    seen = hashlib.sha256()
    for trial in trials:
        for file in sorted(file for sign in WATCHED for file in trial.glob(sign)):
            try:
                stat = file.stat()
            except OSError:  # it was renamed meanwhile
                continue
            seen.update(f"{file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return seen.hexdigest()[:16]


class LiveServer(ThreadingHTTPServer):
    """Serves one report at `/`, and its state at `/state`, to this machine alone.

    Raises:
        ConfigError: for a port that can't be listened on.
    """

    daemon_threads = True

    def __init__(self, report: LiveReport, port: int) -> None:
        self.report = report
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise ConfigError(
                f"--port: got {port}, expected a free one ({error.strerror}); --port 0 takes any"
            ) from None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of browsers that left; raises nothing, as `http.server` goes on whatever happens."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"rllib: warning: a page was not served: {type(error).__name__}: {error}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    timeout = BUSY_S

    def do_GET(self) -> None:
        """Answers with the page or the state; nothing else is there, and no other site's page may ask."""
        port = self.server.server_port
        if self.headers.get("Host") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self._answer(403, "text/plain", "this server is for 127.0.0.1 alone\n")
        elif self.path == "/":
            self._answer(200, "text/html", self.server.report.page())
        elif self.path == "/state":
            self._answer(200, "application/json", json.dumps(self.server.report.state()))
        else:
            self._answer(404, "text/plain", "nothing here but /\n")

    def _answer(self, code: int, kind: str, text: str) -> None:
        content = text.encode()
        self.send_response(code)
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps requests off the terminal."""
