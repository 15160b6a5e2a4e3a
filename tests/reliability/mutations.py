"""Files as users and editors spoil them: strategies that take a good file and change it, in its text or its values."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

from k24_rllib.experiments.yaml_reader import read_yaml_file
from k24_rllib.qmix.rllib_keys import ACTING, GONE, IDLE, RENAMED

EXAMPLES = sorted((Path(__file__).parents[2] / "tuned_examples").glob("*.yaml"))
ODD_NUMBERS = (0, -1, 1, 2, 3, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**63), 10**30, 10**400, 0.5, 1.5)
ODD_TEXTS = (
    "",
    " ",
    "null",
    "nan",
    "inf",
    "-",
    "a",
    "é",
    "\U0001f600",
    "\x7f",
    "a" * 5_000,
    "../..",
    "{",
    "[[",
    "~",
    "none",
)
ODD_VALUES: tuple[Any, ...] = (
    *ODD_NUMBERS,
    *ODD_TEXTS,
    None,
    True,
    False,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": {"c": 1}}},
    [[0, 0.1], [1, 0.2]],
    {"grid_search": [1, 2]},
    {"grid_search": []},
    {"grid_search": 3},
    {"uniform": [0.1, 0.2]},
    {"uniform": [2, 1]},
    {"loguniform": [0, 1]},
    {"loguniform": [1e-5, 1e-2]},
    {"choice": ["a", 1, None]},
    {"randint": [0, 2**70]},
    {"unifrom": [0, 1]},
    {"sample_from": "lambda: 1"},
)
KEYS = (
    *ACTING,
    *IDLE,
    *RENAMED,
    *GONE,
    "lr",
    "layer",
    "seed",
    "N",
    "stop",
    "tune",
    "metric",
    "scheduler",
    "",
    "é",
    "lrr",
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path to everything inside a file's content."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*here, key)
        yield from paths(inner, (*here, key))


@st.composite
def spoilt_values(draw: st.DrawFn) -> str:
    """Draws an example with a few of its values replaced, its keys renamed, taken out or added to."""
    content: Any = copy.deepcopy(read_yaml_file(draw(st.sampled_from(EXAMPLES))))
    for _ in range(draw(st.integers(1, 3))):
        places = list(paths(content))
        if not places:
            break
        *above, key = draw(st.sampled_from(places))
        holder = content
        for step in above:
            holder = holder[step]
        change = draw(st.sampled_from(("value", "value", "key", "without", "beside")))
        if change == "value" or isinstance(holder, list):
            holder[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
        elif change == "key":
            holder[draw(misspelt(str(key)))] = holder.pop(key)
        elif change == "without":
            del holder[key]
        else:
            holder[draw(st.sampled_from(KEYS))] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


@st.composite
def spoilt_text(draw: st.DrawFn) -> str:
    """Draws an example with a few of its characters or lines changed."""
    text = draw(st.sampled_from(EXAMPLES)).read_text()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(text) - 1, 0)))
        to = min(len(text), at + draw(st.integers(0, 40)))
        piece = draw(
            st.sampled_from(
                ("", " ", "\t", "\n", ":", "- ", "{", "}", "[", "]", "&a ", "*a", "!x ", "'", '"', "#", "%")
            )
        )
        text = draw(
            st.sampled_from((text[:at] + piece + text[to:], text[:at] + piece + text[at:], text[:to] + text[at:]))
        )
    return text


@st.composite
def misspelt(draw: st.DrawFn, name: str) -> str:
    """Draws a name with one letter too few, too many or another."""
    at = draw(st.integers(0, max(len(name) - 1, 0)))
    letter = draw(st.sampled_from("aex_- "))
    return draw(
        st.sampled_from(
            (name[:at] + name[at + 1 :], name[:at] + letter + name[at:], name[:at] + letter + name[at + 1 :])
        )
    )


@st.composite
def odd_options(draw: st.DrawFn) -> list[str]:
    """Draws options of `rllib train` that are laid over a file."""
    value = draw(st.sampled_from(ODD_VALUES))
    key = draw(st.sampled_from((*KEYS, "env_config.N", "env_config", "lr.a", ".", "=", "tune")))
    written = (
        yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("\n").removesuffix("\n...")
    )
    option = draw(
        st.sampled_from(("--set", "--set", "--stop", "--seed", "--num-samples", "--checkpoint-freq", "--storage-path"))
    )
    return [option, f"{key}={written}" if option in ("--set", "--stop") else written]
