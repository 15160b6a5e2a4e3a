"""From a checkpoint to a file that acts without Ray: what is written is played beside the checkpoint's own network.

Shapes: `E` copies of the environment, `N` agents, `U` actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from k24_rllib import __version__
from k24_rllib.checks import ConfigError, check_choice
from k24_rllib.experiments.checkpoints import config_and_policy_of
from k24_rllib.serve.agent import load_agent
from k24_rllib.serve.backend import UNAVAILABLE, Backend
from k24_rllib.serve.files import write_team
from k24_rllib.serve.number_types import DTYPES, Numbers
from k24_rllib.serve.onnx_graph import write_onnx
from k24_rllib.serve.team import Cell, Linear, Spec, Team

if TYPE_CHECKING:
    from k24_rllib.envs import TeamEnv
    from k24_rllib.models import GRU, IndependentGRU, Stage, TeamModel
    from k24_rllib.qmix import QMixConfig

FORMATS = {"packed": ".safetensors", "safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}
"""What each is written to: the suffix tells `load_agent` what it reads."""
OBSERVATIONS = 10_000
"""Of agents, on which a file and its checkpoint are compared."""
COPIES = 32
RESETS = 3
"""Of all copies, after which owners that never changed are taken not to change."""
TOLERANCE = 1e-4
"""Of float32's values, relative to the largest: products are summed up in another order, and nothing else differs."""


@dataclass(frozen=True)
class Agreement:
    """How a file's team acts beside its checkpoint's.

    Attributes:
        observations: Agents' observations, in episodes that the checkpoint's network played greedily.
        equal: Those to which both gave the same action.
        difference: The largest difference of a value.
        magnitude: The largest value.
    """

    observations: int
    equal: int
    difference: float
    magnitude: float


@dataclass(frozen=True)
class Export:
    """A team's file.

    Attributes:
        path: The file.
        nbytes: Its bytes.
        weight_bytes: Bytes of the checkpoint's network, in float32: all that it learns, agents and mixer.
        agreement: How it acts beside its checkpoint.
    """

    path: Path
    nbytes: int
    weight_bytes: int
    agreement: Agreement


def export_checkpoint(
    checkpoint: Path, out: Path, form: str = "packed", dtype: str = "float32", observations: int = OBSERVATIONS
) -> Export:
    """Writes the team of a checkpoint, or of a file of weights, to a file that acts without Ray.

    Args:
        checkpoint: A checkpoint's directory or a `.safetensors` file of weights.
        out: The file, with the format's suffix.
        form: One of `FORMATS`.
        dtype: What matrices are rounded to, one of `DTYPES`.
        observations: Agents' observations to compare actions on.

    Raises:
        ConfigError: for what can't be read or exported, a suffix of another format, a package that is missing, or a
            float32 file that would act in another way than its checkpoint.
    """
    check_choice("--format", form, FORMATS)
    check_choice("--dtype", dtype, DTYPES)
    if form == "torch" and dtype != "float32":
        raise ConfigError(f"--dtype: got {dtype!r} with --format torch, expected float32: a program keeps no other")
    if out.suffix != FORMATS[form]:
        raise ConfigError(f"--out: got {str(out)!r}, expected a name that ends in {FORMATS[form]} for {form}")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out: got {str(out)!r}, expected a directory that exists")
    config, policy = config_and_policy_of(checkpoint)
    env = _environment(config)
    try:
        team = team_of(config, policy.model, env, dtype)
        draft = out.with_name(f"draft-{out.name}")
        try:
            nbytes = _write(team, draft, form)
            agreement = compare_actions(policy.model, _backend(draft, team.spec), env, observations)
            _check(checkpoint, policy.model, dtype, agreement)
            draft.replace(out)
        except OSError as error:
            raise ConfigError(f"{out}: can't be written ({error.strerror})") from error
        finally:
            draft.unlink(missing_ok=True)
    finally:
        env.close()
    weight_bytes = sum(value.numel() for value in policy.model.state_dict().values()) * torch.float32.itemsize
    return Export(out, nbytes, weight_bytes, agreement)


def _environment(config: QMixConfig) -> TeamEnv:
    from k24_rllib.envs import make_team_env

    return make_team_env(config.env, COPIES, **config.env_config)


def _write(team: Team, path: Path, form: str) -> int:
    if form == "onnx":
        return write_onnx(path, team)
    if form == "torch":
        from k24_rllib.serve.torch_backend import write_program

        return write_program(path, team)
    return write_team(path, team, "packed" if form == "packed" else "plain")


def _backend(path: Path, spec: Spec) -> Backend:
    """Returns what acts as the file just written says."""
    if path.suffix == FORMATS["torch"]:
        from k24_rllib.serve.torch_backend import ProgramBackend

        return ProgramBackend(path, spec)
    return load_agent(path).backend


def _check(checkpoint: Path, model: TeamModel, dtype: str, agreement: Agreement) -> None:
    if dtype == "float32" and agreement.difference > TOLERANCE * max(agreement.magnitude, 1.0):
        raise ConfigError(
            f"{checkpoint}: agent {type(model.agent).__name__}: can't be exported: its values differ from those of its "
            f"stages by {agreement.difference:.2g}, expected stages that say all that it computes"
        )


