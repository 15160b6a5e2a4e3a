"""`rllib bench`: hands over to the benchmarks in a checkout, and passes on what comes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k24_rllib.cli import bench
from k24_rllib.cli.main import main

RLLIB = [sys.executable, "-m", "k24_rllib.cli.main"]
PATIENCE_S = 300


def environment() -> dict[str, str]:
    """The environment of a command that runs elsewhere and still finds this package."""
    return {**os.environ, "PYTHONPATH": str(Path(bench.__file__).parents[2])}


def test_it_runs_where_the_user_is(tmp_path: Path) -> None:
    """Relative paths are the user's, and another package of that name isn't taken for the benchmarks."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise AssertionError('the wrong one')")
    words = [*RLLIB, "bench", "rollout", "--quick", "--repeats", "1", "--copies", "2", "--json", "found.json"]
    done = subprocess.run(
        [sys.executable, "-P", *words[1:]], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "forward passes" in done.stdout
    assert (tmp_path / "found.json").is_file()


def test_errors_and_exit_codes_are_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    path = list(sys.path)
    assert main(["bench", "--repeat", "3"]) == 2
    outcome = capfd.readouterr()
    assert outcome.out == ""
    assert outcome.err == "rllib: error: unexpected argument '--repeat'; did you mean '--repeats'?\n"
    assert sys.path == path


def test_help_has_the_name_of_the_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    assert capfd.readouterr().out.startswith("usage: rllib bench [WHAT ...] [options]\n")


def test_ctrl_c_ends_both_processes() -> None:
    process = subprocess.Popen(
        [*RLLIB, "bench", "environment", "--repeats", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("environment")
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        printed = process.stdout.read()  # until both have closed it
        assert process.wait(PATIENCE_S) == 130
    finally:
        process.kill()
    assert printed.splitlines()[-1] == "stopped"
    assert "Traceback" not in printed


def test_where_only_the_package_is_installed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "__file__", str(tmp_path / "site-packages" / "k24_rllib" / "cli" / "bench.py"))
    assert main(["bench", "update"]) == 2
    outcome = capfd.readouterr()
    assert (outcome.out, outcome.err.count("\n")) == ("", 1)
    assert "expected a checkout of the repository" in outcome.err
