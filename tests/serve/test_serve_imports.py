"""Serving needs NumPy alone, or NumPy and onnxruntime; it is imported in less than a second."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from k24_rllib.serve import write_team
from k24_rllib.serve.onnx_graph import write_onnx

WITHOUT = ("ray", "torch", "gymnasium", "safetensors", "scipy", "matplotlib", "pettingzoo", "onnx")


def run(program: str, *missing: str) -> str:
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({missing!r}))\n"
    done = subprocess.run([sys.executable, "-c", hidden + program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


ACTING = """
import numpy as np
from k24_rllib.serve import load_agent
agent = load_agent({path!r})
actions, state = agent.act(np.zeros((4, 2, 12), np.float32), agent.initial_state(4))
print(actions.shape, state.shape, [name for name in {without!r} if sys.modules.get(name)])
"""


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_it_acts_without_anything_else(make: Callable, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"team.{form}"
    (write_team if form == "safetensors" else write_onnx)(path, make("2:4").team())
    missing = WITHOUT if form == "onnx" else (*WITHOUT, "onnxruntime")
    assert run(ACTING.format(path=str(path), without=missing), *missing).strip() == "(4, 2) (4, 2, 8) []"


def test_the_import_takes_less_than_a_second_of_the_processor() -> None:
    program = (
        "import time; import k24_rllib.serve; from k24_rllib.serve import load_agent\n"
        "print(time.process_time(), [name for name in sys.modules if name in ('ray', 'torch', 'gymnasium')])"
    )
    seconds, others = run(program).split(" ", 1)
    assert others.strip() == "[]"
    assert float(seconds) < 1.0


@pytest.mark.parametrize(
    ("module", "program", "said"),
    [
        ("torch", "load_agent(P, backend='torch')", "backend: torch: needs torch, which is not installed: pip install"),
        ("onnxruntime", "load_agent(P[:-11] + 'onnx')", "which is not installed: pip install 'k24_rllib[onnx]'"),
        (
            "onnx",
            "write_onnx(P + '.onnx', read_team(P).team)",
            "format: onnx: needs onnx, which is not installed: pip install 'k24_rllib[onnx]'",
        ),
    ],
)
def test_what_is_missing_is_named(make: Callable, tmp_path: Path, module: str, program: str, said: str) -> None:
    path = tmp_path / "team.safetensors"
    write_team(path, make("2:4").team())
    write_onnx(tmp_path / "team.onnx", make("2:4").team())
    start = (
        f"from k24_rllib.serve import load_agent, read_team\nfrom k24_rllib.serve.onnx_graph import write_onnx\n"
        f"from k24_rllib.checks import ConfigError\nP = {str(path)!r}\n"
    )
    told = run(f"{start}try:\n    {program}\nexcept ConfigError as error:\n    print(error)", module)
    assert said in told
