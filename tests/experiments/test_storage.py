"""Storage that can't work is found before Ray starts; a full disk is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_disk import mounted

from k24_rllib.checks import ConfigError
from k24_rllib.experiments import failure, storage
from k24_rllib.experiments.storage import (
    FullDiskError,
    check_storage,
    check_writable,
    full_disk_named,
    full_disks,
    unwritten,
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB, where this system lets the tests have one."""
    with mounted(tmp_path / "small", "3m") as place:
        yield place


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s4://bucket/x", "unknown kind of storage 's4'; did you mean 's3'?"),
        ("ftp://host/x", "unknown kind of storage 'ftp'.*known: file, s3, gs"),
        (f"{__file__}/x", "is a file"),
        (f"file://{__file__}", "is a file"),
        ("a" * 5000, "can't be made"),
        ("a\0b", "can't be made"),
        (3, "got 3, expected a directory or a URI"),
    ],
)
def test_what_can_be_no_storage(given: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"storage_path: .*{message}") as error:
        check_storage(given, "~/ray_results")
    assert len(str(error.value)) < 300


def test_storage_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_storage(None, "~/x") == str(Path.home() / "x")
    assert check_storage("results", "~/x") == str(tmp_path / "results")
    assert check_storage(f"file://{tmp_path}/a", "~/x") == str(tmp_path / "a")
    assert check_storage("s3://bucket/a", "~/x") == "s3://bucket/a"


def test_what_can_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(str(tmp_path / "a" / "b"), "run")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"storage_path: /proc/nobody/run can't be written to"):
        check_writable("/proc/nobody", "run")
    monkeypatch.delattr("pyarrow.fs.S3FileSystem", raising=False)
    with pytest.raises(ConfigError, match=r"s3://b/x: this pyarrow has no S3FileSystem, expected one built with it"):
        check_writable("s3://b/x", "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is open to root")
def test_a_directory_of_somebody_else(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        check_writable(str(tmp_path), "run")


def test_too_little_space_is_refused_and_little_is_told(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=rf"the disk at {small_disk} has 3 MiB free, expected 32 MiB"):
        check_writable(str(small_disk / "x"), "run")
    monkeypatch.setattr(storage, "LEAST_FREE", 1 << 20)
    for _ in range(2):
        check_writable(str(small_disk / "x"), "run")
    assert capsys.readouterr().out == f"note: the disk at {small_disk} has 3 MiB free\n"


def fill(place: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        (place / "filler").write_bytes(bytes(4 << 20))


def tunes_trial(tmp_path: Path, stored: Path, error: str = "") -> Any:
    """A trial's directories: where Tune writes, and where it copies that to."""
    draft = tmp_path / "draft"
    draft.mkdir()
    (draft / "result.json").write_text("{}\n{}\n")
    (draft / "error.txt").write_text(error)
    return SimpleNamespace(path=str(stored), local_path=str(draft), error_file=str(draft / "error.txt"))


def test_a_full_disk_is_named_where_a_trial_fails(small_disk: Path, tmp_path: Path) -> None:
    fill(small_disk)
    assert full_disks([small_disk / "not" / "there", tmp_path]) == [f"the disk at {small_disk} is full (0 MiB free)"]
    (small_disk / "error.txt").touch()  # all that a copy can do there
    trial = tunes_trial(tmp_path, small_disk, "Traceback\nOSError: [Errno 28] No space left on device\n")
    assert failure(trial).endswith(f"failed: the disk at {small_disk} is full (0 MiB free)")
    with pytest.raises(FullDiskError, match=f"the disk at {small_disk} is full"), full_disk_named(str(small_disk)):
        (small_disk / "more").write_bytes(bytes(1 << 20))


def test_results_that_did_not_get_there_are_told(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.mkdir()
    trial = tunes_trial(tmp_path, stored)
    (stored / "result.json").write_text("{}\n")
    assert f"its last results are not in {stored}" in str(unwritten(trial))
    (stored / "result.json").write_text("{}\n{}\n")
    assert unwritten(trial) is None


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(KeyError), full_disk_named("/tmp"):
        raise KeyError("a")
