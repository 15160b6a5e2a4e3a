"""The program of docs/serving.md runs as it stands, on a team that was exported as the document says."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from blocks import ROOT, blocks, commands

from k24_rllib.cli import export, inspect
from k24_rllib.experiments.export import export_checkpoint

SERVING = ROOT / "docs" / "serving.md"
CHECKPOINT = ROOT / "tests" / "data" / "checkpoints_before_parts" / "K24QMix"


@pytest.mark.parametrize("number", range(len(blocks(SERVING, "python"))))
def test_a_program_runs(number: int, tmp_path: Path) -> None:
    export_checkpoint(CHECKPOINT, tmp_path / "team.safetensors", dtype="bfloat16", observations=100)
    code = blocks(SERVING, "python")[number]
    assert len([line for line in code.splitlines() if line]) <= 10
    hidden = "import sys\nsys.modules.update(dict.fromkeys(['ray', 'torch', 'gymnasium']))\n"
    program = f"{hidden}{code}\nprint(actions.shape, state.shape)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "(64, 2) (64, 2, 8)"


def test_the_commands_have_these_options() -> None:
    parsers = {"export": export.make_parser("rllib"), "inspect": inspect.make_parser("rllib")}
    told = commands(SERVING)
    assert told
    for command in told:
        _, name, *words = shlex.split(command)
        parsers[name].parse(words)
