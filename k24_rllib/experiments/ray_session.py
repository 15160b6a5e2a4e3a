"""Starting Ray, with its own messages kept from the user unless `-v` asks for them."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import warnings
from typing import Any

from k24_rllib.checks import ConfigError

LOOPBACK = "127.0.0.1"


def quiet_ray() -> None:
    """Silences Ray's loggers and Python's warnings in this process."""
    warnings.simplefilter("ignore")
    for name in ("ray", "ray.tune", "ray.rllib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def start_ray(
    *,
    address: str | None = None,
    cpus: int = 1,
    dashboard: bool = False,
    dashboard_host: str = LOOPBACK,
    verbose: int = 0,
) -> None:
    """Starts Ray on this machine with `cpus` logical CPUs, or joins the cluster at `address`.

    With `dashboard`, Ray's dashboard listens at `dashboard_host` and its address is printed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else every worker warns of a future change
    import ray

    settings: dict[str, Any] = {
        "log_to_driver": verbose > 0,
        "logging_level": logging.INFO if verbose > 0 else logging.CRITICAL,
    }
    if address is not None:
        ray.init(address=address, **settings)
        return
    settings |= {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard, "dashboard_host": dashboard_host}
    try:
        context = ray.init(**settings)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()  # Ray gives its processes 30 seconds, which a busy machine can need and a second try won't
        context = ray.init(**settings)
    if dashboard:
        _tell_of_dashboard(context.dashboard_url, dashboard_host)


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
    from ray._private.worker import _global_node

    from k24_rllib.experiments.dashboards import place_dashboard

    print(f"dashboard at http://{url}", flush=True)
    has_token = os.environ.get("RAY_AUTH_MODE") == "token"  # Ray says so itself where nothing else was said
    if has_token:
        print("it asks for Ray's token once: ray get-auth-token prints it")
    if not is_loopback(host):
        guard = "" if has_token else " without a password"
        print(f"note: other machines reach it, unencrypted, and can run programs on this one through it{guard}")
    session = _global_node.get_session_dir_path()
    place_dashboard(session)
    print(f"Prometheus and Grafana settings in {session}/metrics (see docs/monitoring.md)", flush=True)
