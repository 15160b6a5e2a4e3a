"""A trained team without Ray: reading and checking its file, and acting with NumPy, PyTorch or onnxruntime.

Importing it imports NumPy alone; PyTorch and onnxruntime come with the backend that uses them.
"""

from typing import TYPE_CHECKING

from k24_rllib.lazy import names_from

if TYPE_CHECKING:
    from k24_rllib.serve.agent import ServedAgent, load_agent
    from k24_rllib.serve.backend import BACKENDS, Backend, Outcome
    from k24_rllib.serve.files import TeamFile, read_team, write_team
    from k24_rllib.serve.number_types import DTYPES, Numbers
    from k24_rllib.serve.team import Cell, Linear, Spec, Team

_MODULES = {
    "BACKENDS": "backend",
    "DTYPES": "number_types",
    "Backend": "backend",
    "Cell": "team",
    "Linear": "team",
    "Numbers": "number_types",
    "Outcome": "backend",
    "ServedAgent": "agent",
    "Spec": "team",
    "Team": "team",
    "TeamFile": "files",
    "load_agent": "agent",
    "read_team": "files",
    "write_team": "files",
}

__all__ = [
    "BACKENDS",
    "DTYPES",
    "Backend",
    "Cell",
    "Linear",
    "Numbers",
    "Outcome",
    "ServedAgent",
    "Spec",
    "Team",
    "TeamFile",
    "load_agent",
    "read_team",
    "write_team",
]

__getattr__ = names_from(globals(), _MODULES)
