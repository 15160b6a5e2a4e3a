"""`rllib export` and `rllib inspect`, from the checkpoint of a real run to a file in every format."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from k24_rllib import K24QMixConfig
from k24_rllib.experiments.checkpoints import config_and_policy_of
from k24_rllib.experiments.export import FORMATS, compare_actions
from k24_rllib.qmix.weights import save_weights
from k24_rllib.serve import load_agent

Call = Callable[..., subprocess.CompletedProcess[str]]
PATIENCE_S = 300


@pytest.fixture(scope="module")
def checkpoint(tiny_once: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains a tiny team with the real command, and returns its checkpoint."""
    place = tmp_path_factory.mktemp("run")
    (place / "tiny.yaml").write_text(yaml.safe_dump({"tiny": tiny_once}))
    words = ["train", "-f", str(place / "tiny.yaml"), "--storage-path", str(place)]
    command = [sys.executable, "-m", "k24_rllib.cli.main", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^checkpoint  +(.*)$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return Path(found[1].strip())


def told(text: str, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}  +(.*)$", text, re.MULTILINE)
    assert found, text
    return found[1].strip()


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_acts_as_the_checkpoint(call: Call, checkpoint: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"team{FORMATS[form]}"
    done = call("export", checkpoint, "--format", form, "--out", file)
    assert done.returncode == 0, done.stderr
    assert told(done.stdout, "checkpoint") == str(checkpoint)
    equal, observations = re.findall(r"[\d,]+", told(done.stdout, "same actions"))[:2]
    assert equal == observations
    assert int(observations.replace(",", "")) >= 10_000
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    if form == "torch":
        return
    config, policy = config_and_policy_of(checkpoint)
    agent = load_agent(file)
    assert (agent.spec.algorithm, agent.spec.env, agent.spec.owners) == ("K24QMix", "mpe_simple_spread", (0, 1))
    from k24_rllib.envs import make_team_env

    env = make_team_env(config.env, 4, **config.env_config)
    again = compare_actions(policy.model, agent.backend, env, observations=500, seed=9)
    assert again.equal == again.observations


def test_a_file_of_weights_is_exported_too(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    words = ["--observations", "100", "--out"]
    assert call("export", checkpoint, *words, tmp_path / "a.safetensors").returncode == 0
    assert call("export", checkpoint / "weights.safetensors", *words, tmp_path / "b.safetensors").returncode == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_inspect_says_what_is_in_it(call: Call, checkpoint: Path, tmp_path: Path, dtype: str) -> None:
    file = tmp_path / "team.safetensors"
    exported = call("export", checkpoint, "--dtype", dtype, "--out", file, "--observations", "100")
    assert told(exported.stdout, "bytes").startswith(f"{file.stat().st_size:,}, ")
    done = call("inspect", file)
    assert done.returncode == 0, done.stderr
    assert told(done.stdout, "file") == f"{file} ({file.stat().st_size:,} bytes, packed, {dtype})"
    assert told(done.stdout, "inputs") == "12 observed + 2 of the agent id; 5 actions, 8 numbers remembered"
    layer = told(done.stdout, "fc2").split()
    width = 1 if dtype == "int8" else 2
    size = 64 * width + 8 * 4 + 2 * 8 * 1 + (8 * 4 if dtype == "int8" else 0)  # weights, biases, patterns, scales
    assert layer[:6] == ["2:4", "8", "x", "8", "0.500", str(size)]
    shares = [float(share) for share in re.findall(r"[01]{4} (0\.\d+|1\.0+)", done.stdout.splitlines()[-1])]
    assert len(shares) == 6
    assert sum(shares) == pytest.approx(1.0, abs=0.004)


def test_inspect_of_onnx_and_of_plain(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    for form, suffix in (("onnx", ".onnx"), ("safetensors", ".safetensors")):
        file = tmp_path / f"team{suffix}"
        call("export", checkpoint, "--format", form, "--out", file, "--observations", "100")
        done = call("inspect", file)
        assert told(done.stdout, "team").startswith("2 agents of mpe_simple_spread, trained by K24QMix")
    assert told(done.stdout, "fc2").split()[:7] == ["2:4", "2", "x", "8", "x", "8", "0.500"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which checkpoint? expected rllib export CHECKPOINT"),
        (["CHECKPOINT", "--format", "onxx"], "--format: got 'onxx', expected one of 'packed', 'safetensors', 'onnx'"),
        (["CHECKPOINT", "--dtype", "bf16"], "--dtype: got 'bf16', expected one of 'float32', 'bfloat16', 'float16'"),
        (["CHECKPOINT", "--format", "torch", "--dtype", "int8"], "--dtype: got 'int8' with --format torch"),
        (["CHECKPOINT", "--out", "team.onnx"], "--out: got 'team.onnx', expected a name that ends in .safetensors"),
        (
            ["CHECKPOINT", "--out", "none/team.safetensors"],
            "--out: got 'none/team.safetensors', expected a directory that exists",
        ),
        (["CHECKPOINT", "--observations", "0"], "--observations: got '0', expected a whole number of at least 1"),
        (["nowhere"], "nowhere: no such directory, expected a checkpoint"),
    ],
)
def test_bad_words(call: Call, checkpoint: Path, words: list[str], said: str) -> None:
    done = call("export", *(str(checkpoint) if word == "CHECKPOINT" else word for word in words))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_no_format_holds_is_refused(call: Call, tmp_path: Path) -> None:
    """The cell's masks would be left out, and the team would act otherwise."""
    options = {"masked_cell": True}
    config = K24QMixConfig().environment("mpe_simple_spread", env_config={"N": 2}).training(agent_options=options)
    weights = tmp_path / "weights.safetensors"
    save_weights(config.build_policy().model, config, weights)
    done = call("export", weights, "--out", tmp_path / "team.safetensors")
    assert done.returncode == 2
    assert "masked_cell: got true" in done.stderr
    assert not (tmp_path / "team.safetensors").exists()


def test_inspect_refuses_what_is_no_team(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    weights = checkpoint / "weights.safetensors"
    spoilt = tmp_path / "team.safetensors"
    call("export", checkpoint, "--out", spoilt, "--observations", "100")
    spoilt.write_bytes(spoilt.read_bytes()[:-7])
    for file, said in (
        (weights, "is of format 'k24_rllib weights 1', expected k24_rllib team 1"),
        (spoilt, "is truncated (got "),
        (tmp_path / "none.onnx", "can't be read (No such file"),
    ):
        done = call("inspect", file)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert "which file? expected rllib inspect FILE" in call("inspect").stderr


def test_inspect_and_acting_need_neither_ray_nor_torch(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "team.safetensors"
    call("export", checkpoint, "--out", file, "--observations", "100")
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['ray', 'torch', 'gymnasium']))\n"
        "from k24_rllib.cli.main import main\n"
        f"sys.exit(main(['inspect', {str(file)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    agent = load_agent(file)
    actions, _ = agent.act(np.zeros((3, 2, 12)), agent.initial_state(3))
    assert actions.shape == (3, 2)
