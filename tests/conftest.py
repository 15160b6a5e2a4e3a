"""Fixtures shared by all floors: a small Ray, and configurations shrunk in every size."""

from collections.abc import Callable, Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    """A local Ray with four logical CPUs and no dashboard, for the tests of one file."""
    import ray

    import k24_rllib

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    k24_rllib.register_all()  # an earlier file's Ray has taken the registrations with it
    yield
    ray.shutdown()


@pytest.fixture
def small() -> Callable:
    """Shrinks a configuration: 2 agents, 5 steps, tiny networks, an update per training step."""

    def shrink(config, env: str = "mpe_simple_spread", **env_config):
        env_config = {"max_cycles": 5, **({"N": 2} if env == "mpe_simple_spread" else {}), **env_config}
        config.environment(env, env_config=env_config)
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        config.training(
            train_batch_size=4,
            learning_starts_episodes=4,
            updates_per_episode=0.5,
            buffer_episodes=16,
            target_update_episodes=8,
            hidden_dim=8,
            mixing_embed_dim=4,
            hypernet_dim=8,
        )
        config.reporting(min_sample_timesteps_per_iteration=40)
        config.evaluation(evaluation_duration=6)
        config.debugging(seed=0, log_level="ERROR")
        return config

    return shrink


@pytest.fixture
def bare_policy() -> Callable:
    """Builds a configuration's policy, without Ray, and 8 episodes that it played."""
    from k24_rllib.envs import make_team_env
    from k24_rllib.qmix.rollout import collect_episodes

    def build(config, seed: int = 0):
        torch.manual_seed(seed)
        policy = config.build_policy()
        env = make_team_env(config.env, 8, **config.env_config)
        episodes = collect_episodes(env, policy.model, epsilon=1.0, explore=True, seed=0)
        env.close()
        policy.reward_moments.update(episodes.team_reward[episodes.valid()])
        return policy, episodes

    return build
