"""The floor plan: a lower floor never imports a higher one, and the ground floors stay free of Ray or of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import k24_rllib

ROOT = Path(k24_rllib.__file__).parent
FLOORS = [
    "kernels",
    "sparsity",
    "serve",
    "envs",
    "models",
    "monitoring",
    "qmix",
    "callbacks",
    "algorithms",
    "registration",
    "experiments",
    "comparison",
    "report",
    "cli",
]
SHARED = ["cache_directory", "lazy", "checks", "registry", "settings", "reporting", "command_line"]
"""Modules beside the floors, of which each may use those before it."""
GROUND = {
    "kernels": {"ray", "gymnasium", "numpy"},
    "sparsity": {"ray", "gymnasium", "numpy"},
    "envs": {"torch", "ray"},
    "serve": {"ray", "gymnasium"},
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            if node.module == "k24_rllib":
                names |= {f"k24_rllib.{alias.name}" for alias in node.names}
    return names


def files(floor: str) -> list[Path]:
    return sorted((ROOT / floor).glob("**/*.py")) or [ROOT / f"{floor}.py"]


@pytest.mark.parametrize("floor", FLOORS[:-1])
def test_no_floor_imports_a_higher_one(floor: str) -> None:
    higher = set(FLOORS[FLOORS.index(floor) + 1 :])
    for path in files(floor):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("k24_rllib.")}
        assert not used & higher, path
    assert files(floor)


@pytest.mark.parametrize("module", SHARED)
def test_what_all_floors_share_imports_none_of_them(module: str) -> None:
    allowed = {f"k24_rllib.{name}" for name in ("__version__", *SHARED[: SHARED.index(module)])}
    used = {name for name in imports(ROOT / f"{module}.py") if name.startswith("k24_rllib.")}
    assert all(any(f"{name}.".startswith(f"{known}.") for known in allowed) for name in used), used


def test_only_the_command_line_knows_of_the_benchmarks_and_they_nothing_of_it() -> None:
    for path in ROOT.glob("**/*.py"):
        assert not any(name.split(".")[0] == "benchmarks" for name in imports(path)), path
    for path in (ROOT.parent / "benchmarks").glob("*.py"):
        assert not any(name.startswith("k24_rllib.cli") for name in imports(path)), path


@pytest.mark.parametrize("floor", GROUND)
def test_the_ground_floors_import_only_what_they_may(floor: str) -> None:
    for path in files(floor):
        used = {name.split(".")[0] for name in imports(path)}
        assert not used & GROUND[floor], path
    assert not any("envs" in name for path in files("sparsity") for name in imports(path))


def run_without(program: str, *missing: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a Python that has none of the `missing` packages."""
    hidden = (
        f"import sys; missing = {missing!r}; sys.modules.update(dict.fromkeys(missing))\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name in missing else find(name, *rest)\n"
    )
    return subprocess.run([sys.executable, "-c", hidden + program], capture_output=True, text=True, check=False)


def test_sparsity_works_where_ray_is_not_installed() -> None:
    done = run_without(
        "from k24_rllib.sparsity import SemiStructuredLinear24\n"
        "import torch\n"
        "print(SemiStructuredLinear24(8, 2, 3)(torch.ones(3, 5, 8)).shape)",
        "ray",
    )
    assert done.stdout.strip() == "torch.Size([3, 5, 2])", done.stderr


def test_serving_works_where_neither_ray_nor_torch_is_installed() -> None:
    done = run_without(
        "import numpy as np\n"
        "from k24_rllib.serve import Linear, Numbers, ServedAgent, Spec, Team\n"
        "from k24_rllib.serve.backend import make_backend\n"
        "weight = Numbers.of('w', np.ones((1, 2, 3), np.float32), 'float32')\n"
        "spec = Spec('QMix', 'any', ('a',), 3, 2, 1, (0,), False, False, 0, 'float32', '0')\n"
        "team = Team(spec, (Linear('fc1', False, weight, np.array([[0, 1]], np.float32)),))\n"
        "agent = ServedAgent(spec, make_backend('numpy', team))\n"
        "print(agent.act(np.ones((1, 1, 3)), agent.initial_state(1))[0])",
        *("ray", "gymnasium", "torch", "safetensors"),
    )
    assert done.stdout.strip() == "[[1]]", done.stderr


def test_the_loss_works_where_ray_is_not_installed() -> None:
    done = run_without(
        "import torch\n"
        "from k24_rllib.qmix.batch import TrainBatch\n"
        "from k24_rllib.qmix.loss import TeamValues, qmix_loss\n"
        "one = torch.ones(1, 1)\n"
        "batch = TrainBatch(one, one, one, one, one, one, one.bool(), one.bool(), one)\n"
        "print(qmix_loss(batch, TeamValues(3 * one[None], one[None]), gamma=0.9).loss.item())",
        *("ray", "gymnasium", "numpy"),
    )
    assert done.stdout.strip() == "4.0", done.stderr


def test_the_replay_works_where_neither_ray_nor_torch_is_installed() -> None:
    done = run_without(
        "from k24_rllib.qmix import EpisodeBatch, EpisodeReplayBuffer\n"
        "buffer = EpisodeReplayBuffer(4, seed=0)\n"
        "buffer.add(EpisodeBatch.empty(3, 2, 1, 1, 1, 1))\n"
        "print(len(buffer))",
        *("ray", "torch"),
    )
    assert done.stdout.strip() == "3", done.stderr
