"""`rllib play`: episodes of a trained team, as a film and with their returns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import ConfigError
from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser, whole_number
from k24_rllib.envs.mpe import write_gif
from k24_rllib.experiments.checkpoints import find_network, policy_of
from k24_rllib.experiments.evaluate import DEFAULT_SEED, Evaluation, score_reference
from k24_rllib.experiments.play import Played, play
from k24_rllib.experiments.ray_session import quiet_ray
from k24_rllib.reporting import output_file

DEFAULT_EPISODES = 3
MOST_EPISODES = 128
"""Played side by side, as an evaluation plays at most as many at once."""
MOST_FILMED = 20
"""Episodes of a film, which is held in memory as a whole."""
PAUSE = 5
"""How often a film shows an episode's last picture, so that its end is seen."""


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib play`."""
    parser = Parser(
        prog=f"{program} play",
        usage=f"{program} play CHECKPOINT [options]",
        description="Play greedy episodes with a checkpoint's policy, print each one's return, and film them. The "
        f"episodes of a seed are the same as those of {program} evaluate.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="a checkpoint's directory, or a trial's or experiment's, whose newest checkpoint is taken; or a file of "
        "weights alone (weights.safetensors in a checkpoint)",
    )
    parser.add_argument(
        "--episodes", default=DEFAULT_EPISODES, metavar="N", help=f"episodes to play (default {DEFAULT_EPISODES})"
    )
    parser.add_argument(
        "--seed", default=DEFAULT_SEED, metavar="N", help=f"seed of the environments (default {DEFAULT_SEED})"
    )
    parser.add_argument("--gif", metavar="FILE", help=f"where the film goes; up to {MOST_FILMED} episodes")
    add_import(parser)
    parser.add_verbose()
    return parser


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib play` and returns its exit code."""
    arguments = make_parser(program).parse(words)
    if arguments.checkpoint is None:
        raise ConfigError(f"which checkpoint? expected {program} play CHECKPOINT")
    import_modules(arguments.modules)
    gif = output_file("--gif", arguments.gif)
    episodes, seed = whole_number("--episodes", arguments.episodes, 1), whole_number("--seed", arguments.seed, 0)
    most = MOST_EPISODES if gif is None else MOST_FILMED
    if episodes > most:
        raise ConfigError(f"--episodes: got {episodes}, expected at most {most}{' with --gif' if gif else ''}")
    if arguments.verbose == 0:
        quiet_ray()
    kind, checkpoint = find_network(arguments.checkpoint)
    policy = policy_of(checkpoint)
    print(f"{kind:<15}{checkpoint}", flush=True)
    played = play(policy, episodes, seed, filmed=episodes if gif else 0)
    _print_returns(played, score_reference(policy.config["env"], policy.config["env_config"]))
    if gif is not None:
        _write_film(gif, played, policy.config["env"])
    return 0


def _print_returns(played: Played, reference: tuple[float, float] | None) -> None:
    """Prints the return of each episode, and what they come to together."""
    returns = played.returns.tolist()
    for number, (value, steps) in enumerate(zip(returns, played.episodes.lengths, strict=True), start=1):
        print(f"episode {number:<7}{value:.2f} in {steps} steps")
    for line in Evaluation.of(returns, reference).lines():
        print(line)


def _write_film(path: Path, played: Played, env: str) -> None:
    """Writes the episodes one after the other.

    Raises:
        ConfigError: for an environment that can't be drawn.
    """
    if not any(played.frames):
        raise ConfigError(
            f"--gif: {env} has no pictures, expected a scenario of MPE, or an environment of your own whose "
            "TeamEnv.render gives one"
        )
    frames = [frame for episode in played.frames for frame in [*episode, *episode[-1:] * PAUSE]]
    write_gif(path, frames)
    print(f"wrote {path}")
