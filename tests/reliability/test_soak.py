"""Memory and file handles of a run at full speed, over SOAK_MINUTES (60 unless the environment says otherwise)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from live_runs import LiveRun, command_line, interrupt_and_check, is_progress, stat_fields, write_experiment

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc"),
]

MINUTES = float(os.environ.get("SOAK_MINUTES", "60"))
SAMPLES = 40
KINDS = {"ray::K24QMix": "learner", "ray::QMixRolloutWorker": "worker", "raylet/raylet": "object store and raylet"}
"""What tells a process' part, and what it is called here."""
GROWTH_MIB = 48
GROWTH_HANDLES = 8


def part(pid: int) -> str | None:
    line = command_line(pid)
    return next((name for mark, name in KINDS.items() if mark in line), None)


def memory(pid: int) -> tuple[float, float]:
    """Returns a process' own memory and that of files and shared memory in MiB: the object store is of the latter."""
    sizes = {
        line.split(":")[0]: int(line.split()[1]) / 1024
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("Rss")
    }
    return sizes["RssAnon"], sizes["RssShmem"] + sizes["RssFile"]


@pytest.fixture
def run(tmp_path: Path, tiny: dict[str, Any]) -> Iterator[LiveRun]:
    """A run at full speed whose buffer is soon full."""
    config = {
        "num_env_runners": 1,
        "rollouts_ahead": 1,
        "num_envs_per_env_runner": 16,
        "min_sample_timesteps_per_iteration": 2_000,
        "buffer_episodes": 500,
        "train_batch_size": 32,
        "learning_starts_episodes": 32,
        "updates_per_episode": 0.4,
    }
    words = write_experiment(tmp_path, tiny, **config)
    text = (tmp_path / "live.yaml").read_text()
    (tmp_path / "live.yaml").write_text(
        text.replace("checkpoint_frequency: 1", "checkpoint_frequency: 20\n    num_to_keep: 2")
    )
    live = LiveRun(tmp_path, words)
    yield live
    live.kill()


def test_memory_and_handles_stay_flat(run: LiveRun, tmp_path: Path) -> None:
    run.wait_for(is_progress)
    time.sleep(min(MINUTES * 60 / 5, 120))  # until the buffer is full and everything has been done once
    seen: dict[str, list[tuple[float, float, int]]] = {}
    for _ in range(SAMPLES):
        for pid in run.processes():
            name = part(pid)
            if name is not None and stat_fields(pid):
                handles = len(os.listdir(f"/proc/{pid}/fd"))
                seen.setdefault(name, []).append((*memory(pid), handles))
        time.sleep(MINUTES * 60 / SAMPLES)
    interrupt_and_check(run, tmp_path)
    print(f"\n{MINUTES:g} minutes, {run.lines[-5:]}")
    assert set(seen) == set(KINDS.values())
    tail = max(SAMPLES // 5, 1)
    for name, samples in seen.items():
        for column, what in enumerate(("own MiB", "shared MiB", "file handles")):
            values = [sample[column] for sample in samples]
            first, last = max(values[:tail]), max(values[-tail:])
            print(f"{name}: {what} {values[0]:.0f} at first, at most {max(values):.0f}, {values[-1]:.0f} at last")
            assert last - first <= (GROWTH_HANDLES if column == 2 else GROWTH_MIB), (name, what, values)
