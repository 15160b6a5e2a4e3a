"""The command line: `rllib train` and the rest of `COMMANDS`; `k24` is another name of the program."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from k24_rllib.checks import check_name
from k24_rllib.cli.own_session import run_in_own_session
from k24_rllib.command_line import exit_code

HELP = """\
usage: {program} train -f FILE [options]
       {program} evaluate CHECKPOINT [options]
       {program} play CHECKPOINT [options]
       {program} compare RUN_OR_YAML... [options]
       {program} report RUN... [options]
       {program} watch RUN [options]
       {program} export CHECKPOINT [options]
       {program} inspect FILE
       {program} config [ALGORITHM] [options]
       {program} bench [WHAT ...] [options]

QMIX, K-2:4 QMIX (learned per-agent 2:4 sparsity) and its baselines on Ray RLlib.

commands:
  train       train what a YAML file describes, through Ray Tune
  evaluate    play greedy episodes with a checkpoint and print the return
  play        greedy episodes as a film, and their returns
  compare     several methods and seeds, run or read: a table and a figure with intervals
  report      a run, a comparison or a search as one HTML page
  watch       such a page while a run goes on
  export      write a checkpoint's team to a file that acts without Ray
  inspect     what is in such a file: layers, bytes, patterns
  config      every setting: default, bounds, what it does; or a file to start from
  bench       time environments, rollouts, updates and training (in a checkout)

  {program} COMMAND --help   says more about a command
  {program} --version        prints the version

example:
  {program} train -f tuned_examples/k24_spread.yaml
"""

COMMANDS = ("train", "evaluate", "play", "compare", "report", "watch", "export", "inspect", "config", "bench")
"""Each is a module of this package with `run(program, words)`, imported when it is asked for."""
_SAID_BY_US = "^A worker died or was killed while executing|killed due to memory pressure"
"""Ray's pages about dead workers, for which trials say a line; Ray reads the switch when it is imported."""
_LONG = ("train", "compare")
"""Those that are stopped by signals, and save what they have."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (without the program's name) and returns the exit code; see `exit_code`."""
    if argv is not None:
        return exit_code(lambda: _dispatch("rllib", argv), argv)
    words, program = sys.argv[1:], "k24" if Path(sys.argv[0]).stem == "k24" else "rllib"
    _stay_on_loopback(words)
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _SAID_BY_US)

    def run() -> int:
        try:
            return exit_code(lambda: _dispatch(program, words), words)
        finally:  # Python is about to leave, and need not look through RLlib and PyTorch for garbage once more
            gc.freeze()

    if words[:1] and words[0] in _LONG and not {"-h", "--help"} & set(words):
        return run_in_own_session(run)
    return run()


def _stay_on_loopback(words: Sequence[str]) -> None:
    """Has the Ray that a command starts listen on loopback alone, unless the user said otherwise or joins a cluster.

    Ray reads the switch when it is imported: without it Ray takes loopback's address for this machine's.
    """
    joins = any(word.partition("=")[0] == "--ray-address" for word in words) or os.environ.get("RAY_ADDRESS")
    if not joins:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _dispatch(program: str, words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(program=program), end="")
        return 0
    if words[0] == "--version":
        from k24_rllib import __version__

        print(f"k24_rllib {__version__}")
        return 0
    command = importlib.import_module(f"k24_rllib.cli.{check_name('command', words[0], COMMANDS)}")
    code: int = command.run(program, words[1:])
    return code


if __name__ == "__main__":
    sys.exit(main())
