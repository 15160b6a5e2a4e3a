"""Random streams: each its own, the same every time, and none the wiser of another."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import torch

from k24_rllib.qmix.streams import (
    Streams,
    draw_from,
    drawing_from,
    env_seed,
    global_state,
    set_global_state,
    undisturbed,
)

CPU = torch.device("cpu")


def draws() -> tuple[float, float, float]:
    return float(torch.rand(())), float(np.random.rand()), random.random()


def test_every_stream_is_its_own() -> None:
    seen = []
    for seed, worker, number in product(range(4), repeat=3):
        streams = Streams.of(seed)
        seen += [streams.training(worker, number), streams.evaluation(worker, number)]
    seen += [
        its for seed in range(4) for its in (Streams(seed).greedy(), Streams(seed).replay(), Streams(seed).learner())
    ]
    assert len({env_seed(stream) for stream in seen}) == len(seen)
    firsts = set()
    for stream in seen:
        with drawing_from(stream, CPU):
            firsts |= set(draws())
    assert len(firsts) == 3 * len(seen)


def test_a_stream_is_the_same_every_time_whatever_was_drawn_before() -> None:
    stream = Streams.of(3).training(worker=1, number=70_000)
    played = []
    for _ in range(2):
        torch.rand(5)
        with drawing_from(stream, CPU):
            played.append((draws(), env_seed(stream)))
    assert played[0] == played[1]
    assert 0 <= env_seed(stream) < 2**31


def test_a_block_leaves_the_global_generators_as_they_were() -> None:
    draw_from(Streams.of(0).learner(), CPU)
    expected = [draws() for _ in range(3)]
    draw_from(Streams.of(0).learner(), CPU)
    seen = [draws()]
    with drawing_from(Streams.of(0).training(0, 0), CPU):
        draws()
    seen.append(draws())
    with undisturbed(CPU):
        draws()
        np.random.seed(5)
    assert [*seen, draws()] == expected


def test_the_global_generators_go_on_from_a_saved_state() -> None:
    state = global_state(CPU)
    expected = [draws() for _ in range(3)]
    set_global_state(state, CPU)
    assert [draws() for _ in range(3)] == expected


def test_without_a_seed_streams_differ() -> None:
    assert Streams.of(None) != Streams.of(None)
    assert Streams.of(0) == Streams.of(0)
