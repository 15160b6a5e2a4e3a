"""Reading runs, making methods of them, and comparing them at equal steps. Files are as Tune writes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trials import line

from k24_rllib.checks import ConfigError
from k24_rllib.comparison.curves import learning_curves
from k24_rllib.comparison.methods import Comparison, Method, compare_runs
from k24_rllib.comparison.parameters import parameters_of
from k24_rllib.comparison.runs import Environment, Point, Run, find_trials, read_trial
from k24_rllib.comparison.table import Budget, aggregate_table, make_table

Evaluations = Sequence[tuple[int, float]]
SPREAD = Environment("mpe_simple_spread", '{"N": 3}')


def run(label: str, seed: int | None, evaluations: Evaluations, environment: Environment = SPREAD) -> Run:
    points = tuple(Point(steps, value, steps / 100, steps // 10) for steps, value in evaluations)
    return Run(label, environment, seed, points, f"{label}-{seed}")


def one(runs: Sequence[Run]) -> Comparison:
    (comparison,) = compare_runs(runs)
    return comparison


def test_evaluations_are_read_with_their_steps_time_and_updates(make_trial: Callable[..., Path]) -> None:
    trial = make_trial([line(100), line(200, -50.0), line(300, float("nan")), line(400, -45.0, done=True)], seed=3)
    found = read_trial(trial)
    assert found.points == (Point(200, -50.0, 2.0, 20), Point(400, -45.0, 4.0, 40))
    assert (found.label, found.seed, found.algorithm, found.environment) == ("exp", 3, "QMix", SPREAD)
    assert found.settings == {"evaluation_interval": 1}


def test_a_resumed_runs_later_word_stands(make_trial: Callable[..., Path]) -> None:
    lines = [line(100, -60.0), line(200, -55.0), line(300, -54.0), line(200, -50.0), line(400, -40.0)]
    found = read_trial(make_trial(lines))
    assert [(point.env_steps, point.greedy_return) for point in found.points] == [
        (100, -60.0),
        (200, -50.0),
        (400, -40.0),
    ]


def test_a_running_trials_half_line_is_left_out(make_trial: Callable[..., Path]) -> None:
    trial = make_trial([line(100, -60.0)])
    with (trial / "result.json").open("a") as file:
        file.write(line(200, -50.0)[:40])
    assert read_trial(trial).last_step == 100


def test_the_experiments_name_is_the_label(make_trial: Callable[..., Path], tmp_path: Path) -> None:
    alone = make_trial([line(100, -60.0)], "storage/one/QMix_a")
    of_compare = make_trial([line(100, -60.0)], "storage/two/seed-12/QMix_b", seed=12)
    assert [read_trial(trial).label for trial in (alone, of_compare)] == ["one", "two"]
    assert read_trial(alone, "mine").label == "mine"
    assert find_trials(tmp_path / "storage") == [alone, of_compare]
    assert find_trials(alone) == [alone]


def test_methods_are_configurations_without_the_seed(make_trial: Callable[..., Path]) -> None:
    for number, (lr, seed) in enumerate([(1e-3, 1), (1e-3, 0), (5e-4, 0)]):
        make_trial([line(100, -60.0 + number)], f"exp/QMix_{number}", lr=lr, seed=seed)
    trial = make_trial([line(100, -40.0)], "other/QMix_0")
    comparison = one([read_trial(trial) for trial in find_trials(trial.parents[1])])
    assert [method.name for method in comparison.methods] == ["exp (lr=0.001)", "exp (lr=0.0005)", "other"]
    assert [run.seed for run in comparison.methods[0].runs] == [0, 1]
    assert comparison.reference == (-81.4, -25.0)


def test_environments_are_compared_apart(make_trial: Callable[..., Path]) -> None:
    three = make_trial([line(100, -60.0)], "exp/QMix_0")
    five = make_trial([line(100, -300.0)], "exp/QMix_1", env_config={"N": 5})
    first, second = compare_runs([read_trial(three), read_trial(five)])
    assert [str(found.environment) for found in (first, second)] == ["mpe_simple_spread N=3", "mpe_simple_spread N=5"]
    assert first.reference is not None
    assert second.reference is None
    assert make_table(second, Budget()).rows[0].score is None


def test_the_same_seed_counts_once_and_no_seed_is_a_run_of_its_own(make_trial: Callable[..., Path]) -> None:
    make_trial([line(100, -60.0)], "exp/QMix_0")
    further = make_trial([line(100, -60.0), line(200, -50.0)], "exp/QMix_1")
    make_trial([line(100, -61.0)], "exp/QMix_2", seed=None)
    make_trial([line(100, -62.0)], "exp/QMix_3", seed=None)
    comparison = one([read_trial(trial) for trial in find_trials(further.parent)])
    assert [(run.seed, run.last_step) for run in comparison.methods[0].runs] == [(-2, 100), (-1, 100), (0, 200)]
    assert any("seed 0 is there 2 times" in note for note in comparison.notes)


def test_a_young_run_is_left_out_and_said_so() -> None:
    comparison = one([run("a", 0, [(100, -60.0)]), run("a", 1, [])])
    assert len(comparison.methods[0].runs) == 1
    assert comparison.notes == ["left out, no evaluation yet: a-1"]
    with pytest.raises(ConfigError, match="a-1: has no greedy evaluation yet"):
        compare_runs([run("a", 1, [])])


def test_runs_are_compared_where_all_have_been() -> None:
    long = run("a", 0, [(100, -60.0), (200, -50.0), (300, -40.0), (400, -30.0)])
    comparison = one([long, run("b", 0, [(110, -70.0), (210, -66.0)])])
    table = make_table(comparison, Budget())
    assert [row.returns for row in table.rows] == [[-50.0], [-66.0]]
    assert any("b seed 0 ends at 210 steps" in note for note in table.notes)
    assert any("single seed has no interval: a, b" in note for note in table.notes)
    assert table.rows[0].score is not None
    assert table.rows[0].score.value == pytest.approx((-50.0 + 81.4) / 56.4)
    assert table.rows[1].difference is not None
    assert table.rows[1].difference.value == pytest.approx(-16.0)
    assert (table.rows[0].steps_per_s, table.rows[0].updates_per_s, table.rows[0].wall_s) == (100.0, 10.0, 2.0)

    later = make_table(comparison, Budget(at=400))
    assert [row.method for row in later.rows] == ["a"]
    assert any("b: left out, not evaluated at 400 steps: seed 0" in note for note in later.notes)
    with pytest.raises(ConfigError, match="--at 1000: no run was evaluated there"):
        make_table(comparison, Budget(at=1000))


def test_a_window_averages_the_evaluations_inside_it() -> None:
    comparison = one([run("a", 0, [(100, -60.0), (200, -50.0), (300, -40.0)])])
    assert make_table(comparison, Budget(window=200)).rows[0].returns == [-45.0]
    assert make_table(comparison, Budget(at=200, window=200)).rows[0].returns == [-55.0]


def test_a_curve_is_interpolated_and_never_extrapolated() -> None:
    runs = (run("a", 0, [(100, -60.0), (200, -50.0), (300, -40.0)]), run("a", 1, [(150, -60.0), (250, -50.0)]))
    other = Method("b", (run("b", 0, [(180, -30.0)]),))
    curve, single = learning_curves([Method("a", runs), other])
    assert curve.env_steps.tolist() == [150, 180, 200, 250]
    assert curve.value.tolist() == pytest.approx([-57.5, -54.5, -52.5, -47.5])
    assert curve.low is not None
    assert np.all(curve.low < curve.value)
    assert (single.env_steps.tolist(), single.low) == ([180], None)
    apart = Method("c", (run("c", 0, [(10, -1.0)]), run("c", 1, [(20, -1.0)])))
    assert learning_curves([apart]) == []


def test_a_long_grid_is_thinned_but_keeps_each_methods_ends() -> None:
    many = [(step, -50.0 + step / 1000) for step in range(7, 5000, 13)]
    (curve,) = learning_curves([Method("a", (run("a", 0, many),))])
    assert len(curve.env_steps) <= 202
    assert (curve.env_steps[0], curve.env_steps[-1]) == (many[0][0], many[-1][0])


def test_scores_of_several_environments_are_compared_together() -> None:
    def environment(name: str, random: float, scripted: float, gain: float) -> Comparison:
        values = [random + (scripted - random) * share for share in (0.4, 0.5, 0.6, 0.7)]
        place = Environment(name)
        methods = [
            Method(label, tuple(run(label, seed, [(100, v + extra)], place) for seed, v in enumerate(values)))
            for label, extra in (("a", 0.0), ("b", gain * (scripted - random)))
        ]
        return Comparison(place, methods, (random, scripted))

    comparisons = [environment("one", -80.0, -20.0, 0.2), environment("two", 0.0, 10.0, 0.1)]
    tables = [make_table(comparison, Budget()) for comparison in comparisons]
    together = aggregate_table(comparisons, tables)
    assert together is not None
    assert [row.score.value for row in together.rows if row.score] == pytest.approx([0.55, 0.7])
    assert together.rows[1].difference is not None
    assert together.rows[1].difference.value == pytest.approx(0.15)
    comparisons[1].reference = None
    assert aggregate_table(comparisons, tables) is None
    assert aggregate_table(comparisons[:1], tables[:1]) is None


GRU, BIASES, DENSE = 2 * (8 * 24 + 24), 3 * 8 + 5, 14 * 8 + 2 * 8 * 8 + 8 * 5
MIXER = 24 * 24 + 24 + (8 * 8 + 8) + (8 * 4 + 4) + (4 + 1)  # of a state of 24 numbers
KEPT = 8 * (3 * 2 + 2) + (2 * 8 * 8 + 8 * 5) // 2  # of 14 inputs three groups keep 2 of 4, the last one 2 of 2
MASK_BYTES = 3 * (8 * 4 + 2 * 8 * 2 + 5 * 2) / 8  # 3 bits a group
NETWORK = GRU + BIASES + DENSE


@pytest.mark.parametrize(
    ("algorithm", "settings", "trained", "agent", "team_bytes"),
    [
        ("QMix", {}, NETWORK, NETWORK, 4 * NETWORK),
        ("QMix", {"independent_networks": True}, 2 * NETWORK, NETWORK, 4 * 2 * NETWORK),
        ("K24QMix", {}, NETWORK + 2 * DENSE, GRU + BIASES + KEPT, 4 * NETWORK + 2 * MASK_BYTES),
        ("K24QMix", {"shared_mask": True}, NETWORK + DENSE, GRU + BIASES + KEPT, 4 * NETWORK + MASK_BYTES),
        ("K24QMix", {"masks": "fixed_random"}, NETWORK, GRU + BIASES + KEPT, 4 * NETWORK + 2 * MASK_BYTES),
        # With thresholds near 0 nobody prunes, and each of both agents has all of the layers' weights for its own.
        (
            "KaleidoscopeQMix",
            {"threshold_bias": 50.0},
            NETWORK + 2 * DENSE,
            NETWORK,
            4 * (NETWORK + DENSE) + 2 * DENSE / 8,
        ),
    ],
    ids=str,
)
def test_parameters_are_counted_by_hand(
    algorithm: str, settings: dict[str, Any], trained: int, agent: int, team_bytes: float
) -> None:
    """simple_spread with 2 agents: 14 inputs with the agent's id, 12 of observation; 5 actions; width 8."""
    common = {"env": "mpe_simple_spread", "env_config": {"N": 2}, "mixing_embed_dim": 4}
    size = parameters_of(algorithm, {**common, "hidden_dim": 8, "hypernet_dim": 8, **settings})
    assert size.parameters_trained == trained + MIXER
    assert size.parameters_agent == agent
    assert size.bytes_team == round(team_bytes)
