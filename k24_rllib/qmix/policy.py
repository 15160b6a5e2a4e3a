"""QMIX as an RLlib policy: the online and target networks, one update, and the actions of a team.

Shapes, time-major in the learner: `N` agents, `T` steps, `B` episodes, `O` observation size, `U` actions, `K` values
per step (1 with a joint value).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from ray.rllib.models import ModelCatalog
from ray.rllib.policy.torch_mixins import LearningRateSchedule
from ray.rllib.policy.torch_policy_v2 import TorchPolicyV2
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor
from torch import Tensor, nn

from k24_rllib.models import UNAVAILABLE, AgentWeights, TeamModel, register_models
from k24_rllib.qmix.batch import TrainBatch
from k24_rllib.qmix.episodes import EpisodeBatch
from k24_rllib.qmix.exploration import epsilon_at, epsilon_greedy
from k24_rllib.qmix.finite import check_weights, optimizer_arrays
from k24_rllib.qmix.guard import UpdateGuard
from k24_rllib.qmix.loss import (
    TeamValues,
    chosen_values,
    episode_priorities,
    greedy_actions,
    loss_metrics,
    qmix_loss,
)
from k24_rllib.qmix.standardise import RunningMoments
from k24_rllib.sparsity.memory import FLOAT_BYTES


class TargetFollower:
    """Moves a target network: `target += tau * (online - target)`; what is state but not learned is copied.

    Args:
        online: The network that learns.
        target: A network of the same structure.
    """

    def __init__(self, online: nn.Module, target: nn.Module) -> None:
        self._fast: list[Tensor] = list(online.parameters())
        self._slow: list[Tensor] = list(target.parameters())
        learned = {name for name, _ in online.named_parameters()}
        # By owner and name, as a module may put a new tensor in a buffer's place.
        self._buffers = []
        for name in online.state_dict().keys() - learned:
            path, _, attribute = name.rpartition(".")
            self._buffers.append((online.get_submodule(path), target.get_submodule(path), attribute))

    @torch.no_grad()
    def move(self, tau: float = 1.0) -> None:
        """Moves by `tau`: 1 copies (a hard update); a smaller value follows slowly and smooths the targets."""
        if tau < 1.0:
            torch._foreach_lerp_(self._slow, self._fast, tau)
        else:
            torch._foreach_copy_(self._slow, self._fast)
        for online, target, attribute in self._buffers:
            getattr(target, attribute).copy_(getattr(online, attribute))


@torch.no_grad()
def clip_gradients(parameters: Sequence[Tensor], limit: float | None) -> Tensor:
    """Scales gradients so that their common norm is at most `limit` (None leaves them), and returns the norm before.

    The same as PyTorch's own function, in a third of its time: it asks nothing about devices and types.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit is not None:
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


