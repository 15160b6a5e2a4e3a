"""Ray's directories: those of our ended runs go, and nothing else does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from k24_rllib.experiments.ray_files import MARK, keep, mark, remove, remove_leftovers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")


def session(root: Path, name: str = "session_2026-01-01_00-00-00_000001_1") -> Path:
    directory = root / name
    (directory / "logs").mkdir(parents=True)
    (directory / "logs" / "raylet.out").write_text("...")
    return directory


def of_a_process_that_has_ended(directory: Path) -> Path:
    """Marks a directory as a process does that is then killed."""
    program = (
        f"from pathlib import Path; from k24_rllib.experiments.ray_files import mark; mark(Path({str(directory)!r}))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    return directory


def test_a_marked_directory_goes_and_the_link_to_it(tmp_path: Path) -> None:
    ours = session(tmp_path)
    (tmp_path / "session_latest").symlink_to(ours)
    mark(ours)
    remove(ours)
    assert not list(tmp_path.iterdir())


def test_a_link_to_another_run_stays(tmp_path: Path) -> None:
    ours, other = session(tmp_path), session(tmp_path, "session_2")
    (tmp_path / "session_latest").symlink_to(other)
    mark(ours)
    remove(ours)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["session_2", "session_latest"]


def test_without_the_mark_nothing_goes(tmp_path: Path) -> None:
    others, failed = session(tmp_path, "session_others"), session(tmp_path, "session_failed")
    mark(failed)
    keep(failed)
    for directory in (others, failed):
        remove(directory)
        assert (directory / "logs" / "raylet.out").is_file()
    remove_leftovers(tmp_path)
    assert others.is_dir()
    assert failed.is_dir()


def test_a_killed_run_s_directory_goes_and_a_living_one_s_stays(tmp_path: Path) -> None:
    living, dead = session(tmp_path, "session_living"), session(tmp_path, "session_dead")
    mark(living)
    of_a_process_that_has_ended(dead)
    remove_leftovers(tmp_path)
    assert living.is_dir()
    assert not dead.exists()


def test_a_process_that_has_another_s_number_is_another(tmp_path: Path) -> None:
    dead = session(tmp_path)
    mark(dead)
    marked = json.loads((dead / MARK).read_text())
    (dead / MARK).write_text(json.dumps({**marked, "started": marked["started"] - 1}))
    remove_leftovers(tmp_path)
    assert not dead.exists()


def test_what_another_container_has_marked_stays(tmp_path: Path) -> None:
    dead = of_a_process_that_has_ended(session(tmp_path))
    marked = json.loads((dead / MARK).read_text())
    (dead / MARK).write_text(json.dumps({**marked, "where": "elsewhere"}))
    remove_leftovers(tmp_path)
    assert dead.is_dir()


def test_while_somebody_listens_there_it_stays(tmp_path: Path) -> None:
    dead = of_a_process_that_has_ended(session(tmp_path, "session_1"))
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(str(dead / "raylet"))
        raylet.listen()
        remove_leftovers(tmp_path)
        assert dead.is_dir()
    remove_leftovers(tmp_path)
    assert not dead.exists()


@pytest.mark.parametrize("text", ["", "{}", '{"pid": "x", "started": 1}', "[]"])
def test_a_mark_that_says_nothing_removes_nothing(tmp_path: Path, text: str) -> None:
    odd = session(tmp_path)
    (odd / MARK).write_text(text)
    remove_leftovers(tmp_path)
    assert odd.is_dir()