def team_of(config: QMixConfig, model: nn.Module, env: TeamEnv, dtype: str) -> Team:
    """Returns a policy's team as arrays, its matrices rounded to `dtype`.

    Raises:
        ConfigError: for a model or an agent of the user's own that doesn't say what it is made of, or numbers that the
            type can't hold.
    """
    from k24_rllib.models import TeamModel

    if not isinstance(model, TeamModel):
        raise ConfigError(f"custom_model: got {type(model).__name__}, expected a model with agents of k24_rllib")
    stages = tuple(_stage(stage, dtype) for stage in model.agent.stages())
    owners = _owners(env)
    if owners is None and not model.agent.tells_owners_apart:
        owners = (0,) * model.num_agents  # any will do
    spec = Spec(
        algorithm=config.algo_name,
        env=str(config.env),
        agents=env.agent_names or tuple(f"agent_{i}" for i in range(model.num_agents)),
        obs_dim=env.obs_dim,
        num_actions=model.num_actions,
        num_owners=model.num_owners,
        owners=owners,
        agent_id=model.agent_id,
        last_action=model.last_action,
        memory=sum(stage.out_features for stage in stages if isinstance(stage, Cell)),
        dtype=dtype,
        made_by=__version__,
    )
    return Team(spec, stages)


def _owners(env: TeamEnv) -> tuple[int, ...] | None:
    """Returns the mask owner of each agent; None where copies or episodes differ."""
    seen = np.concatenate([env.reset(seed).mask_ids for seed in range(RESETS)])
    return tuple(int(owner) for owner in seen[0]) if (seen == seen[0]).all() else None


def _stage(stage: Stage, dtype: str) -> Linear | Cell:
    from k24_rllib.models.gru import GRU, IndependentGRU
    from k24_rllib.sparsity import MaskedLayer

    if isinstance(stage.module, MaskedLayer):
        return _linear(stage.name, stage.module, stage.relu, dtype)
    if isinstance(stage.module, GRU | IndependentGRU) and not stage.relu:
        return _cell(stage.name, stage.module, dtype)
    raise ConfigError(f"agent: stage {stage.name}: got a {type(stage.module).__name__}, expected a layer or a GRU")


def _linear(name: str, layer: Any, relu: bool, dtype: str) -> Linear:
    kept = layer.kept()
    weight, bias = _array(kept.weight), None if kept.bias is None else _array(kept.bias)
    made = Linear(
        name=name,
        relu=relu,
        weight=Numbers.of(f"{name}.weight", weight, dtype),
        bias=bias,
        ratio=kept.ratio,
        patterns=None if kept.patterns is None else kept.patterns.cpu().numpy().astype(np.uint8),
        kept=weight != 0 if kept.pruned else None,
    )
    # The layer's own masks, exactly: a subclass may mask in a way that `kept` knows nothing of.
    masks = made.masks()
    ours, theirs = weight if masks is None else weight * masks, _array(layer.weights(explore=False))
    if not (ours == theirs).all():
        raise ConfigError(f"layer {type(layer).__name__}: can't be exported: its weights aren't those of its `kept`")
    if layer.owner_gain is None:
        return made
    gain = _array(layer.owner_gain)
    shared_bias = np.zeros((1, layer.out_features), np.float32) if bias is None else bias
    return replace(made, gain=gain, bias=shared_bias * gain + _array(layer.owner_bias))


def _cell(name: str, module: GRU | IndependentGRU, dtype: str) -> Cell:
    from k24_rllib.models.gru import GRU

    cells: list[Any] = [module] if isinstance(module, GRU) else list(module.cells)
    of_cells = zip(*(cell.parameters_in_order() for cell in cells), strict=True)
    w_ih, w_hh, b_ih, b_hh = (_array(torch.stack(list(its))) for its in of_cells)
    return Cell(
        name,
        w_ih=Numbers.of(f"{name}.w_ih", w_ih, dtype),
        w_hh=Numbers.of(f"{name}.w_hh", w_hh, dtype),
        b_ih=b_ih,
        b_hh=b_hh,
    )


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return array


@torch.no_grad()
def compare_actions(model: TeamModel, backend: Backend, env: TeamEnv, observations: int, seed: int = 0) -> Agreement:
    """Plays greedily with a checkpoint's network, and shows a served team all that it sees.

    Each remembers for itself, so that differences add up as they would in use.

    Args:
        model: The checkpoint's network; it says what is done.
        backend: The served team.
        env: Where to play.
        observations: Agents' observations to see, at least.
        seed: Of the first episode.
    """
    seen, equal, difference, magnitude = 0, 0, 0.0, 0.0
    weights = model.agent.weights(explore=False)
    while seen < observations:
        step = env.reset(seed)
        seed += 1
        groups = model.groups(step.mask_ids)
        hidden, last = model.initial_hidden(groups), None
        memory = model.agent.initial_hidden(1, 1).shape[-1]
        size = memory + model.num_actions * model.last_action
        state = np.zeros((*step.mask_ids.shape, size), np.float32)
        while seen < observations and not step.done.all():
            inputs = model.agent_inputs(torch.from_numpy(step.obs), last).unsqueeze(1)
            q, hidden = model.unroll(inputs, hidden, weights, groups)
            values = q[:, 0].transpose(0, 1)  # [E, N, U]
            last = values.masked_fill(torch.from_numpy(~step.avail_actions), float(UNAVAILABLE)).argmax(-1)
            outcome = backend.step(step.obs, state, step.avail_actions, step.mask_ids)
            state, live = outcome.state, ~step.done
            seen += int(live.sum()) * model.num_agents
            equal += int((outcome.actions == last.numpy())[live].sum())
            difference = max(difference, float(np.abs(outcome.values - values.numpy())[live].max()))
            magnitude = max(magnitude, float(values.abs().max()))
            step = env.step(last.numpy())
    return Agreement(seen, equal, difference, magnitude)