class QMixTorchPolicy(LearningRateSchedule, TorchPolicyV2):
    """Double QMIX over whole episodes (arXiv 1803.11485; double Q-learning, arXiv 1509.06461).

    A subclass adds to the loss through `auxiliary_loss`, and to the metrics through what that returns.

    Attributes:
        guard: Skips updates whose loss or gradient is not finite, and counts them.
        update_made: Whether the last update was made; None before the first, and where its device alone knows.
    """

    model: TeamModel
    device: torch.device
    config: dict[str, Any]

    def __init__(self, observation_space: gym.Space, action_space: gym.Space, config: dict[str, Any]) -> None:
        lr = config["lr"]
        LearningRateSchedule.__init__(self, lr, lr if isinstance(lr, list) else None)
        TorchPolicyV2.__init__(
            self, observation_space, action_space, config, max_seq_len=config["model"]["max_seq_len"]
        )
        self.target_model: TeamModel = copy.deepcopy(self.model)
        self.target_model.requires_grad_(False)
        self._follower = TargetFollower(self.model, self.target_model)
        self._parameters = list(self.model.parameters())
        mixed = config["mixed_precision"] and self.device.type == "cuda"
        self._precision = torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)
        self.reward_moments = RunningMoments()
        self.guard = UpdateGuard(deferred=self.device.type != "cpu")
        self.guard.watch(self.model)
        self.update_made: bool | None = None
        self._loss_initialized = True

    # --- building

    def make_model(self) -> TeamModel:
        """Builds the online network through RLlib's catalogue, so that a user can name a model of their own."""
        register_models()  # a Ray that was shut down in this process took the registration with it
        agents, actions = self.observation_space.original_space["avail_actions"].shape
        model: TeamModel = ModelCatalog.get_model_v2(
            obs_space=self.observation_space,
            action_space=self.action_space,
            num_outputs=agents * actions,
            model_config=self.config["model"],
            framework="torch",
            name="team",
        )
        return model

    def on_global_var_update(self, global_vars: dict[str, Any]) -> None:
        """Takes over the environment steps sampled, and a schedule's learning rate there."""
        super().on_global_var_update(global_vars)
        if self._lr_schedule:
            self.set_learning_rate(self.cur_lr)

    def set_learning_rate(self, lr: float) -> None:
        """Sets the optimizer's learning rate, until RLlib's schedule sets it again; groups may have a factor of it."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group.get("lr_factor", 1.0)

    def optimizer(self) -> list[torch.optim.Optimizer]:
        """Returns Adam over agents and mixer (QMIX's authors used RMSProp; Adam is today's practice)."""
        return [torch.optim.Adam(self.model.parameters(), lr=self.cur_lr, eps=self.config["adam_epsilon"], fused=True)]

    # --- acting

    def epsilon(self) -> float:
        """Returns the exploration rate at the environment steps sampled so far."""
        return epsilon_at(
            self.global_timestep,
            self.config["epsilon_initial"],
            self.config["epsilon_final"],
            self.config["epsilon_timesteps"],
        )

    def action_sampler_fn(
        self, model: TeamModel, *, obs_batch: Any, state_batches: list[Tensor], **kwargs: Any
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Chooses actions for RLlib's own calls, epsilon-greedily where `explore` is set."""
        flat_q, hidden = model(obs_batch, state_batches, None)
        q = flat_q.unflatten(-1, (model.num_agents, model.num_actions))
        actions = epsilon_greedy(q, q > UNAVAILABLE, self.epsilon() if kwargs.get("explore") else 0.0)
        return actions, torch.zeros(len(actions)), flat_q, hidden

    # --- learning

    def train_batch(self, episodes: EpisodeBatch) -> TrainBatch:
        """Returns `episodes` as time-major tensors on the learner's device, cut to the longest one among them."""
        steps = int(episodes.lengths.max())

        def tensor(array: Any) -> Tensor:
            return torch.from_numpy(array).to(self.device, non_blocking=True).transpose(0, 1)

        actions = tensor(episodes.actions[:, :steps])  # [T, B, N]
        rewards = tensor(episodes.team_reward[:, :steps])
        if self.config["standardise_rewards"]:
            rewards = self.reward_moments.standardise(rewards)
        no_action = torch.full_like(actions[:1], -1)
        inputs = self.model.agent_inputs(tensor(episodes.obs[:, : steps + 1]), torch.cat((no_action, actions)))
        lengths = torch.from_numpy(episodes.lengths).to(self.device)
        clock = torch.arange(steps + 1, device=self.device).unsqueeze(1)  # [T+1, 1]
        return TrainBatch(
            inputs=inputs,
            groups=self.model.groups(episodes.mask_ids),
            state=tensor(episodes.state[:, : steps + 1]),
            available=tensor(episodes.avail_actions[:, : steps + 1]),
            actions=actions,
            rewards=rewards,
            terminated=tensor(episodes.terminated[:, :steps]),
            valid=clock[:-1] < lengths,
            observed=clock <= lengths,
        )

    def online_values(self, batch: TrainBatch, weights: AgentWeights) -> Tensor:
        """Returns the online network's action values `[T+1, B, N, U]`, with gradient."""
        hidden = self.model.initial_hidden(batch.groups)
        with self._precision:
            q, _ = self.model.unroll(batch.inputs, hidden, weights, batch.groups, real=batch.observed)
        return q.float().permute(1, 2, 0, 3)

    def joint_values(self, model: TeamModel, chosen_q: Tensor, state: Tensor) -> Tensor:
        """Returns the mixer's values `[T, B, K]` of the agents' chosen ones `[T, B, N]` in states `[T, B, S]`."""
        with self._precision:
            values: Tensor = model.mixer(chosen_q, state)
        return values.float()

    def target_weights(self, online: AgentWeights) -> AgentWeights:
        """Returns the target network's weights for one update, in which the online network has `online`.

        Here with its most likely masks.
        """
        return self.target_model.agent.weights(explore=False)

    @torch.no_grad()
    def target_values(self, batch: TrainBatch, online_q: Tensor, online: AgentWeights) -> Tensor:
        """Returns the target network's values of the next steps, `[T, B, K]`, at the online network's best actions.

        Args:
            batch: Episodes.
            online_q: What `online_values` returned.
            online: The online network's weights in this update.
        """
        model = self.target_model
        hidden = model.initial_hidden(batch.groups)
        weights = self.target_weights(online)  # patterns are scored in float32, whatever multiplies them
        with self._precision:
            q, _ = model.unroll(batch.inputs, hidden, weights, batch.groups)
        best = greedy_actions(online_q[1:].detach(), _some_available(batch.available[1:]))
        chosen = chosen_values(q.float().permute(1, 2, 0, 3)[1:], best)
        return self.joint_values(model, chosen, batch.state[1:])

    def team_values(self, model: TeamModel, batch: TrainBatch, weights: AgentWeights) -> TeamValues:
        """Returns what the TD loss compares: both networks' values, after mixing."""
        online_q = self.online_values(batch, weights)
        chosen_q = chosen_values(online_q[:-1], batch.actions)
        chosen = self.joint_values(model, chosen_q, batch.state[:-1])
        return TeamValues(chosen=chosen, next_values=self.target_values(batch, online_q, weights))

    def loss(self, model: TeamModel, dist_class: Any, train_batch: TrainBatch) -> Tensor:
        """Returns the loss of a batch; its parts are left in `self.stats` as tensors, unread."""
        weights = model.agent.weights(explore=True)  # masks drawn anew, once per update
        values = self.team_values(model, train_batch, weights)
        parts = qmix_loss(train_batch, values, gamma=self.config["gamma"], td_lambda=self.config["td_lambda"])
        auxiliary, auxiliary_stats = self.auxiliary_loss(parts.loss, weights)
        total = parts.loss if auxiliary is None else parts.loss + auxiliary
        self._last_errors = parts.td_errors, train_batch.valid
        self.stats: dict[str, Tensor] = {
            "loss": total.detach(),
            "loss_td": parts.loss.detach(),
            **loss_metrics(parts, values, train_batch.valid),
            **auxiliary_stats,
        }
        return total

    def last_priorities(self) -> Tensor:
        """Returns each episode's mean absolute TD error in the last update, `[B]` on the learner's device, unread."""
        return episode_priorities(*self._last_errors)

    def auxiliary_loss(self, loss_td: Tensor, weights: AgentWeights) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Returns what to add to the TD loss (None for nothing) and metrics of it; subclasses override this.

        Args:
            loss_td: The TD loss.
            weights: The online network's weights in this update.
        """
        return None, {}

    def learn_on_batch(
        self, postprocessed_batch: EpisodeBatch, *, importance: NDArray[np.float32] | None = None
    ) -> dict[str, Any]:
        """Makes one gradient update from whole episodes, or none where its loss or gradient is not finite (`guard`).

        Args:
            postprocessed_batch: The episodes, `B` of them; callbacks get them as they are.
            importance: `[B]`, the weight of each episode's squared TD errors in the loss, where the replay draws some
                more often than others (`ReplaySample.weights`); None weights all alike.

        Returns:
            Metrics as 0-dimensional tensors on the learner's device: reading one waits for the device, so read what
            you show and no more.
        """
        self.model.train()
        callback_stats: dict[str, Any] = {}
        self.callbacks.on_learn_on_batch(policy=self, train_batch=postprocessed_batch, result=callback_stats)
        batch = self.train_batch(postprocessed_batch)
        if importance is not None:
            batch = replace(batch, importance=torch.from_numpy(importance).to(self.device, non_blocking=True))
        self.guard.begin()
        loss = self.loss(self.model, self.dist_class, batch)
        (optimizer,) = self._optimizers
        for parameter in self._parameters:
            parameter.grad = None
        loss.backward()
        norm = clip_gradients(self._parameters, self.config["grad_clip"])
        self.update_made = self.guard.step(optimizer, loss, norm)
        if self.update_made is False:
            self.forget_batch()
        self.num_grad_updates += 1
        return {**self.stats, "grad_norm": norm, "lr": optimizer.param_groups[0]["lr"], **callback_stats}

    def forget_batch(self) -> None:
        """Forgets what the batch of an update that was skipped has left; a subclass adds what it keeps of a batch."""

    def check_finite(self, so: str) -> None:
        """Checks that both networks are made of finite numbers.

        Args:
            so: What does not happen if they are not, as in `"so it gets no score"`.

        Raises:
            ConfigError: naming the first of their arrays that is not.
        """
        for what, model in (("policy", self.model), ("target network", self.target_model)):
            check_weights(model.state_dict(), what, so)

    def update_target(self, tau: float = 1.0) -> None:
        """Moves the target network towards the online one; see `TargetFollower.move`."""
        self._follower.move(tau)

    # --- size

    def num_parameters(self) -> dict[str, float]:
        """Returns how large the team is, for comparing methods.

        - `parameters_trained`, `bytes_trained`: every number that the optimizer moves (float32), of agents and mixer,
          with what decides who uses which
        - `parameters_team`, `bytes_team`: what the agents need to act, all together: no mixer, what they share once
        - `parameters_agent`, `bytes_agent`: what one agent acts with, mean over mask owners

        The last two are as each layer counts them (`MaskedLayer.memory`), in some as they have learned so far.
        """
        trained = sum(parameter.numel() for parameter in self._parameters if parameter.requires_grad)
        memory = self.model.agent.memory()
        return {
            "parameters_trained": trained,
            "bytes_trained": FLOAT_BYTES * trained,
            "parameters_team": memory.numbers,
            "bytes_team": memory.size,
            "parameters_agent": memory.owner_numbers,
            "bytes_agent": memory.owner_size,
        }

    # --- state

    def get_weights(self) -> dict[str, Any]:
        """Returns what a rollout worker needs: the agents without the mixer."""
        return {name: value.cpu().numpy() for name, value in self.model.agent.state_dict().items()}

    def set_weights(self, weights: dict[str, Any]) -> None:
        """Takes over the agents' weights from `get_weights`."""
        self.model.agent.load_state_dict(convert_to_torch_tensor(weights, device=self.device))

    def get_state(self) -> dict[str, Any]:
        """Returns everything an interrupted run needs: both networks, the optimizer and the reward statistics."""
        return {
            **super().get_state(),
            "model": convert_to_numpy(self.model.state_dict()),
            "target_model": convert_to_numpy(self.target_model.state_dict()),
            "reward_moments": self.reward_moments.get_state(),
            "num_grad_updates": self.num_grad_updates,
            "guard": self.guard.get_state(),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over what `get_state` returned; settings stay those of this policy, whatever the other's were.

        Raises:
            ConfigError: if networks or the optimizer are not made of finite numbers.
        """
        for what in ("model", "target_model"):
            check_weights(state[what], f"checkpoint: {what}", "so it is not taken up")
        check_weights(optimizer_arrays(state.get("_optimizer_variables", ())), "checkpoint", "so it is not taken up")
        config = self.config  # RLlib puts the other's in its place, so that a changed run would go on as it was begun
        super().set_state(state)
        self.config = config
        self.model.load_state_dict(convert_to_torch_tensor(state["model"], device=self.device))
        self.target_model.load_state_dict(convert_to_torch_tensor(state["target_model"], device=self.device))
        self.reward_moments.set_state(state["reward_moments"])
        self.num_grad_updates = state["num_grad_updates"]
        self.guard.set_state(state.get("guard", {"skipped": 0, "in_a_row": 0}))  # older checkpoints have none
        self._use_own_optimizer_settings()

    def _use_own_optimizer_settings(self) -> None:
        """Gives the optimizer this policy's learning rate and epsilon: a restored state brings those of the other."""
        self.on_global_var_update({"timestep": self.global_timestep})  # a schedule's rate at this step
        self.set_learning_rate(self.cur_lr)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["eps"] = self.config["adam_epsilon"]


def _some_available(available: Tensor) -> Tensor:
    """Lets padded steps, where nothing is available, choose anything: their values are masked out of the loss."""
    return available | ~available.any(-1, keepdim=True)
