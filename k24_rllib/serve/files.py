"""Teams in files, read and written with NumPy alone: packed, or with the weights of each owner as they are multiplied.

Packed, what owners share is there once, and what each owner keeps of it as bits: a pattern's index for each row and
group of a layer with patterns, a bit for each weight and the kept weights alone of one that prunes as it likes. Plain,
any program finds each owner's weights by name. Both hold the same numbers.

Shapes: see `team.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.checks import ConfigError, check_choice
from k24_rllib.serve.container import Arrays, read_container, write_container
from k24_rllib.serve.number_types import DTYPES, Numbers, stored_type
from k24_rllib.serve.pattern_bits import (
    illegal_pattern,
    index_bits,
    most_kept,
    pack_indices,
    pattern_table,
    unpack_indices,
)
from k24_rllib.serve.team import Cell, Linear, Spec, Stage, Team

FORMS = ("packed", "plain")
MOST_PATTERNS = 256
"""Of a ratio: an index has 8 bits at most."""


def write_team(path: Path | str, team: Team, form: str = "packed") -> int:
    """Writes a team to a file and returns its bytes.

    Args:
        path: The file.
        team: The team.
        form: `packed`, or `plain`: larger, with each owner's weights as they are multiplied.
    """
    check_choice("form", form, FORMS)
    arrays: Arrays = {}
    stages = [_write_stage(arrays, stage, form) for stage in team.stages]
    about = {"form": form, "team": spec_text(team.spec), "stages": json.dumps(stages)}
    return write_container(path, arrays, about)


def spec_text(spec: Spec) -> str:
    """Returns a team's sizes and names as JSON."""
    return json.dumps(asdict(spec))


def _write_stage(arrays: Arrays, stage: Stage, form: str) -> dict[str, Any]:
    """Puts a stage's arrays among the others, and returns the rest of it."""
    if isinstance(stage, Cell):
        for name in ("w_ih", "w_hh"):
            _write_numbers(arrays, f"{stage.name}.{name}", getattr(stage, name))
        arrays |= {f"{stage.name}.{name}": getattr(stage, name) for name in ("b_ih", "b_hh")}
        return {"kind": "gru", "name": stage.name}
    plain = form == "plain"
    weight = _each_owners(stage) if plain else stage.weight
    about = {
        "kind": "linear",
        "name": stage.name,
        "relu": stage.relu,
        "shape": list(weight.shape),
        "ratio": None if stage.ratio is None else list(stage.ratio),
        "masks": _masks(stage, plain),
    }
    if stage.bias is not None:
        arrays[f"{stage.name}.bias"] = stage.bias
    if stage.gain is not None and not plain:
        arrays[f"{stage.name}.gain"] = stage.gain
    if about["masks"] == "patterns" and stage.patterns is not None and stage.ratio is not None:
        arrays[f"{stage.name}.patterns"] = pack_indices(stage.patterns, index_bits(*stage.ratio))
    if about["masks"] == "bits" and stage.kept is not None:
        arrays[f"{stage.name}.kept"] = np.packbits(stage.kept, axis=-1, bitorder="little")
        weight = Numbers(weight.dtype, weight.stored[stage.kept], weight.scale)
    _write_numbers(arrays, f"{stage.name}.weight", weight)
    return about


def _masks(layer: Linear, plain: bool) -> str | None:
    """Returns how a file says what owners keep."""
    if plain or layer.masks() is None:
        return None
    return "bits" if layer.patterns is None else "patterns"


def _each_owners(layer: Linear) -> Numbers:
    """Returns each owner's weights as they are multiplied, 0 where one is pruned, `[R, J, I]`."""
    weight, masks = layer.weight, layer.masks()
    if layer.gain is not None:
        return Numbers.of(f"{layer.name}.weight", layer.weights(), weight.dtype)
    if masks is None:
        return weight
    scale = weight.scale
    if scale is not None:
        scale = np.broadcast_to(scale, (len(masks), *scale.shape[1:]))
    return Numbers(weight.dtype, weight.stored * masks, scale)


def _write_numbers(arrays: Arrays, name: str, numbers: Numbers) -> None:
    arrays[name] = numbers.stored
    if numbers.scale is not None:
        arrays[f"{name}.scale"] = numbers.scale


@dataclass(frozen=True)
class TeamFile:
    """What a file holds.

    Attributes:
        team: The team.
        form: See `write_team`.
        nbytes: Bytes of the file.
        layer_bytes: Bytes of each stage's arrays, by its name.
    """

    team: Team
    form: str
    nbytes: int
    layer_bytes: dict[str, int]


def read_team(path: Path | str) -> TeamFile:
    """Reads a team from a file, packed or plain, and runs no code of it.

    Raises:
        ConfigError: for a file that is not as it was written, of another version, or whose parts don't fit each other:
            naming the layer that is not n of every m, or has another shape than the one before it gives.
    """
    path = Path(path)
    arrays, about = read_container(path)
    reader = _Reader(path, dict(arrays))
    form = reader.check("form", about.get("form"), lambda value: value in FORMS, " or ".join(FORMS))
    spec = read_spec(path, about)
    reader.begin(spec)
    stages = tuple(reader.stage(entry) for entry in reader.entries(about.get("stages")))
    reader.end(spec, stages)
    sizes = {stage.name: 0 for stage in stages}
    for name, array in arrays.items():
        sizes[name.partition(".")[0]] += array.nbytes
    return TeamFile(Team(spec, stages), form, path.stat().st_size, sizes)


