"""A checkpoint is there whole or not at all, and the one before a damaged one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from k24_rllib.experiments.checkpoints import find_checkpoint
from k24_rllib.qmix.checkpoint_files import sound_checkpoint, trial_checkpoints, written_whole
from k24_rllib.qmix.manifest import DamagedCheckpointError, verify, write_manifest
from tests.checkpoint_damage import flip_bit, lay_checkpoint

Capture = pytest.CaptureFixture[str]


class Killed(BaseException):
    """Stands for what ends a process in the middle."""


def write_files(directory: Path, text: str) -> None:
    for name in ("a/one", "two"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    write_manifest(directory)


def save(directory: Path, text: str, killed: bool = False) -> None:
    with written_whole(directory) as draft:
        write_files(draft, text)
        if killed:
            raise Killed


def test_a_new_directory_appears_whole(tmp_path: Path) -> None:
    place = tmp_path / "run" / "best"
    with pytest.raises(Killed):
        save(place, "first", killed=True)
    assert not place.exists()
    save(place, "first")
    assert verify(place)
    assert list(place.parent.iterdir()) == [place]


def test_what_is_there_stays_until_the_new_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "best"
    save(place, "first")
    (place / "notes.txt").write_text("the user's own")
    with pytest.raises(Killed):
        save(place, "second", killed=True)
    assert verify(place)
    assert (place / "two").read_text() == "first"
    save(place, "second")
    assert verify(place)
    assert [(place / name).read_text() for name in ("a/one", "two", "notes.txt")] == [
        "second",
        "second",
        "the user's own",
    ]
    assert sorted(path.name for path in place.iterdir()) == ["a", "manifest.json", "notes.txt", "two"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_checkpoint_alone_changes_places_with_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    place = tmp_path / "best"
    if not can_exchange:
        monkeypatch.setattr("k24_rllib.qmix.checkpoint_files._exchange", lambda one, other: False)
    save(place, "first")
    place.chmod(0o750)
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(Killed):
        save(place, "second", killed=True)
    assert (place / "two").read_text() == "first"
    save(tmp_path / "link", "second")
    assert verify(place)
    assert (place / "two").read_text() == "second"
    assert place.stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "link"]


def test_files_that_are_replaced_by_half_do_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "best"
    save(place, "first")
    (place / "notes.txt").write_text("which keeps both from changing places")
    replaced: list[str] = []

    def stop_at_the_second(source: Path, target: Path) -> None:
        if Path(source).suffix != ".part":  # the manifest itself, as it is written
            replaced.append(Path(target).name)
        if len(replaced) == 2:
            raise Killed
        Path(source).rename(target)

    monkeypatch.setattr("k24_rllib.qmix.checkpoint_files.os.replace", stop_at_the_second)
    with pytest.raises(Killed):
        save(place, "second")
    with pytest.raises(DamagedCheckpointError, match="a/one is damaged"):
        verify(place)


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    for number in (2, 9, 10):
        lay_checkpoint(tmp_path / "run" / "trial" / f"checkpoint_{number:06}")
    return tmp_path / "run" / "trial"


def test_the_one_before_a_damaged_one_is_used_and_said(trial: Path, capsys: Capture) -> None:
    newest, before, first = trial_checkpoints(trial)
    assert find_checkpoint(str(trial)) == sound_checkpoint(newest) == newest
    assert capsys.readouterr().out == ""
    flip_bit(newest / "algorithm_state.pkl", 4001)
    (before / "manifest.json").unlink()  # as Tune's copy, killed
    for given in (newest, trial, trial.parent):
        assert find_checkpoint(str(given)) == first
        said = "its digest is not the manifest's); checkpoint_000002, the one before, is used"
        assert capsys.readouterr().out == f"note: checkpoint_000010: algorithm_state.pkl is damaged ({said}\n"
    flip_bit(first / "rllib_checkpoint.json", 7)
    with pytest.raises(DamagedCheckpointError, match=r"checkpoint_000010: algorithm_state\.pkl is damaged"):
        find_checkpoint(str(trial))


def test_half_a_copy_is_the_newest_and_is_passed_over(trial: Path, capsys: Capture) -> None:
    (trial / "checkpoint_000011" / "policies").mkdir(parents=True)
    assert find_checkpoint(str(trial)).name == "checkpoint_000010"
    assert "checkpoint_000011: is incomplete" in capsys.readouterr().out


def test_a_checkpoint_of_another_name_has_none_before_it(tmp_path: Path, trial: Path) -> None:
    mine = lay_checkpoint(trial / "best")
    flip_bit(mine / "algorithm_state.pkl", 0)
    with pytest.raises(DamagedCheckpointError, match="best: algorithm_state"):
        find_checkpoint(str(mine))
