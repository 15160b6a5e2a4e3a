"""The benchmarks: real runs of the quick kind, their structure, and bad input. How fast anything is, no test says."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import figure, floor, results, scaling, team, timing
from benchmarks.__main__ import main
from benchmarks.options import BENCHMARKS

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _restore_torch() -> Iterator[None]:
    """A benchmark sets up its process as a learner does; here that process goes on."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls the benchmarks in this process, and returns what a process of their own would have given."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        arguments = [str(word) for word in words]
        code = main(arguments)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, captured.out, captured.err)

    return run


@pytest.fixture
def quick(call: Call, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs benchmarks with little to do; returns the JSON that they wrote and what they printed."""

    def run(*words: object) -> tuple[dict[str, Any], str]:
        file = tmp_path / "bench.json"
        outcome = call(*words, "--quick", "--json", file)
        assert outcome.returncode == 0, outcome.stderr
        return json.loads(file.read_text()), outcome.stdout

    return run


def assert_figures(section: dict[str, Any], repeats: int) -> None:
    """Every figure has a sample for each turn, and its median and quartiles belong to them."""
    assert section["quantities"]
    for name, quantity in section["quantities"].items():
        low, high = quantity["quartiles"]
        assert len(quantity["samples"]) == repeats, name
        assert min(quantity["samples"]) <= low <= quantity["median"] <= high <= max(quantity["samples"]), name
        if "the rest" not in name:  # a difference
            assert quantity["median"] > 0, name


def test_update(quick: Callable[..., tuple[dict[str, Any], str]]) -> None:
    found, printed = quick("update", "--hidden", 8, "--repeats", 2)
    assert list(found["sections"]) == ["update"]
    section = found["sections"]["update"]
    assert_figures(section, 2)
    quantities = section["quantities"]
    ratios = [
        mine / dense for mine, dense in zip(*(quantities[n]["samples"] for n in ("K24QMix", "QMix")), strict=True)
    ]
    assert quantities["K24QMix / QMix"]["samples"] == pytest.approx(ratios)
    assert quantities["K24QMix / K24QMix"]["median"] == 1.0
    for name in ("floor, MKL (precision highest)", "plain PyTorch, nn.GRU", "QMix: loss, backward"):
        assert name in quantities
    assert section["targets"] == []  # they hold for the default sizes
    assert "K24QMix / it" in printed
    assert "targets" not in printed
    assert set(found["versions"]) == {"python", "torch", "ray", "numpy", "mpe2", "k24_rllib"}
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["torch_threads"] == 1


def test_rollout(quick: Callable[..., tuple[dict[str, Any], str]]) -> None:
    found, printed = quick("rollout", "--agents", 2, "--copies", 3, "--repeats", 2)
    section = found["sections"]["rollout"]
    assert_figures(section, 2)
    whole, rate = (section["quantities"][f"QMix: {name}"]["samples"] for name in ("whole rollout", "rate"))
    assert [ms * steps for ms, steps in zip(whole, rate, strict=True)] == pytest.approx([3 * 25 * 1e3] * 2)
    assert "forward passes" in printed


def test_environment_has_every_scenario_and_its_targets(quick: Callable[..., tuple[dict[str, Any], str]]) -> None:
    found, printed = quick("environment", "--repeats", 1)
    section = found["sections"]["environment"]
    assert_figures(section, 1)
    assert len(section["quantities"]) == 3 * 10
    assert [target["limit"] for target in section["targets"]] == [60.0, 120.0, 30.0]
    slowest = min(value["median"] for name, value in section["quantities"].items() if name.endswith("ratio"))
    assert section["targets"][-1]["measured"] == slowest
    assert all(target["met"] == (target["measured"] >= target["limit"]) for target in section["targets"])
    assert "≥ 120 x" in printed


def test_the_floor_holds_the_products_of_an_update() -> None:
    """Counted by hand: an agent of 20 inputs, 5 actions, width 8; a mixer of 12 states, width 4; see `Floor`."""
    sizes = team.Sizes(agents=2, hidden=8)
    model = team.make_policy("QMix", sizes).model
    rows, inputs, actions = 26 * 32 * 2, model.agent.fc1.weight.shape[-1], model.num_actions
    learned = 8 * 8 * 2 + 8 * actions + 8 * 24 * 2  # fc2, fc3, fc4, both products of the GRU
    agent = rows * (2 * (inputs * 8 + learned) + inputs * 8 + 2 * learned)
    layers = [layer.weight.shape for layer in model.mixer.modules() if isinstance(layer, torch.nn.Linear)]
    mixer = 25 * 32 * (4 * sum(j * i for j, i in layers) - layers[0].numel())
    shared, own = floor.Floor(model), floor.Floor(model, owners=2)
    assert shared.operations() == own.operations() == 2 * (agent + mixer)
    shared.run()
    for left, right, result in shared.products:
        torch.testing.assert_close(result, left @ right)


def test_turns_go_back_and_forth_and_warm_ups_do_not_count() -> None:
    order: list[str] = []

    def measure(name: str) -> Callable[[], float]:
        return lambda: float(len(order)) if order.append(name) is None else 0.0

    taken = timing.in_turn({"a": measure("a"), "b": measure("b")}, repeats=2, warmups=1)
    assert order == ["b", "a", "a", "b", "b", "a"]
    assert taken == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_a_scaling_figure_is_drawn_from_its_section(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"agents": (3, 6), "hidden": (64,), "copies": (1, 4)}
    section = results.Section("scaling", "", [], settings=axes)
    for agents in axes["agents"]:
        sizes = team.Sizes(agents)
        names = [scaling.key("update", name, sizes) for name in ("K24QMix", "QMix", "floor")]
        for copies in axes["copies"]:
            names += [scaling.key("rollout", name, sizes, f"copies {copies}") for name in team.CONFIGS]
            for workers in scaling.WORKERS:
                names.append(scaling.key("workers", "K24QMix", sizes, f"copies {copies}", f"workers {workers}"))
        section.quantities |= {name: results.Quantity("ms", [1.0, 2.0]) for name in names}
    figure.draw(section, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["updaet"], ["unknown benchmark 'updaet'", "did you mean 'update'?"]),
        (["update", "--agents", "0"], ["--agents: got '0'", "whole number of at least 1"]),
        (["update", "--hidden", "wide"], ["--hidden: got 'wide'"]),
        (["--copies", "-1"], ["--copies"]),
        (["--threads", "1.5"], ["--threads: got '1.5'"]),
        (["--repeats", "0"], ["--repeats: got '0'"]),
        (["--seconds", "0"], ["--seconds: got '0'", "above 0"]),
        (["--seconds", "nan"], ["--seconds: got 'nan'"]),
        (["--repeat", "3"], ["unexpected argument '--repeat'", "did you mean '--repeats'?"]),
        (["update", "--json", "nowhere/bench.json"], ["--json nowhere/bench.json", "no such directory"]),
        (["update", "--json", "."], ["--json .: is a directory"]),
        (["update", "--figure", "scaling.png"], ["--figure scaling.png", "bench scaling"]),
    ],
)
def test_bad_input(call: Call, words: list[str], parts: list[str]) -> None:
    outcome = call(*words)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("rllib: error: ")
    assert outcome.stderr.count("\n") == 1
    for part in parts:
        assert part in outcome.stderr


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    options = [
        "--agents",
        "--hidden",
        "--copies",
        "--threads",
        "--repeats",
        "--seconds",
        "--quick",
        "--json",
        "--figure",
    ]
    assert all(name in text for name in [*BENCHMARKS, *options])
