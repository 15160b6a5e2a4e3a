"""A dense QMIX update of the same network as most people write it, in a process of its own that nothing is tuned in.

`python -m benchmarks.plain '{"agents": 3, ...}'` builds it, then makes updates for each line it reads, `gru` or
`gru_cell`, and prints its time in ms. A process of its own, because what a learner sets for its process (the
allocator, the library of matrix products) cannot be taken back.

Shapes: `T` steps, `B` episodes, `N` agents, `O` observation size, `S` state size, `H` hidden size, `U` actions.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import UPDATE_CALLS, milliseconds

VARIANTS = {"gru": "plain PyTorch, nn.GRU", "gru_cell": "plain PyTorch, nn.GRUCell step by step"}


@dataclass(frozen=True)
class PlainSizes:
    """Everything that the network and its batch are made of."""

    agents: int
    obs_dim: int
    state_dim: int
    actions: int
    hidden: int
    episodes: int
    steps: int
    embed: int
    hypernet: int
    threads: int


class PlainAgent(nn.Module):
    """1R3: a layer, a recurrent one and three more; `step_by_step` runs all of it at each step, as PyMARL does."""

    def __init__(self, sizes: PlainSizes, step_by_step: bool) -> None:
        super().__init__()
        hidden = sizes.hidden
        self.fc1 = nn.Linear(sizes.obs_dim + sizes.agents, hidden)
        self.rnn: nn.Module = nn.GRUCell(hidden, hidden) if step_by_step else nn.GRU(hidden, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, hidden)
        self.fc4 = nn.Linear(hidden, sizes.actions)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns values `[T+1, B, N, U]` for inputs `[T+1, B, N, O+N]`."""
        steps, episodes, agents, size = inputs.shape
        flat = inputs.reshape(steps, episodes * agents, size)
        if isinstance(self.rnn, nn.GRU):
            values = self._values(self.rnn(F.relu(self.fc1(flat)))[0])
        else:
            hidden, each = flat.new_zeros(episodes * agents, self.fc2.in_features), []
            for now in flat:
                hidden = self.rnn(F.relu(self.fc1(now)), hidden)
                each.append(self._values(hidden))
            values = torch.stack(each)
        return values.view(steps, episodes, agents, -1)

    def _values(self, hidden: Tensor) -> Tensor:
        out: Tensor = self.fc4(F.relu(self.fc3(F.relu(self.fc2(hidden)))))
        return out


class PlainMixer(nn.Module):
    """QMIX's mixing network with a hypernetwork for each of its parts."""

    def __init__(self, sizes: PlainSizes) -> None:
        super().__init__()
        state, embed, width = sizes.state_dim, sizes.embed, sizes.hypernet
        self.agents, self.embed = sizes.agents, embed
        self.w1 = nn.Sequential(nn.Linear(state, width), nn.ReLU(), nn.Linear(width, sizes.agents * embed))
        self.w2 = nn.Sequential(nn.Linear(state, width), nn.ReLU(), nn.Linear(width, embed))
        self.b1 = nn.Linear(state, embed)
        self.b2 = nn.Sequential(nn.Linear(state, embed), nn.ReLU(), nn.Linear(embed, 1))

    def forward(self, agent_q: Tensor, state: Tensor) -> Tensor:
        """Returns joint values `[T, B, 1]` for values `[T, B, N]` and states `[T, B, S]`."""
        leading = state.shape[:-1]
        flat_state, flat_q = state.reshape(-1, state.shape[-1]), agent_q.reshape(-1, 1, self.agents)
        w1 = self.w1(flat_state).abs().view(-1, self.agents, self.embed)
        hidden = F.elu(torch.bmm(flat_q, w1) + self.b1(flat_state).view(-1, 1, self.embed))
        w2 = self.w2(flat_state).abs().view(-1, self.embed, 1)
        return (torch.bmm(hidden, w2) + self.b2(flat_state).view(-1, 1, 1)).view(*leading, 1)


class PlainLearner:
    """Double QMIX over whole episodes of random data."""

    def __init__(self, sizes: PlainSizes, step_by_step: bool) -> None:
        torch.manual_seed(0)
        self.agent, self.mixer = PlainAgent(sizes, step_by_step), PlainMixer(sizes)
        self.target_agent, self.target_mixer = copy.deepcopy(self.agent), copy.deepcopy(self.mixer)
        self.parameters = [*self.agent.parameters(), *self.mixer.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=5e-4)
        shape = (sizes.episodes, sizes.steps + 1)
        self.obs = torch.randn(*shape, sizes.agents, sizes.obs_dim)
        self.state = torch.randn(*shape, sizes.state_dim)
        self.actions = torch.randint(sizes.actions, (sizes.episodes, sizes.steps, sizes.agents))
        self.rewards = torch.randn(sizes.episodes, sizes.steps, 1)
        self.mask = torch.ones(sizes.episodes, sizes.steps, 1)

    def update(self) -> None:
        """Makes one update."""
        obs, state, actions = (each.transpose(0, 1) for each in (self.obs, self.state, self.actions))
        rewards, mask = self.rewards.transpose(0, 1), self.mask.transpose(0, 1)
        identity = torch.eye(obs.shape[2]).expand(*obs.shape[:3], -1)
        inputs = torch.cat([obs, identity], -1)
        q = self.agent(inputs)
        chosen = self.mixer(q[:-1].gather(-1, actions.unsqueeze(-1)).squeeze(-1), state[:-1])
        with torch.no_grad():
            best = q[1:].argmax(-1, keepdim=True)
            next_q = self.target_agent(inputs)[1:].gather(-1, best).squeeze(-1)
            targets = rewards + 0.99 * self.target_mixer(next_q, state[1:])
        loss = ((chosen - targets).square() * mask).sum() / mask.sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 10.0)
        self.optimizer.step()


class PlainProcess:
    """The process that makes plain updates when asked; use it as a context."""

    def __init__(self, sizes: PlainSizes) -> None:
        words = [sys.executable, "-m", "benchmarks.plain", json.dumps(asdict(sizes))]
        root = Path(__file__).resolve().parent.parent
        self._process = subprocess.Popen(words, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def update(self, variant: str) -> Callable[[], float]:
        """Returns the measure of one update's time in ms; `variant` is one of `VARIANTS`."""

        def measure() -> float:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(f"{variant}\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())

        return measure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()  # closes its input, at which it leaves


def main() -> None:
    """Measures updates for each line of the input."""
    sizes = PlainSizes(**json.loads(sys.argv[1]))
    torch.set_num_threads(sizes.threads)
    learners = {variant: PlainLearner(sizes, variant == "gru_cell") for variant in VARIANTS}
    measures = {variant: milliseconds(learner.update, **UPDATE_CALLS) for variant, learner in learners.items()}
    for line in sys.stdin:
        print(measures[line.strip()](), flush=True)


if __name__ == "__main__":
    main()