def read_spec(path: Path, about: dict[str, str]) -> Spec:
    """Returns the sizes and names that a file states.

    Raises:
        ConfigError: naming what is missing or can't be.
    """
    try:
        given = json.loads(about["team"])
        spec = Spec(**{**given, "agents": tuple(given["agents"]), "owners": given["owners"] and tuple(given["owners"])})
    except (KeyError, TypeError, ValueError, RecursionError):
        names = ", ".join(field.name for field in fields(Spec))
        raise ConfigError(f"{path}: team: is not what this version writes, expected {names}") from None
    texts = (*spec.agents, spec.algorithm, spec.env, spec.made_by)
    sizes = (spec.obs_dim, spec.num_actions, spec.num_owners, spec.num_agents)
    owners = spec.owners if spec.owners is not None else (0,) * spec.num_agents
    if not (
        all(isinstance(text, str) for text in texts)
        and all(type(size) is int and size > 0 for size in sizes)
        and all(type(flag) is bool for flag in (spec.agent_id, spec.last_action))
        and type(spec.memory) is int
        and len(owners) == spec.num_agents
        and all(type(owner) is int and 0 <= owner < spec.num_owners for owner in owners)
        and spec.dtype in DTYPES
    ):
        raise ConfigError(f"{path}: team: sizes, names, flags or owners can't be those of a team")
    return spec


