"""What environments do wrong in the middle of an episode, in one line that says whose doing it was."""

from __future__ import annotations

from k24_rllib.checks import ConfigError

LONGEST = 160
"""Characters of an exception's own text that a line has room for."""


class EnvironmentFault(ConfigError):  # noqa: N818 (EnvironmentError is Python's)
    """An environment raised, hung, or gave something of no use; the message says what, at which step."""

    def of(self, name: str, worker: int) -> EnvironmentFault:
        """Returns the same with the environment's name and the worker that stepped it (0 is the learner's process)."""
        where = f"worker {worker}" if worker else "in the learner's process"
        named = EnvironmentFault(f"environment {name!r} ({where}): {self}")
        named.__cause__ = self
        return named


class Overdue(BaseException):
    """Raised in the thread that plays a round which takes too long; environments that catch `Exception` let it pass."""


def told(error: BaseException) -> str:
    """Returns an exception's type and text in one line of bounded length."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def fault_at(place: str, error: BaseException) -> EnvironmentFault:
    """Returns what to say of an environment's `error`; `place` is `reset` or the step, counted from 1."""
    if isinstance(error, ConfigError | Overdue):  # it says what was wrong already
        return EnvironmentFault(f"{place}: {error}")
    return EnvironmentFault(f"{place} raised {told(error)}")
