"""Starting JAX: on the CPU, on one core, with what it compiles kept on disk; and importing SMAX, which JAX is for here.

Nothing here is imported before a `smax` environment is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec

from k24_rllib.cache_directory import cache_directory, processor
from k24_rllib.checks import ConfigError

INSTALL = "pip install 'k24_rllib[smax]'"
ONE_THREAD = "--xla_cpu_multi_thread_eigen=false"
"""Of XLA: a rollout worker has one core, and battles are too small to be shared out among several."""


@cache
def start_jax() -> None:
    """Imports JAX and SMAX, once; where JAX runs, its flags and its cache stay as the user has set them.

    Raises:
        ConfigError: naming the command that installs what is missing.
    """
    if find_spec("jaxmarl") is None or find_spec("jax") is None:
        raise ConfigError(f"environment 'smax': needs a package that is not installed, expected {INSTALL}")
    os.environ.setdefault("XLA_FLAGS", ONE_THREAD)
    try:
        import jax

        if not jax.config.jax_platforms:  # that is JAX_PLATFORMS
            jax.config.update("jax_platforms", "cpu")
        if jax.config.jax_compilation_cache_dir is None:  # JAX_COMPILATION_CACHE_DIR
            _keep_compiled()
        # Who forks here, Ray among them, becomes another program at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        with _bare("jaxmarl", "jaxmarl.environments"):
            import_module("jaxmarl.environments.smax")
    except ImportError as error:
        reason = " ".join(str(error).split())[:120]
        raise ConfigError(f"environment 'smax': can't be imported ({reason}), expected {INSTALL}") from error


def _keep_compiled() -> None:
    """Has JAX keep on disk what it compiles: that takes half a minute, and reading it a second."""
    import jax

    with contextlib.suppress(OSError, RuntimeError):  # the last where nobody knows of a home directory
        directory = cache_directory() / f"jax-{hashlib.sha256(processor()).hexdigest()[:16]}"
        directory.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(directory))


@contextlib.contextmanager
def _bare(*packages: str) -> Iterator[None]:
    """Lets modules of packages, outer ones first, be imported without what the packages themselves import.

    JaxMARL's import all its environments, which takes five times as long as SMAX alone, and print.
    """
    bare = [package for package in packages if package not in sys.modules]
    for package in bare:
        spec = find_spec(package)
        assert spec is not None
        sys.modules[package] = module_from_spec(spec)
    try:
        yield
    finally:
        for package in bare:
            del sys.modules[package]