class _Reader:
    """Takes stages out of a file's arrays, each checked by itself and against the one before."""

    def __init__(self, path: Path, arrays: Arrays) -> None:
        self._path = path
        self._arrays = arrays
        self._seen: set[str] = set()

    def check(self, what: str, value: Any, fits: Callable[[Any], bool], expected: str) -> Any:
        """Returns a value that fits; otherwise a `ConfigError` says what was expected."""
        if not fits(value):
            raise ConfigError(f"{self._path}: {what}: got {value!r}, expected {expected}")
        return value

    def begin(self, spec: Spec) -> None:
        """Takes the sizes that stages must fit."""
        self._owners, self._dtype, self._width = spec.num_owners, spec.dtype, spec.input_dim

    def entries(self, text: str | None) -> list[dict[str, Any]]:
        """Returns what is said of each stage."""
        try:
            entries = json.loads(text or "")
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise ConfigError(f"{self._path}: stages: is not what this version writes, expected the network's stages")
        return entries

    def stage(self, entry: dict[str, Any]) -> Stage:
        """Returns the stage of an entry."""
        name = entry.get("name")
        named = isinstance(name, str) and name != "" and "." not in name and name not in self._seen
        self.check("stages: name", name, lambda _: named, "a name of its own without dots")
        self._seen.add(str(name))
        kind = self.check(f"{name}: kind", entry.get("kind"), lambda value: value in ("linear", "gru"), "linear or gru")
        stage = self._linear(str(name), entry) if kind == "linear" else self._cell(str(name))
        if stage.in_features != self._width:
            raise ConfigError(
                f"{self._path}: {name}: takes {stage.in_features} numbers, expected the {self._width} before it"
            )
        self._width = stage.out_features
        return stage

    def end(self, spec: Spec, stages: tuple[Stage, ...]) -> None:
        """Checks what all stages together must be."""
        memory = sum(stage.out_features for stage in stages if isinstance(stage, Cell))
        self.check(
            "network: action values", self._width, lambda value: value == spec.num_actions, f"{spec.num_actions}"
        )
        self.check("network: memory", memory, lambda value: value == spec.memory, f"{spec.memory}")
        if self._arrays:
            raise ConfigError(f"{self._path}: {min(self._arrays)}: is of no stage of the network")

    def _linear(self, name: str, entry: dict[str, Any]) -> Linear:
        relu = self.check(f"{name}: relu", entry.get("relu"), lambda value: isinstance(value, bool), "true or false")
        shape = self._shape(name, entry.get("shape"))
        ratio = self._ratio(name, entry.get("ratio"))
        masks = self.check(
            f"{name}: masks", entry.get("masks"), lambda value: value in (None, "patterns", "bits"), "patterns or bits"
        )
        patterns = kept = None
        if masks == "patterns":
            patterns = self._patterns(name, shape, ratio)
        if masks == "bits":
            kept = self._kept(name, shape)
        weight = self._numbers(f"{name}.weight", shape, kept)
        bias = self._biases(f"{name}.bias", shape[1]) if f"{name}.bias" in self._arrays else None
        owners = (self._owners,)
        gain = self._biases(f"{name}.gain", shape[1], owners) if f"{name}.gain" in self._arrays else None
        layer = Linear(name, relu, weight, bias, ratio, patterns, kept, gain)
        if ratio is not None and patterns is None:
            self._check_ratio(layer, ratio)
        return layer

    def _cell(self, name: str) -> Cell:
        w_hh = self._arrays.get(f"{name}.w_hh")
        hidden = w_hh.shape[2] if w_hh is not None and w_hh.ndim == 3 else 0
        w_ih = self._arrays.get(f"{name}.w_ih")
        count = w_ih.shape[0] if w_ih is not None and w_ih.ndim == 3 else 0
        shape = self._shape(name, [count, 3 * hidden, self._width])
        return Cell(
            name,
            self._numbers(f"{name}.w_ih", shape),
            self._numbers(f"{name}.w_hh", (count, 3 * hidden, hidden)),
            self._biases(f"{name}.b_ih", 3 * hidden, (count,)),
            self._biases(f"{name}.b_hh", 3 * hidden, (count,)),
        )

    def _shape(self, name: str, shape: Any) -> tuple[int, int, int]:
        fits = isinstance(shape, list) and len(shape) == 3 and all(type(size) is int and size > 0 for size in shape)
        fits = fits and shape[0] in (1, self._owners)
        count = " or ".join(str(number) for number in dict.fromkeys((1, self._owners)))
        self.check(f"{name}: shape", shape, lambda _: fits, f"[{count}, outputs, inputs]")
        return shape[0], shape[1], shape[2]

    def _ratio(self, name: str, ratio: Any) -> tuple[int, int] | None:
        if ratio is None:
            return None
        whole = isinstance(ratio, list) and len(ratio) == 2 and all(type(number) is int for number in ratio)
        fits = whole and 0 < ratio[0] < ratio[1] <= 16 and len(pattern_table(*ratio)) <= MOST_PATTERNS
        self.check(f"{name}: ratio", ratio, lambda _: fits, "n of every m weights, such as [2, 4]")
        return ratio[0], ratio[1]

    def _take(self, name: str, kind: type, shape: tuple[int, ...]) -> NDArray[Any]:
        array = self._arrays.pop(name, None)
        if array is None:
            raise ConfigError(f"{self._path}: {name}: is missing")
        if array.dtype != kind or array.shape != shape:
            got = f"{array.dtype.name} {list(array.shape)}"
            raise ConfigError(f"{self._path}: {name}: got {got}, expected {np.dtype(kind).name} {list(shape)}")
        return array

    def _numbers(self, name: str, shape: tuple[int, int, int], kept: NDArray[np.bool_] | None = None) -> Numbers:
        """Returns a matrix for each owner; of one that is pruned only what is kept is in the file."""
        scale = None
        if self._dtype == "int8":
            scale = self._finite(f"{name}.scale", self._take(f"{name}.scale", np.float32, (*shape[:2], 1)))
        kind = stored_type(self._dtype)
        stored = self._take(name, kind, shape if kept is None else (int(kept.sum()),))
        if kept is not None:
            full: NDArray[Any] = np.zeros(shape, kind)
            full[kept] = stored
            stored = full
        numbers = Numbers(self._dtype, stored, scale)
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            self._finite(name, numbers.float32())
        return numbers

    def _biases(self, name: str, size: int, counts: tuple[int, ...] = ()) -> NDArray[np.float32]:
        array = self._arrays.get(name)
        count = len(array) if array is not None and array.ndim == 2 else 1
        if count not in (counts or (1, self._owners)):
            count = counts[0] if counts else 1
        return self._finite(name, self._take(name, np.float32, (count, size)))

    def _finite(self, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise ConfigError(f"{self._path}: {name}: holds a number that is not finite")
        return values

    def _patterns(self, name: str, shape: tuple[int, int, int], ratio: tuple[int, int] | None) -> NDArray[np.uint8]:
        if ratio is None or shape[0] != 1:
            raise ConfigError(f"{self._path}: {name}: patterns: expected a ratio, and weights that owners share")
        n, m = ratio
        groups, bits = -(-shape[2] // m), index_bits(n, m)
        name = f"{name}.patterns"
        array = self._arrays.get(name)
        count = len(array) if array is not None and array.ndim == 3 and len(array) == self._owners else 1
        packed = self._take(name, np.uint8, (count, shape[1], -(-groups * bits // 8)))
        indices = unpack_indices(packed, bits, groups)
        wrong = illegal_pattern(indices, ratio, shape[2])
        if wrong is not None or not (pack_indices(indices, bits) == packed).all():
            what = "bits beyond the last group" if wrong is None else f"a pattern {wrong}"
            raise ConfigError(f"{self._path}: {name}: is not {n}:{m}: {what}")
        return indices

    def _kept(self, name: str, shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        packed = self._take(f"{name}.kept", np.uint8, (*shape[:2], -(-shape[2] // 8)))
        return np.unpackbits(packed, axis=-1, count=shape[2], bitorder="little").astype(bool)

    def _check_ratio(self, layer: Linear, ratio: tuple[int, int]) -> None:
        n, m = ratio
        most = most_kept(layer.weights(), m)
        if most > n:
            raise ConfigError(f"{self._path}: {layer.name}.weight: is not {n}:{m}: keeps {most} of a group of {m}")
