"""The real command, on a search with every size shrunk: stopped in mid-run, it goes on where it was."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Spec = dict[str, Any]
Write = Callable[..., Path]

PATIENCE_S = 300


def trials(directory: Path) -> dict[str, str]:
    """Returns each trial's results, by the trial's directory."""
    return {path.parent.name: path.read_text() for path in directory.glob("trial_*/result.json")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_search_goes_on(write: Write, tiny: Spec, tmp_path: Path, number: signal.Signals) -> None:
    tiny["tune"] = {"search_alg": {"optuna": {"seed": 0}}, "num_samples": 3, "max_concurrent_trials": 1}
    tiny["config"] |= {"evaluation_interval": 1, "evaluation_duration": 4, "lr": {"loguniform": [1e-4, 1e-2]}}
    tiny["stop"] = {"timesteps_total": 800}
    words = ["train", "-f", str(write(tiny)), "--storage-path", str(tmp_path)]
    command = [sys.executable, "-m", "k24_rllib.cli.main", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        begun: set[str] = set()
        for line in process.stdout:
            begun |= set(re.findall(r"(trial_\d_\w+)$", line))
            if line.startswith("[#2] steps"):  # the first has ended, the second is under way
                os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
                break
        rest = process.stdout.read()
        assert process.wait(PATIENCE_S) in (130, -signal.SIGKILL), rest
    before = trials(tmp_path / "tiny")
    assert set(before) <= begun
    assert len(begun) == 2

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    after = trials(tmp_path / "tiny")
    assert len(after) == 3
    assert begun < set(after)  # the same trials, and the one that was missing
    (first,) = (name for name in before if name.startswith("trial_1_"))
    assert after[first] == before[first]  # not run again
    assert "[#1] steps" not in done.stdout
    assert re.search(r"search by optuna, fifo, 3 trials", done.stdout)
    assert "stopped by     budget 3" in done.stdout

    tiny["tune"]["num_samples"] = 4
    write(tiny)
    refused = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert refused.returncode == 2
    assert "tune: num_samples: got 4, expected 3: --resume goes on" in refused.stderr
