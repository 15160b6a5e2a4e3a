"""What is in a team's file, in lines: layers, density, bytes beside dense networks', patterns, how alike owners are.

Shapes: see `team.py`.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np

from k24_rllib.serve.agent import ONNX_SUFFIX
from k24_rllib.serve.files import TeamFile, read_team
from k24_rllib.serve.number_types import DTYPE_BYTES
from k24_rllib.serve.pattern_bits import pattern_table
from k24_rllib.serve.team import Cell, Linear, Spec, Stage, Team

BIAS_BYTES = 4
"""Biases are float32 in every type."""
MOST_LISTED = 6
"""Patterns of a line: all of 2:4."""


def dense_bytes(team: Team) -> int:
    """Returns the bytes of a dense network for each owner, nothing shared, in the team's type; biases are float32."""
    return team.spec.num_owners * sum(_dense_bytes(stage, team.spec.dtype) for stage in team.stages)


def _dense_bytes(stage: Stage, dtype: str) -> int:
    """Returns the bytes of one owner's dense stage; with int8 each row has a scale of float32."""
    shapes = [stage.w_ih.shape, stage.w_hh.shape] if isinstance(stage, Cell) else [stage.weight.shape]
    biases = [stage.b_ih, stage.b_hh] if isinstance(stage, Cell) else [stage.bias]
    total = sum(DTYPE_BYTES[dtype] * rows * columns for _, rows, columns in shapes)
    total += sum(BIAS_BYTES * bias.shape[1] for bias in biases if bias is not None)
    return total + (sum(4 * rows for _, rows, _ in shapes) if dtype == "int8" else 0)


def similarity(layer: Linear) -> float | None:
    """Returns how alike owners are, the mean over pairs, or None where all owners have the same.

    Of layers with patterns it is the share of groups in which both have the same one; of others with masks, of the
    weights that either keeps, the share that both do.
    """
    if layer.num_distinct == 1 or layer.masks() is None:
        return None
    if layer.patterns is not None:
        pairs = [float((a == b).mean()) for a, b in combinations(layer.patterns, 2)]
    else:
        masks = layer.masks()
        assert masks is not None
        pairs = [float((a & b).sum() / max((a | b).sum(), 1)) for a, b in combinations(masks, 2)]
    return float(np.mean(pairs))


def pattern_shares(layer: Linear) -> dict[str, float]:
    """Returns the share of groups, over all owners, that has each pattern, as in `{"1100": 0.2}`."""
    if layer.patterns is None or layer.ratio is None:
        return {}
    counts = np.bincount(layer.patterns.reshape(-1), minlength=len(pattern_table(*layer.ratio)))
    names = ("".join(str(int(kept)) for kept in row) for row in pattern_table(*layer.ratio))
    return dict(zip(names, (float(count) for count in counts / counts.sum()), strict=True))


def density(layer: Linear) -> float:
    """Returns the share of a layer's weights that an owner keeps, mean over owners."""
    masks = layer.masks()
    if masks is None and layer.ratio is not None:  # a plain file has zeros for what is not kept
        masks = layer.weights() != 0
    return 1.0 if masks is None else float(masks.mean())


def report_lines(path: Path) -> list[str]:
    """Returns what to tell of a team's file.

    Raises:
        ConfigError: for what `load_agent` refuses.
    """
    if path.suffix == ONNX_SUFFIX:
        from k24_rllib.serve.onnx_backend import open_onnx

        spec = open_onnx(path)[1]
        return _about(path, "onnx", path.stat().st_size, spec)
    file = read_team(path)
    lines = _about(path, file.form, file.nbytes, file.team.spec)
    lines += ["", f"{'layer':<10}{'of':<14}{'shape':<20}{'density':>8}{'bytes':>12}{'dense':>12}{'alike':>8}"]
    lines += [_stage_line(stage, file) for stage in file.team.stages]
    total, dense = sum(file.layer_bytes.values()), dense_bytes(file.team)
    lines.append(f"{'all':<52}{total:>12,}{dense:>12,}")
    owners = file.team.spec.num_owners
    lines += [
        "",
        f"{owners} dense networks of {file.team.spec.dtype} would take {dense:,} bytes: {total / dense:.3f} of them",
    ]
    shares = [(layer.name, pattern_shares(layer)) for layer in file.team.layers() if layer.patterns is not None]
    if shares:
        lines += ["", "patterns, share of groups over all owners"]
        lines += [f"{name:<10}{_most(its)}" for name, its in shares]
    return lines


def _most(shares: dict[str, float]) -> str:
    """Returns patterns' shares on a line, the largest alone where there are too many."""
    listed = list(shares.items())
    if len(listed) > MOST_LISTED:
        listed = sorted(listed, key=lambda item: -item[1])[:MOST_LISTED]
    rest = f"  and {len(shares) - len(listed)} more" if len(listed) < len(shares) else ""
    return "  ".join(f"{pattern} {share:.3f}" for pattern, share in listed) + rest


def _about(path: Path, form: str, nbytes: int, spec: Spec) -> list[str]:
    owners = "change between episodes" if spec.owners is None else ", ".join(map(str, spec.owners))
    seen = (
        [f"{spec.obs_dim} observed", f"{spec.num_agents} of the agent id"]
        if spec.agent_id
        else [f"{spec.obs_dim} observed"]
    )
    if spec.last_action:
        seen.append(f"{spec.num_actions} of the last action")
    return [
        f"{'file':<15}{path} ({nbytes:,} bytes, {form}, {spec.dtype})",
        f"{'team':<15}{spec.num_agents} agents of {spec.env}, trained by {spec.algorithm} (k24_rllib {spec.made_by})",
        f"{'agents':<15}{', '.join(spec.agents)}",
        f"{'mask owners':<15}{spec.num_owners}: {owners}",
        f"{'inputs':<15}{' + '.join(seen)}; {spec.num_actions} actions, {spec.memory} numbers remembered",
    ]


def _stage_line(stage: Stage, file: TeamFile) -> str:
    dtype, owners = file.team.spec.dtype, file.team.spec.num_owners
    if isinstance(stage, Cell):
        count, rows, columns = stage.w_ih.shape
        kind, kept, alike = "gru", 1.0, None
    else:
        count, rows, columns = stage.weight.shape
        kind, kept, alike = _kind(stage), density(stage), similarity(stage)
    shape = f"{count} x {rows} x {columns}" if count > 1 else f"{rows} x {columns}"
    dense = owners * _dense_bytes(stage, dtype)
    told = "" if alike is None else f"{alike:.3f}"
    line = f"{stage.name:<10}{kind:<14}{shape:<20}{kept:>8.3f}{file.layer_bytes[stage.name]:>12,}{dense:>12,}{told:>8}"
    return line.rstrip()


def _kind(layer: Linear) -> str:
    """Returns how owners share a layer, in a word or two."""
    if layer.ratio is not None:
        return f"{layer.ratio[0]}:{layer.ratio[1]}"
    if layer.kept is not None:
        return "pruned"
    return "each its own" if layer.num_distinct > 1 else "shared"
