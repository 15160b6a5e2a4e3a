"""Starting Ray, with its own messages kept from the user unless `-v` asks for them."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any


def quiet_ray() -> None:
    """Silences Ray's loggers and Python's warnings in this process."""
    warnings.simplefilter("ignore")
    for name in ("ray", "ray.tune", "ray.rllib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def start_ray(*, address: str | None = None, cpus: int = 1, dashboard: bool = False, verbose: int = 0) -> None:
    """Starts Ray on this machine with `cpus` logical CPUs, or joins the cluster at `address`."""
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
    settings |= {"address": "local", "num_cpus": cpus, "include_dashboard": dashboard}
    try:
        context = ray.init(**settings)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        ray.shutdown()  # Ray gives its processes 30 seconds, which a busy machine can need and a second try won't
        context = ray.init(**settings)
    if dashboard:
        print(f"dashboard at http://{context.dashboard_url}", flush=True)
