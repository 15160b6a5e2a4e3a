"""Which owner keeps which weight, from a policy: any layer that gives each owner weights of its own can be shown.

Shapes: `A` mask owners, `I`/`J` in/out features, `G` groups, `P` patterns.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from k24_rllib.report.page import Section, Table

if TYPE_CHECKING:
    import torch

    from k24_rllib.models.agent import Agent
    from k24_rllib.sparsity import SemiStructuredLinear

MOST_BYTES = 3_000_000
"""Of all masks in a page; those of larger networks are counted and not drawn."""
MOST_OWNERS = 16
"""In a matrix of owners; of more it could not be read."""

Masks = NDArray[np.bool_]  # [A, J, I]


def masks_section(agent: Agent, owners: tuple[str, ...]) -> Section:
    """Returns a picture of each masked layer, how often each pattern is kept, and how alike owners are.

    Args:
        agent: The network.
        owners: Names of its mask owners; those that have none are numbered.
    """
    names = _names(agent, owners)
    layers, notes = dict(_layers(agent)), []
    if not layers:
        return Section("Masks", notes=["no layer has masks that differ between owners or leave weights out"])
    sizes = {name: np.packbits(masks, axis=-1).nbytes for name, masks in layers.items()}
    pictures: list[dict[str, Any]] = []
    for name, masks in layers.items():
        if sum(sizes[picture["name"]] for picture in pictures) + sizes[name] > MOST_BYTES:
            notes.append(f"{name}: not drawn, {masks.size:,} numbers would make the page too large")
        else:
            pictures.append(_picture(name, masks, names))
    tables = [_kept(layers, names), *_patterns(agent, names), *_alike(agent, layers, names)]
    if len(names) > MOST_OWNERS:
        notes.append(f"the first {MOST_OWNERS} of {len(names)} owners are in the tables")
    return Section("Masks", notes=notes, tables=tables, masks=pictures)


def _names(agent: Agent, owners: tuple[str, ...]) -> list[str]:
    known = len(owners) == agent.num_owners
    return [owners[owner] if known else f"owner {owner}" for owner in range(agent.num_owners)]


def _layers(agent: Agent) -> Iterator[tuple[str, Masks]]:
    """Yields the masked layers' names, and which weights each owner uses as the team acts, `[A, J, I]`."""
    import torch

    names = {id(module): name for name, module in agent.named_modules()}
    with torch.no_grad():
        for index, layer in enumerate(agent.layers()):
            masks: Masks = (layer.weights(explore=False) != 0).cpu().numpy()
            if layer.shares_weights and not masks.all():
                yield names.get(id(layer)) or f"layer {index}", masks


def _picture(name: str, masks: Masks, owners: list[str]) -> dict[str, Any]:
    """Returns a layer for the page: a bit for each weight, rows of outputs padded to whole bytes, owner by owner."""
    count, outputs, inputs = masks.shape
    bits = base64.b64encode(np.packbits(masks, axis=-1).tobytes()).decode()
    return {"name": name, "owners": owners[:count], "outputs": outputs, "inputs": inputs, "bits": bits}


def _kept(layers: dict[str, Masks], names: list[str]) -> Table:
    """Returns what there is of each layer: weights, how many an owner keeps, how many all keep, and nobody."""
    rows = [["layer", "weights", "kept by an owner", "kept by all", "kept by none"]]
    for name, masks in layers.items():
        _, outputs, inputs = masks.shape
        shares = (masks.mean(), masks.all(0).mean(), (~masks.any(0)).mean())
        rows.append([name, f"{outputs} x {inputs}", *(f"{share:.1%}" for share in shares)])
    return Table(rows, f"Weights of the masked layers, {len(names)} owners")


def _patterns(agent: Agent, names: list[str]) -> Iterator[Table]:
    """Yields how often each owner's most likely pattern is which, over the groups of all n:m layers that can choose."""
    layers = _choosing(agent)
    if not layers:
        return
    columns = ["".join(str(int(kept)) for kept in pattern) for pattern in layers[0].patterns]
    if len(columns) > 8:  # of 4:8 there are 70
        return
    counts = np.zeros((layers[0].num_distinct, len(columns)))
    for layer in layers:
        chosen = layer.most_likely_patterns()[..., : layer.num_choice_groups].cpu().numpy()  # [R, J, G]
        counts += np.stack([np.bincount(its.ravel(), minlength=len(columns)) for its in chosen])
    shares = counts / counts.sum(1, keepdims=True)
    rows = [["owner", *columns]]
    rows += [[names[owner], *(f"{share:.1%}" for share in each)] for owner, each in enumerate(shares[:MOST_OWNERS])]
    shades = (shares / max(shares.max(), 1e-9)).tolist()
    yield Table(rows, f"Patterns: share of groups that keep which of their {layers[0].m} weights", shades)


def _alike(agent: Agent, layers: dict[str, Masks], names: list[str]) -> Iterator[Table]:
    """Yields matrices of owners: how many weights two treat alike and, of n:m layers, `pi[a] . pi[b]`."""
    masks = np.concatenate([its.reshape(len(its), -1) for its in layers.values()], axis=1)[:MOST_OWNERS]
    if len(masks) < 2:
        return
    same = np.stack([(masks == mine).mean(1) for mine in masks])
    yield _matrix(same, names, "Alike: share of weights that both owners keep, or both leave out")
    choosing = [layer for layer in _choosing(agent) if layer.num_distinct > 1]
    if choosing:
        similar = np.mean([_similarity(layer) for layer in choosing], axis=0)[:MOST_OWNERS, :MOST_OWNERS]
        caption = "Similarity pi[a] . pi[b] of the owners' pattern distributions, mean over groups (1/6: uniform)"
        yield _matrix(similar, names, caption)


def _similarity(layer: SemiStructuredLinear) -> NDArray[np.float32]:
    """Returns the mean over groups with a choice of `pi[a] . pi[b]`, `[A, A]`."""
    import torch

    with torch.no_grad():
        probs: torch.Tensor = layer.pattern_probs(choice_only=True).flatten(1)  # [A, J*G*P]
        groups = probs.shape[1] // len(layer.patterns)
        matrix: NDArray[np.float32] = (probs @ probs.T / groups).cpu().numpy()
    return matrix


def _matrix(values: NDArray[Any], names: list[str], caption: str) -> Table:
    rows = [["", *names[: len(values)]]]
    rows += [[names[owner], *(f"{value:.2f}" for value in each)] for owner, each in enumerate(values)]
    return Table(rows, caption, np.clip(values, 0.0, 1.0).tolist())


def _choosing(agent: Agent) -> list[SemiStructuredLinear]:
    """Returns the n:m layers in which there is a group with a choice."""
    from k24_rllib.sparsity import SemiStructuredLinear

    return [layer for layer in agent.layers_of(SemiStructuredLinear) if layer.num_choice_groups > 0]
