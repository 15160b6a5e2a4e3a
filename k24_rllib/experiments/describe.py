"""What can be set: every setting of an algorithm with default, bounds and documentation, as text and as a file.

All of it comes from the settings' declarations, a user's own algorithms included.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from k24_rllib.settings import Setting

WIDTH = 116

STARTER = """\
# {run}: every setting with its default. Take the '# ' off a line to change it.
#   rllib train -f FILE
my-experiment:
  run: {run}
  env: mpe_simple_spread
  stop:
    timesteps_total: 1000000            # environment steps
  config:
    env_config:
      N: 3                              # options of the environment
"""


def groups(run: str | None = None) -> Iterator[tuple[str, dict[str, Setting]]]:
    """Yields the classes that declare settings, the most general first, and what each declares.

    Args:
        run: A registered algorithm, whose settings are meant; None takes those of all algorithms, none twice.
    """
    from k24_rllib import ALGORITHMS

    seen: dict[str, dict[str, Setting]] = {}
    for name in [ALGORITHMS.check(run)] if run is not None else ALGORITHMS:
        for key, setting in ALGORITHMS.settings_class(name).settings().items():
            seen.setdefault(setting.owner, {})[key] = setting
    most_general = [base.__name__ for name in ALGORITHMS for base in reversed(ALGORITHMS.settings_class(name).__mro__)]
    yield from sorted(seen.items(), key=lambda group: most_general.index(group[0]))


def settings_lines(run: str | None = None) -> list[str]:
    """Returns what `rllib config` prints: each setting's key, default, what it may be and a line of documentation."""
    lines: list[str] = []
    for owner, settings in groups(run):
        lines += ["", owner] if lines else [owner]
        for key, setting in settings.items():
            null = ", or null" if setting.optional else ""
            lines.append(f"  {key}: {as_yaml(setting.default)}  ({setting.expected}{null})")
            lines.append(f"      {setting.summary}")
    return lines


def starter_file(run: str) -> str:
    """Returns a commented file to start from: an experiment that runs as it stands, every setting shown."""
    parts = [STARTER.format(run=run)]
    for owner, settings in groups(run):
        parts.append(f"\n    # --- {owner}\n")
        for key, setting in settings.items():
            null = ", or null" if setting.optional else ""
            told = f"{' '.join(setting.doc.split())} ({setting.expected}{null})"
            comment = textwrap.fill(told, WIDTH, initial_indent="    #: ", subsequent_indent="    #: ")
            parts.append(f"{comment}\n    # {key}: {as_yaml(setting.default)}\n")
    return "".join(parts)


def as_yaml(value: Any) -> str:
    """Returns a value as it stands in a YAML file, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")
