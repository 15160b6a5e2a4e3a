"""Parts of the user's own in every process: what one process registers, Ray carries to trials and rollout workers.

A file names a layer; the trial that reads the name is another process, which has not imported the user's module. So
factories go where Ray keeps environments' and trainables' too, and a name that a process does not know is looked up
there.
"""

from __future__ import annotations

from ray.tune.registry import register_input, registry_contains_input, registry_get_input

from k24_rllib.registry import Factory, Registry

_shared: dict[str, Factory] = {}


def share(registry: Registry, name: str) -> None:
    """Lets every process of this Ray, and of the next one, find a part that this process has registered."""
    key = _key(registry.kind, name)
    _shared[key] = registry.factory(name)
    register_input(key, _shared[key])  # Ray's public store of callables by name; it pickles them


def share_again() -> None:
    """Shares everything anew: Ray forgets it at `ray.shutdown()`."""
    for key, factory in _shared.items():
        register_input(key, factory)


def find(kind: str, name: str) -> Factory | None:
    """Returns what some process has shared under this name, or None."""
    key = _key(kind, name)
    return registry_get_input(key) if registry_contains_input(key) else None


def _key(kind: str, name: str) -> str:
    return f"k24_rllib/{kind}/{name}"


Registry.elsewhere = staticmethod(find)
