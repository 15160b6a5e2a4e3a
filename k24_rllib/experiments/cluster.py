"""Joining a Ray cluster: whether one answers, what it can ever hold, and how this machine's code gets to its nodes."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError

ANSWER_S = 5.0
"""Seconds in which a cluster must answer; Ray itself tries for most of a minute."""

_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""The preface of HTTP/2, which Ray's gRPC stands on, and empty settings; a server answers with its own settings."""
_SETTINGS = 4

_EXCLUDED = ["**/__pycache__/**", "**/*.pyc"]
"""What lies beside code and needs no copy on the nodes."""

Bundle = Mapping[str, float]
"""The resources that one process of a trial asks for; CPUs and GPUs may be fractions."""


def find_cluster(address: str) -> str:
    """Returns the `host:port` at which a cluster answers.

    Args:
        address: `host:port` of a cluster's head node, or `auto` for the cluster that this machine is a node of.

    Raises:
        ConfigError: where no Ray answers, within seconds, or for an address that can't be one.
    """
    if address.startswith("ray://"):
        raise ConfigError(
            f"--ray-address {address}: is for Ray Client, through which a run can't be stopped and saved; expected "
            "host:port of the head node, as in 10.0.0.1:6379, on a machine of the cluster"
        )
    if address == "auto":
        address = _cluster_of_this_machine()
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"--ray-address {address}: expected host:port, as in 10.0.0.1:6379, or auto")
    try:
        _say_hello(host.strip("[]"), int(port))
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise ConfigError(f"--ray-address {address}: no Ray answers there ({reason})") from None
    return address


def _cluster_of_this_machine() -> str:
    """Returns the address of the cluster that `ray start` made this machine a node of."""
    from ray._private.services import find_bootstrap_address

    address: str | None = find_bootstrap_address(None)
    if address is None:
        raise ConfigError(
            "--ray-address auto: this machine is no node of a cluster, expected `ray start` before, or host:port"
        )
    return address


def _say_hello(host: str, port: int) -> None:
    """Connects and looks whether the other side speaks as Ray does.

    Raises:
        OSError: if nobody answers, or somebody else does.
    """
    with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
        connection.sendall(_HTTP2_HELLO)
        answer = connection.recv(9)
    if len(answer) < 9 or answer[3] != _SETTINGS:
        raise OSError(f"something else does: {answer[:9].decode('ascii', 'replace').strip()!r}")


def check_room(request: Sequence[Bundle], strategy: str = "PACK", where: str = "the cluster") -> None:
    """Checks that the Ray that is running can ever hold a trial; one that doesn't fit would wait forever, in silence.

    Args:
        request: What the trial asks for: its own process, then each of its workers.
        strategy: How Ray places them; `STRICT_PACK` wants all on one node, `STRICT_SPREAD` each on its own.
        where: What is running, for the message.

    Raises:
        ConfigError: naming the resource, what there is and what is needed.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if _grows():
        return  # by machines of which too little is known to refuse a trial
    _check_sum(request, {name: sum(n.get(name, 0.0) for n in nodes) for name in _names(request)}, where)
    if strategy == "STRICT_SPREAD" and len(request) > len(nodes):
        raise ConfigError(
            f"placement_strategy: {where} has {len(nodes)} nodes, a trial with STRICT_SPREAD needs {len(request)}"
        )
    together = [_sum(request)] if strategy == "STRICT_PACK" else request
    for bundle in together:
        if not any(all(node.get(name, 0.0) >= amount for name, amount in bundle.items()) for node in nodes):
            raise ConfigError(f"{where} has no node with {_listed(bundle)}, which a trial needs on one node")


def _grows() -> bool:
    """Returns whether an autoscaler adds nodes to the cluster.

    Where none does, Ray's monitor reports each node as a type of its own, named after the node.
    """
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray._private.state import state
    from ray.experimental.internal_kv import _internal_kv_get

    if state.get_max_resources_from_cluster_config() is not None:
        return True
    report = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or b"{}").get("autoscaler_report") or {}
    return any(not kind.startswith("node_") for kind in report.get("active_nodes") or {})


def _check_sum(request: Sequence[Bundle], there: Mapping[str, float], where: str) -> None:
    for name, needed in _sum(request).items():
        if needed > there.get(name, 0.0):
            raise ConfigError(
                f"{where} has {_amount(name, there.get(name, 0.0))}, a trial needs {needed:g} "
                f"({len(request) - 1} workers beside its own process)"
            )


def _sum(request: Sequence[Bundle]) -> dict[str, float]:
    return {name: sum(bundle.get(name, 0.0) for bundle in request) for name in _names(request)}


def _names(request: Sequence[Bundle]) -> list[str]:
    return sorted({name for bundle in request for name, amount in bundle.items() if amount > 0})


def _listed(bundle: Bundle) -> str:
    return " and ".join(_amount(name, amount) for name, amount in sorted(bundle.items()) if amount > 0)


def _amount(name: str, amount: float) -> str:
    """Returns an amount of a resource in words, as in `3 CPUs` or `1 of 'TPU'`."""
    if name not in ("CPU", "GPU"):
        return f"{amount:g} of {name!r}"
    return f"{amount:g} {name}" + ("" if amount == 1 else "s")


def code_for_nodes(modules: Iterable[str]) -> dict[str, Any]:
    """Returns the runtime environment by which every node of a cluster runs this machine's code.

    It holds this package and the user's modules as they are here, so that nodes need only what `requirements.txt`
    names, and a node that has another version of either runs this one.

    Args:
        modules: Names of the user's modules, imported already. What they imported from the same directory goes with
            them, unless that is where packages are installed.
    """
    import k24_rllib

    paths = [Path(k24_rllib.__file__).parent]
    for name in modules:
        own = _path(name.partition(".")[0])
        paths += [own] if own is not None else []
        if own is not None and own.parent.name not in ("site-packages", "dist-packages"):
            beside = (_path(other) for other in list(sys.modules) if "." not in other)
            paths += [path for path in beside if path is not None and path.parent == own.parent]
    return {"py_modules": [str(path) for path in dict.fromkeys(paths)], "excludes": _EXCLUDED}


def _path(module: str) -> Path | None:
    """Returns the directory or file of a top-level module that was imported from source, or None."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not file.endswith(".py"):
        return None
    path = Path(file).resolve()
    return path.parent if path.name == "__init__.py" else path
