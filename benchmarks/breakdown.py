"""Where the time goes: one rollout step and one update, in parts, for K-2:4 and for dense QMIX in turn.

    python benchmarks/breakdown.py [--copies 32] [--agents 3] [--hidden 64] [--repeats 30] [--json FILE]

Every figure is the median over `--repeats` runs; the algorithms are timed in turn within each repeat, so that the ratio
at the end holds on a machine whose speed drifts. Nothing is trained for long: the episodes come from a few rounds of
real rollouts.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from k24_rllib import K24QMixConfig, QMixConfig
from k24_rllib.qmix import QMix, collect_episodes

Timings = dict[str, list[float]]


def timed(timings: Timings, name: str, work: Callable[[], object]) -> object:
    """Runs `work`, adds its wall time in ms under `name`, returns what it returned."""
    start = time.perf_counter()
    result = work()
    timings.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
    return result


def build(config: QMixConfig, options: argparse.Namespace) -> QMix:
    config.environment("mpe_simple_spread", env_config={"N": options.agents})
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=options.copies)
    config.training(hidden_dim=options.hidden, train_batch_size=32, learning_starts_episodes=10**9)
    config.debugging(seed=0)
    if isinstance(config, K24QMixConfig):
        config.k24(total_env_steps=1_000_000)
    algo: QMix = config.build_algo()
    while len(algo.local_replay_buffer) < 32:
        algo.training_step()
    return algo


def time_rollout_step(algo: QMix, timings: Timings) -> None:
    """Times what one rollout step of all copies is made of."""
    env, model = algo.env_runner.team_env, algo.policy.model
    step = env.reset(0)
    actions = torch.zeros(env.num_envs, env.num_agents, dtype=torch.int64).numpy()
    with torch.no_grad():
        weights = timed(
            timings, "rollout: weights of all agents, once a rollout", lambda: model.agent.agent_weights(True)
        )
        inputs = model.agent_inputs(torch.from_numpy(step.obs)).unsqueeze(1)
        hidden = model.agent.initial_hidden(env.num_envs)
        timed(timings, "rollout: forward pass, all copies", lambda: model.agent.unroll(inputs, hidden, weights))
    timed(timings, "rollout: environment step, all copies", lambda: env.step(actions))
    start = time.perf_counter()
    episodes = collect_episodes(env, model, epsilon=0.05, explore=True)
    per_step = (time.perf_counter() - start) * 1e3 / episodes.lengths.max()
    timings.setdefault("rollout: whole step, all copies", []).append(float(per_step))


def time_update(algo: QMix, timings: Timings) -> None:
    """Times one update and its parts (the parts are timed on their own, so they need not add up exactly)."""
    policy, config = algo.policy, algo.config
    episodes = timed(timings, "update: draw a batch", lambda: algo.local_replay_buffer.sample(config.train_batch_size))
    batch = timed(timings, "update: batch to tensors", lambda: policy.train_batch(episodes))
    timed(timings, "update: weights of all agents, forward", lambda: policy.model.agent.agent_weights(True))
    online_q = timed(timings, "update: online network, forward", lambda: policy.online_values(batch))
    timed(timings, "update: target network and mixer", lambda: policy.target_values(batch, online_q))
    loss = timed(timings, "update: loss, forward", lambda: policy.loss(policy.model, None, batch))
    timed(timings, "update: loss, backward", loss.backward)
    timed(timings, "update: whole", lambda: policy.learn_on_batch(episodes))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of a rollout step and of an update, in parts.")
    parser.add_argument("--copies", type=int, default=32, help="environment copies stepped together")
    parser.add_argument("--agents", type=int, default=3, help="N of simple_spread")
    parser.add_argument("--hidden", type=int, default=64, help="width of the agents' layers")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    algos = {"QMix": build(QMixConfig(), options), "K24QMix": build(K24QMixConfig(), options)}
    timings: dict[str, Timings] = {name: {} for name in algos}
    for repeat in range(options.repeats + 3):
        for name, algo in algos.items():
            scratch = timings[name] if repeat >= 3 else {}  # the first rounds warm up
            time_rollout_step(algo, scratch)
            time_update(algo, scratch)
    report(timings, options)
    for algo in algos.values():
        algo.stop()


def report(timings: dict[str, Timings], options: argparse.Namespace) -> None:
    medians = {algo: {part: statistics.median(runs) for part, runs in parts.items()} for algo, parts in timings.items()}
    machine = f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}"
    print(f"simple_spread N = {options.agents}, {options.copies} copies, hidden {options.hidden}; {machine}")
    print(f"{'ms, median':<52}{'QMix':>9}{'K24QMix':>9}{'ratio':>7}")
    for part, dense in medians["QMix"].items():
        ratio = statistics.median(b / a for a, b in zip(timings["QMix"][part], timings["K24QMix"][part], strict=True))
        print(f"{part:<52}{dense:>9.3f}{medians['K24QMix'][part]:>9.3f}{ratio:>7.2f}")
    for algo, parts in medians.items():
        per_step = parts["rollout: whole step, all copies"] / options.copies
        print(f"{algo}: {1e3 / per_step:,.0f} environment steps/s rolling out alone, one process")
    if options.json:
        figures = {"options": vars(options) | {"json": None}, "machine": machine, "median_ms": medians}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
