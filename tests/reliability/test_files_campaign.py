"""The long part: hundreds of damaged checkpoints, and a disk that fills up while a run writes to it.

make reliability    # or: python -m pytest -m campaign tests/reliability
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_disk import mounted

from k24_rllib import K24QMixConfig, QMix
from k24_rllib.checks import ConfigError
from k24_rllib.experiments.checkpoints import find_checkpoint, policy_of
from k24_rllib.qmix.manifest import DamagedCheckpointError, verify
from k24_rllib.qmix.weights import read_weights
from tests.checkpoint_damage import damage, files_of

pytestmark = pytest.mark.campaign
DAMAGES = 200
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def algorithm(ray_session: None) -> Iterator[QMix]:
    """A run of the shipped size, with its replay buffer in the checkpoint, after a few updates."""
    config = K24QMixConfig().environment("mpe_simple_spread", env_config={"N": 3}).k24(total_env_steps=100_000)
    config.training(store_buffer_in_checkpoints=True).debugging(seed=0, log_level="ERROR")
    algo = config.build_algo()
    algo.train()
    yield algo
    algo.stop()


@pytest.fixture(scope="module")
def trial(algorithm: QMix, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints of it, as Tune names them; between them it has learned on."""
    place = tmp_path_factory.mktemp("trial")
    for number in (0, 1):
        algorithm.train()
        algorithm.save_to_path(place / f"checkpoint_{number:06}")
    return place


def test_every_flip_and_cut_is_found_and_the_one_before_is_used(
    trial: Path, algorithm: QMix, tmp_path: Path, capsys: Capture
) -> None:
    rng = random.Random(0)
    hit: dict[str, int] = {}
    for _ in range(DAMAGES):
        place = tmp_path / "trial"
        shutil.copytree(trial, place)
        newest, before = place / "checkpoint_000001", place / "checkpoint_000000"
        done = damage(newest, rng)
        assert find_checkpoint(str(place)) == before, done
        said = capsys.readouterr().out
        assert said.startswith("note: checkpoint_000001: "), done
        assert said.endswith("checkpoint_000000, the one before, is used\n"), done
        assert said.count("\n") == 1
        assert len(said) < 300
        named = next(
            name for name in (file.relative_to(newest).as_posix() for file in files_of(newest)) if name in said
        )
        assert Path(named).name in done
        hit[named] = hit.get(named, 0) + 1
        shutil.rmtree(before)
        with pytest.raises(ConfigError, match=r"checkpoint_000001: .*(damaged|missing)"):
            find_checkpoint(str(place))
        shutil.rmtree(place)
    with capsys.disabled():
        print(f"\n{DAMAGES} of {DAMAGES} damages found and named, the one before used: {hit}")


def test_a_living_algorithm_takes_over_the_one_before(
    trial: Path, algorithm: QMix, tmp_path: Path, capsys: Capture
) -> None:
    """The same through `restore_from_path`, which unpickles: what is loaded is the checkpoint before, every time."""
    rng = random.Random(1)
    algorithm.restore_from_path(trial / "checkpoint_000000")
    expected = {name: value.copy() for name, value in algorithm.policy.get_weights().items()}
    algorithm.restore_from_path(trial / "checkpoint_000001")
    assert any((algorithm.policy.get_weights()[name] != value).any() for name, value in expected.items())
    for _ in range(20):
        shutil.copytree(trial, tmp_path / "trial")
        done = damage(tmp_path / "trial" / "checkpoint_000001", rng)
        algorithm.restore_from_path(tmp_path / "trial" / "checkpoint_000001")
        assert "checkpoint_000000, the one before, is used" in capsys.readouterr().out, done
        for name, value in algorithm.policy.get_weights().items():
            np.testing.assert_array_equal(value, expected[name], err_msg=done)
        shutil.rmtree(tmp_path / "trial")


def test_every_flip_and_cut_of_weights_is_refused(trial: Path, tmp_path: Path, capsys: Capture) -> None:
    rng = random.Random(2)
    whole = trial / "checkpoint_000001" / "weights.safetensors"
    policy_of(whole)
    refused: list[str] = []
    for _ in range(DAMAGES):
        (tmp_path / "w").mkdir()
        shutil.copy(whole, tmp_path / "w" / whole.name)
        done = damage(tmp_path / "w", rng)
        with pytest.raises(ConfigError, match=r"weights\.safetensors: is (damaged|no file of weights)"):
            read_weights(tmp_path / "w" / whole.name)
        refused.append(done)
        shutil.rmtree(tmp_path / "w")
    with capsys.disabled():
        print(f"\n{len(refused)} of {DAMAGES} damages of weights refused, {len(set(refused))} different ones")


