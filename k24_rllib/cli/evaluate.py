"""`rllib evaluate`: how good a checkpoint's policy is."""

from __future__ import annotations

from collections.abc import Sequence

from k24_rllib.checks import ConfigError
from k24_rllib.cli.modules import add_import, import_modules
from k24_rllib.command_line import Parser, whole_number
from k24_rllib.experiments.checkpoints import find_network, policy_of
from k24_rllib.experiments.evaluate import DEFAULT_EPISODES, DEFAULT_SEED, evaluate_checkpoint
from k24_rllib.experiments.ray_session import quiet_ray, start_ray, stop_ray


def make_parser(program: str) -> Parser:
    """Returns the parser of `rllib evaluate`."""
    parser = Parser(
        prog=f"{program} evaluate",
        usage=f"{program} evaluate CHECKPOINT [options]",
        description="Play greedy episodes (no exploration, most likely masks) with a checkpoint's policy.",
    )
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="a checkpoint's directory, or a trial's or experiment's, whose newest checkpoint is taken; or a file of "
        "weights alone, which runs no code of whoever made it (weights.safetensors in a checkpoint)",
    )
    parser.add_argument(
        "--episodes", default=DEFAULT_EPISODES, metavar="N", help=f"episodes to play (default {DEFAULT_EPISODES})"
    )
    parser.add_argument(
        "--seed",
        default=DEFAULT_SEED,
        metavar="N",
        help=f"seed of the environments; the same seed gives the same episodes (default {DEFAULT_SEED})",
    )
    add_import(parser)
    parser.add_verbose()
    return parser


def run(program: str, words: Sequence[str]) -> int:
    """Runs `rllib evaluate` and returns its exit code."""
    arguments = make_parser(program).parse(words)
    if arguments.checkpoint is None:
        raise ConfigError(f"which checkpoint? expected {program} evaluate CHECKPOINT")
    import_modules(arguments.modules)
    episodes, seed = whole_number("--episodes", arguments.episodes, 1), whole_number("--seed", arguments.seed, 0)
    if arguments.verbose == 0:
        quiet_ray()
    kind, checkpoint = find_network(arguments.checkpoint)
    policy_of(checkpoint)  # what can't be read, or not rebuilt, is refused before Ray starts
    print(f"{kind:<15}{checkpoint}", flush=True)
    start_ray(verbose=arguments.verbose)  # RLlib needs it to build an algorithm, even one without workers
    try:
        for line in evaluate_checkpoint(checkpoint, episodes, seed).lines():
            print(line, flush=True)
    finally:
        stop_ray()
    return 0
