"""Whatever becomes of a file of a checkpoint is found before anything is unpickled, and named."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from k24_rllib.checks import ConfigError
from k24_rllib.qmix import manifest
from k24_rllib.qmix.manifest import DamagedCheckpointError, read_manifest, read_verified, verify
from tests.checkpoint_damage import OLD_CHECKPOINTS, files_of, flip_bit, lay_checkpoint

POLICY = "policies/default_policy/policy_state.pkl"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return lay_checkpoint(tmp_path / "checkpoint_000003")


def test_a_manifest_names_every_file_and_what_wrote_it(checkpoint: Path) -> None:
    content = verify(checkpoint)
    assert content is not None
    assert content["format_version"] == 1
    assert {"k24_rllib", "ray", "torch"} <= content["versions"].keys()
    names = {file.relative_to(checkpoint).as_posix() for file in files_of(checkpoint)}
    assert content["files"].keys() == names - {"manifest.json"}
    assert content["files"][POLICY]["size"] == (checkpoint / POLICY).stat().st_size


def test_every_byte_of_the_manifest_counts(checkpoint: Path) -> None:
    file = checkpoint / "manifest.json"
    for bit in range(0, 8 * file.stat().st_size, 5):  # every byte, and each of its bits somewhere
        flip_bit(file, bit)
        with pytest.raises(DamagedCheckpointError, match=r"checkpoint_000003: manifest\.json is damaged"):
            read_manifest(checkpoint)
        flip_bit(file, bit)
    content = file.read_bytes()
    for kept in range(0, len(content), 3):
        file.write_bytes(content[:kept])
        with pytest.raises(DamagedCheckpointError, match=r"manifest\.json is damaged"):
            read_manifest(checkpoint)
    file.write_bytes(content)
    verify(checkpoint)


@pytest.mark.parametrize("name", ["algorithm_state.pkl", POLICY, "rllib_checkpoint.json"])
def test_a_flip_a_cut_and_a_missing_file_are_named(checkpoint: Path, name: str) -> None:
    file = checkpoint / name
    content = file.read_bytes()
    flip_bit(file, 8 * (len(content) // 2))
    with pytest.raises(DamagedCheckpointError, match=f"{name} is damaged .its digest is not the manifest's"):
        verify(checkpoint)
    with pytest.raises(DamagedCheckpointError, match=name):
        read_verified(checkpoint, name, read_manifest(checkpoint))
    file.write_bytes(content[:-1])
    with pytest.raises(DamagedCheckpointError, match=f"{name} is damaged .{len(content) - 1} bytes, expected"):
        verify(checkpoint)
    file.unlink()
    with pytest.raises(DamagedCheckpointError, match=f"{name} is missing"):
        verify(checkpoint)


def test_half_a_copy_is_told_from_a_checkpoint_of_before_there_were_manifests(tmp_path: Path) -> None:
    """Tune copies the files in any order; whichever of them are there, what is missing shows."""
    whole = lay_checkpoint(tmp_path / "whole")
    names = [file.relative_to(whole) for file in files_of(whole)]
    for copied in range(1 << len(names)):
        half = tmp_path / "checkpoint_000007"
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        for number, name in enumerate(names):
            if copied >> number & 1:
                (half / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(whole / name, half / name)
        if copied == (1 << len(names)) - 1:
            assert verify(half) is not None
            continue
        with pytest.raises(DamagedCheckpointError, match="missing"):
            verify(half)
    for old in OLD_CHECKPOINTS.iterdir():
        assert verify(old) is None


def test_a_newer_format_is_refused_by_name(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "FORMAT_VERSION", 2)
    manifest.write_manifest(checkpoint)
    monkeypatch.undo()
    with pytest.raises(
        ConfigError, match=r"is of format 'k24_rllib checkpoint 2', written by k24_rllib .*expected .* 1"
    ) as error:
        verify(checkpoint)
    assert not isinstance(error.value, DamagedCheckpointError)  # no older one takes its place


def test_a_damaged_manifest_is_no_newer_format(checkpoint: Path) -> None:
    file = checkpoint / "manifest.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "format_version": 2}, indent=1) + "\n")
    with pytest.raises(DamagedCheckpointError):
        verify(checkpoint)


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DamagedCheckpointError(Path("a"), "b is missing")))
    assert (str(error), error.what, error.checkpoint) == ("a: b is missing", "b is missing", Path("a"))
