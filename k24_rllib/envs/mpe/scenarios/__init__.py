"""The nine classic scenarios of MPE, and those that mpe2 does not have, a file each."""

from collections.abc import Callable

from k24_rllib.envs.mpe.scenario import Scenario
from k24_rllib.envs.mpe.scenarios.blind_spread import BlindSpread
from k24_rllib.envs.mpe.scenarios.simple import Simple
from k24_rllib.envs.mpe.scenarios.simple_adversary import SimpleAdversary
from k24_rllib.envs.mpe.scenarios.simple_crypto import SimpleCrypto
from k24_rllib.envs.mpe.scenarios.simple_push import SimplePush
from k24_rllib.envs.mpe.scenarios.simple_reference import SimpleReference
from k24_rllib.envs.mpe.scenarios.simple_speaker_listener import SimpleSpeakerListener
from k24_rllib.envs.mpe.scenarios.simple_spread import SimpleSpread
from k24_rllib.envs.mpe.scenarios.simple_tag import SimpleTag
from k24_rllib.envs.mpe.scenarios.simple_world_comm import SimpleWorldComm

SCENARIOS: dict[str, Callable[..., Scenario]] = {
    "mpe_simple": Simple,
    "mpe_simple_spread": SimpleSpread,
    "mpe_simple_reference": SimpleReference,
    "mpe_simple_speaker_listener": SimpleSpeakerListener,
    "mpe_simple_adversary": SimpleAdversary,
    "mpe_simple_crypto": SimpleCrypto,
    "mpe_simple_push": SimplePush,
    "mpe_simple_tag": SimpleTag,
    "mpe_simple_world_comm": SimpleWorldComm,
}
"""Our name of each of mpe2's scenarios that the batched engine has."""

OWN_SCENARIOS: dict[str, Callable[..., Scenario]] = {"mpe_blind_spread": BlindSpread}
"""Scenarios of the engine's own."""