SAVING = """
import itertools, sys
from pathlib import Path
from k24_rllib.qmix.checkpoint_files import written_whole
from k24_rllib.qmix.manifest import write_manifest

place = Path(sys.argv[1])
for number in itertools.count():
    for target in (place / f"checkpoint_{number:06}", place / "best"):
        with written_whole(target) as draft:
            for name in ("algorithm_state.pkl", "policy_state.pkl", "weights.safetensors"):
                (draft / name).write_bytes(number.to_bytes(4, "little") * 100_000)
            write_manifest(draft, number=number)
    if number == 2:
        print("ready", flush=True)
"""


def test_a_save_that_is_killed_leaves_nothing_by_half(tmp_path: Path, capsys: Capture) -> None:
    """SIGKILL while checkpoints are written, to new places and over and over to one."""
    rng, whole, told = random.Random(3), 0, 0
    for kill in range(10):
        place = tmp_path / str(kill)
        place.mkdir()
        process = subprocess.Popen([sys.executable, "-c", SAVING, str(place)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.random())
        process.kill()
        process.wait()
        for checkpoint in place.glob("checkpoint_*"):
            assert verify(checkpoint) is not None
            whole += 1
        try:
            manifest = verify(place / "best")
        except DamagedCheckpointError:
            told += 1
            continue
        assert manifest is not None
        for file in ("algorithm_state.pkl", "policy_state.pkl", "weights.safetensors"):
            assert (place / "best" / file).read_bytes()[:4] == manifest["number"].to_bytes(4, "little")
    with capsys.disabled():
        print(f"\n10 kills: {whole} new checkpoints, all whole; of those written over {10 - told} whole, {told} told")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 MiB, where this system lets the tests have one."""
    with mounted(tmp_path / "small", "40m") as place:
        yield place


def rllib(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "k24_rllib.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=os.environ)


def test_a_disk_that_fills_up(tiny: dict[str, Any], small_disk: Path, tmp_path: Path, capsys: Capture) -> None:
    """The real command: one line that names the disk, exit 1; with space again it goes on from what is sound."""
    tiny["stop"] = {"timesteps_total": 10_000}
    tiny["checkpoint_config"] = {"checkpoint_frequency": 1, "checkpoint_at_end": True}
    tiny["config"] |= {"hidden_dim": 64, "mixing_embed_dim": 32, "hypernet_dim": 64, "updates_per_episode": 0.1}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({"tiny": tiny}))
    words = ["train", "-f", str(tmp_path / "tiny.yaml"), "--storage-path", str(small_disk)]
    outcome = rllib(*words)
    assert outcome.returncode == 1, outcome
    (line,) = outcome.stderr.splitlines()
    assert re.fullmatch(rf"rllib: error: trial \S+ failed: the disk at {small_disk} is full \(0 MiB free\)", line)
    assert "go on with" in outcome.stdout
    left = sorted(small_disk.glob("tiny/*/checkpoint_*"))
    refused = rllib(*words, "--resume")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"the disk at {small_disk} has 0 MiB free" in refused.stderr
    subprocess.run(["mount", "-o", "remount,size=1g", str(small_disk)], check=True)
    tiny_steps = int(re.findall(r"^steps ([\d,]+)", outcome.stdout, re.MULTILINE)[-1].replace(",", ""))
    resumed = rllib(*words, "--resume")
    assert resumed.returncode == 0, resumed
    notes = [text for text in resumed.stdout.splitlines() if text.startswith("note: ")]
    first = int(re.findall(r"^steps ([\d,]+)", resumed.stdout, re.MULTILINE)[0].replace(",", ""))
    assert first > tiny_steps / 2
    with capsys.disabled():
        print(f"\n{line}\n{len(left)} checkpoints left; then")
        print("\n".join([*notes, f"went on at {first:,} environment steps, after {tiny_steps:,} and more"]))
