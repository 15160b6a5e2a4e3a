"""Starting Ray, with its own messages kept from the user unless `-v` asks for them."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError
from k24_rllib.command_line import Stopped
from k24_rllib.experiments.cluster import code_for_nodes, find_cluster
from k24_rllib.experiments.ray_files import keep, mark, remove, remove_leftovers

LOOPBACK = "127.0.0.1"


def quiet_ray() -> None:
    """Silences Ray's loggers, that of TensorBoard's files and Python's warnings in this process."""
    warnings.simplefilter("ignore")
    for name in ("ray", "ray.tune", "ray.rllib", "tensorboardX"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def start_ray(
    *,
    address: str | None = None,
    cpus: int = 1,
    dashboard: bool = False,
    dashboard_host: str = LOOPBACK,
    verbose: int = 0,
    modules: Sequence[str] = (),
) -> None:
    """Starts Ray on this machine with `cpus` logical CPUs, or joins the cluster at `address`.

    Args:
        address: `host:port` of a cluster, or `auto`; None starts Ray here.
        cpus: How many CPUs Ray is to count here.
        dashboard: Whether to start Ray's dashboard too, and print its address.
        dashboard_host: Where it listens; by default nobody but this machine reaches it.
        verbose: Above 0, Ray's own messages are shown.
        modules: The user's modules that a cluster's nodes need beside this package.

    Raises:
        ConfigError: where no Ray answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else every worker warns of a future change
    settings: dict[str, Any] = {
        "log_to_driver": verbose > 0,
        "logging_level": logging.INFO if verbose > 0 else logging.CRITICAL,
    }
    if address is not None:
        _join(find_cluster(address), {**settings, "runtime_env": code_for_nodes(modules)})
        return
    settings |= {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard, "dashboard_host": dashboard_host}
    settings["_node_ip_address"] = LOOPBACK  # obeyed where `stay_on_loopback` came before Ray was imported
    remove_leftovers(ray_root())
    with _own_sigterm():
        url = _init(settings)
    if verbose == 0:
        mark(_session())
    if dashboard:
        _tell_of_dashboard(url, dashboard_host)


def keep_files() -> None:
    """Lets the directory of the Ray that runs stay, with its logs, for whoever wants to know what failed."""
    import ray

    if ray.is_initialized():
        keep(_session())


def stop_ray() -> None:
    """Ends the Ray that `start_ray` started, and removes its directory unless it is kept; or leaves the cluster."""
    import ray

    session = _session() if ray.is_initialized() else None
    ray.shutdown()
    if session is not None:
        remove(session)


def _init(settings: dict[str, Any]) -> str:
    """Starts Ray and returns the address of its dashboard, which is empty without one."""
    import ray

    try:
        context = ray.init(**settings)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()  # Ray gives its processes 30 seconds, which a busy machine can need and a second try won't
        context = ray.init(**settings)
    return str(context.dashboard_url)


def _session() -> Path:
    """Returns the directory of the Ray that runs."""
    from ray._private.worker import _global_node

    return Path(_global_node.get_session_dir_path())


def ray_root() -> Path:
    """Returns where Ray's directories lie."""
    from ray._common.utils import get_default_ray_temp_dir

    return Path(get_default_ray_temp_dir())


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Puts back what handled SIGTERM before: Ray's handlers leave at once, with the exit code 15 or 1."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # by Ray's handler, in the seconds in which it starts
        raise Stopped(signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _join(address: str, settings: dict[str, Any]) -> None:
    """Joins the cluster that answers at `address`."""
    import ray

    try:
        ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:  # another version of Ray, a machine that is no node
        reason = " ".join(str(error).split())
        raise ConfigError(f"--ray-address {address}: can't be joined ({type(error).__name__}: {reason})") from error


def check_dashboard_host(host: str) -> str:
    """Returns `host` if this machine can listen there."""
    try:
        with socket.create_server((host, 0)):
            return host
    except OSError as error:
        raise ConfigError(
            f"--dashboard-host: got {host!r}, expected an address of this machine, such as {LOOPBACK} or 0.0.0.0 "
            f"({error.strerror or error})"
        ) from error


def is_loopback(host: str) -> bool:
    """Returns whether nobody but this machine reaches `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _tell_of_dashboard(url: str, host: str) -> None:
    """Gives Ray's Grafana folder the dashboard of the live figures, and prints where everything is."""
    from k24_rllib.experiments.dashboards import place_dashboard

    print(f"dashboard at http://{url}", flush=True)
    has_token = os.environ.get("RAY_AUTH_MODE") == "token"  # Ray says so itself where nothing else was said
    if has_token:
        print("it asks for Ray's token once: ray get-auth-token prints it")
    if not is_loopback(host):
        guard = "" if has_token else " without a password"
        print(f"note: other machines reach it, unencrypted, and can run programs on this one through it{guard}")
    session = _session()
    place_dashboard(session)
    print(f"Prometheus and Grafana settings in {session}/metrics (see docs/monitoring.md)", flush=True)
