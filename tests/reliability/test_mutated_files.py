"""Whatever becomes of a file or an option: settings that are fine, or one line and exit code 2; never more, never long.

`K24_MUTATIONS` is how many of each kind are tried (make reliability tries thousands).
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
import ray
from hypothesis import HealthCheck, given, settings
from mutations import EXAMPLES, odd_options, spoilt_text, spoilt_values

from k24_rllib.cli.main import main
from k24_rllib.command_line import USUAL_PATH

PATIENCE_S = 60
QUICK = 40
many = settings(
    max_examples=int(os.environ.get("K24_MUTATIONS", QUICK)),
    deadline=None,
    database=None,
    derandomize="K24_MUTATIONS" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raises where what is inside takes longer than anybody would wait."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(words: list[str]) -> tuple[int, str, str]:
    """Runs the command in this process and returns its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with time_limit(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def assert_fine_or_one_line(words: list[str]) -> bool:
    """Returns whether the settings were fine; anything but that or one line of an error fails."""
    code, out, err = outcome(words)
    assert not ray.is_initialized()
    if code == 0:
        assert out.rstrip().splitlines()[-1].count("settings are fine") == 1
        assert err == ""
        return True
    assert (code, out) == (2, ""), (out, err)
    assert err.startswith("rllib: error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    paths = sum(max(len(word) - USUAL_PATH, 0) for word in words if "/" in word)  # which stay whole
    assert len(err) < 300 + paths, len(err)
    assert "Traceback" not in err
    return False


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated") / "file.yaml"


@given(text=spoilt_values())
@many
def test_spoilt_values(file: Path, text: str) -> None:
    file.write_text(text)
    assert_fine_or_one_line(["train", "-f", str(file), "--check"])


@given(text=spoilt_text())
@many
def test_spoilt_text(file: Path, text: str) -> None:
    file.write_text(text)
    assert_fine_or_one_line(["train", "-f", str(file), "--check"])


@given(option=odd_options())
@many
def test_odd_options(option: list[str]) -> None:
    assert_fine_or_one_line(["train", "-f", str(EXAMPLES[0]), "--check", *option])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_fine(example: Path) -> None:
    assert assert_fine_or_one_line(["train", "-f", str(example), "--check"])
