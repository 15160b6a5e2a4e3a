"""What writes a trial's results down: TensorBoard, CSV and JSON always, W&B and MLflow where a file asks for them.

    loggers:
      csv: false                       # one of those that are on is switched off
      mlflow: {tracking_uri: "http://127.0.0.1:5000", tags: {team: blue}}

or, where nothing needs saying of them, `loggers: [mlflow, wandb]`. The writing is done by Ray's own callbacks.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import urlopen

from k24_rllib.checks import ConfigError, check_name

if TYPE_CHECKING:
    from ray.tune import Callback

    from k24_rllib.experiments.experiment import Experiment

_CALLBACKS = {
    "tensorboard": ("ray.tune.logger", "TBXLoggerCallback"),
    "csv": ("ray.tune.logger", "CSVLoggerCallback"),
    "json": ("ray.tune.logger", "JsonLoggerCallback"),
    "wandb": ("ray.air.integrations.wandb", "WandbLoggerCallback"),
    "mlflow": ("ray.air.integrations.mlflow", "MLflowLoggerCallback"),
}
"""Each logger's name and the callback of Ray's that writes."""
_ALWAYS = ("tensorboard", "csv", "json")
_PACKAGED_APART = ("wandb", "mlflow")
"""Those that need a package of their own, called as they are."""


def default_loggers() -> dict[str, dict[str, Any]]:
    """Returns what a file that says nothing of loggers has."""
    return {name: {} for name in _ALWAYS}


def check_loggers(given: object) -> dict[str, dict[str, Any]]:
    """Checks a file's `loggers` and returns the options of each that is on, by name.

    Args:
        given: A list of names and of `{name: options}`, or a mapping of names to options, to true or to false.

    Raises:
        ConfigError: for an unknown logger or option, or one whose package is not installed.
    """
    loggers = default_loggers()
    for name, options in _pairs(given):
        check_name("logger", name, _CALLBACKS)
        if options is False:
            loggers.pop(name, None)
            continue
        if options is not None and options is not True and not isinstance(options, Mapping):
            raise ConfigError(f"loggers: {name}: got {options!r}, expected its options, true or false")
        loggers[name] = dict(options) if isinstance(options, Mapping) else {}
        _check_installed(name)
        _check_options(name, loggers[name])
    return loggers


def _pairs(given: object) -> list[tuple[Any, Any]]:
    """Returns names and what is said of each, from a list or a mapping of them."""
    if given is None:
        return []
    if isinstance(given, Mapping):
        return list(given.items())
    if not isinstance(given, list):
        raise ConfigError(f"loggers: got {given!r}, expected a list of {', '.join(_CALLBACKS)}")
    return [pair for item in given for pair in (item.items() if isinstance(item, Mapping) else [(item, None)])]


def _check_installed(name: str) -> None:
    if name in _PACKAGED_APART and find_spec(name) is None:
        raise ConfigError(f"loggers: {name} needs a package that is not installed, expected after: pip install {name}")


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Checks the names of a logger's options, and what W&B would complain of only after Ray has started."""
    known = set(inspect.signature(_callback_class(name).__init__).parameters) - {"self", "kwargs"}
    if name == "wandb":
        known |= set(inspect.signature(import_module("wandb").init).parameters)
    for key in options:
        if not known:
            raise ConfigError(f"loggers: {name}: got option {key!r}, expected none: it has no options")
        check_name(f"option of loggers: {name}:", key, known)
    if name == "wandb":
        _check_wandb_can_log(options)
    if name == "mlflow":
        _check_mlflow_answers(options.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI") or "")


def _check_mlflow_answers(address: object) -> None:
    """Checks that a server is there, where there is to be one: MLflow itself tries for minutes, with Ray running."""
    if not str(address).startswith(("http://", "https://")):
        return
    try:
        urlopen(str(address), timeout=10).close()
    except HTTPError:  # it answers, if only that one must log in
        return
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"loggers: mlflow: no answer from tracking_uri {str(address)!r}, expected a server, as in: mlflow server "
            f"({getattr(error, 'reason', error)})"
        ) from error


def _check_wandb_can_log(options: Mapping[str, Any]) -> None:
    """Checks that W&B knows who is logging, as far as can be told without asking its server."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return
    if options.get("api_key") or options.get("api_key_file") or import_module("wandb").api.api_key:
        return
    raise ConfigError(
        "loggers: wandb has no API key, expected WANDB_API_KEY in the environment, after: wandb login; or "
        "WANDB_MODE=offline, to write to disk alone"
    )


def _callback_class(name: str) -> Any:
    module, attribute = _CALLBACKS[name]
    return getattr(import_module(module), attribute)


def logger_callbacks(experiment: Experiment) -> list[Callback]:
    """Returns the callbacks that write an experiment's results down; runs are grouped by the experiment's name."""
    named: dict[str, dict[str, Any]] = {
        "mlflow": {"experiment_name": experiment.name},
        "wandb": {"project": "k24_rllib", "group": experiment.name},
    }
    on = [_callback_class(name)(**{**named.get(name, {}), **its}) for name, its in experiment.loggers.items()]
    return on + [_silent(_callback_class(name)) for name in _ALWAYS if name not in experiment.loggers]


def _silent(callback: type[Callback]) -> Callback:
    """Returns a callback of this class that writes nothing; Tune adds one that writes where it finds none."""
    nothing = {f"log_trial_{event}": lambda *its, **info: None for event in ("start", "result", "end")}
    silent: type[Callback] = type(f"No{callback.__name__}", (callback,), nothing)
    return silent()
