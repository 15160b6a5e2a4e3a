"""What a checkpoint's directory must hold, file by file: written last, and looked at before anything is unpickled.

A manifest is JSON as `_render` writes it, and no other: its last key is the digest of all before, so that whatever
becomes of one of its bytes shows, and a version to come can tell that it is sound before it says what it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from k24_rllib.checks import ConfigError

MANIFEST_FILE = "manifest.json"
INFO_FILE = "rllib_checkpoint.json"
"""RLlib's own note in a checkpoint, in which ours says that there is a manifest: half a copy may lack that."""
HAS_MANIFEST = "has_manifest"
FORMAT = "k24_rllib checkpoint"
FORMAT_VERSION = 1
PART_SUFFIX = ".part"
"""How the names of files end that are being written."""


class DamagedCheckpointError(ConfigError):
    """A checkpoint whose files are not those that were written.

    Args:
        checkpoint: Its directory.
        what: What is wrong, as in "policy_state.pkl is missing".
    """

    def __init__(self, checkpoint: Path | str, what: str) -> None:
        super().__init__(f"{checkpoint}: {what}")
        self.checkpoint, self.what = Path(checkpoint), what

    def __reduce__(self) -> tuple[type[DamagedCheckpointError], tuple[str, str]]:
        return type(self), (str(self.checkpoint), self.what)


def write_manifest(checkpoint: Path, **about: Any) -> None:
    """Writes down every file of a checkpoint, with size and SHA-256, and which versions wrote it.

    Args:
        checkpoint: Its directory, complete but for the manifest.
        **about: What else to keep, in types that JSON has.
    """
    import ray
    import torch

    from k24_rllib import __version__

    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **about,
        "versions": {
            "k24_rllib": __version__,
            "ray": ray.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "files": {name: _measure(checkpoint / name) for name in files_of(checkpoint)},
    }
    replace_file(checkpoint / MANIFEST_FILE, _render(content))


def replace_file(file: Path, content: bytes) -> None:
    """Writes a file under another name first, so that it is never there by half."""
    part = file.with_name(file.name + PART_SUFFIX)
    part.write_bytes(content)
    os.replace(part, file)


def read_manifest(checkpoint: Path) -> dict[str, Any] | None:
    """Returns what a checkpoint's manifest says, or None for a checkpoint of before there were manifests.

    Raises:
        DamagedCheckpointError: for a manifest that is not as it was written, or is missing where there was one.
        ConfigError: for one of a format that this version does not know.
    """
    try:
        raw = (checkpoint / MANIFEST_FILE).read_bytes()
    except FileNotFoundError:
        _check_never_had_one(checkpoint)
        return None
    except OSError as error:
        raise DamagedCheckpointError(checkpoint, f"{MANIFEST_FILE} can't be read ({error.strerror})") from error
    content = _parse(raw)
    if content is None:
        raise DamagedCheckpointError(checkpoint, f"{MANIFEST_FILE} is damaged (its digest is not its content's)")
    if content.get("format") != FORMAT or content.get("format_version") != FORMAT_VERSION:
        given = f"{content.get('format')} {content.get('format_version')}"
        by = (content.get("versions") or {}).get("k24_rllib", "another version")
        raise ConfigError(
            f"{checkpoint}: is of format {given!r}, written by k24_rllib {by}; expected {FORMAT} {FORMAT_VERSION}"
        )
    return content


def verify(checkpoint: Path) -> dict[str, Any] | None:
    """Checks every file of a checkpoint against its manifest, and returns that; None where an older one has none.

    Raises:
        DamagedCheckpointError: naming the first file that is not as it was written.
        ConfigError: for a manifest of a format that this version does not know.
    """
    manifest = read_manifest(checkpoint)
    if manifest is not None:
        for name in manifest["files"]:
            _check_file(checkpoint, name, manifest, None)
    return manifest


def read_verified(checkpoint: Path, name: str, manifest: Mapping[str, Any] | None) -> bytes:
    """Returns a file's content, which is what the manifest says it is.

    Args:
        checkpoint: The checkpoint's directory.
        name: The file's path in it.
        manifest: What `read_manifest` returned; None takes the file as it is.

    Raises:
        DamagedCheckpointError: if it is missing, or not as it was written.
    """
    try:
        content = (checkpoint / name).read_bytes()
    except OSError as error:
        raise DamagedCheckpointError(checkpoint, f"{name} can't be read ({error.strerror})") from error
    if manifest is not None:
        _check_file(checkpoint, name, manifest, content)
    return content


def _check_file(checkpoint: Path, name: str, manifest: Mapping[str, Any], content: bytes | None) -> None:
    """Checks one file, or the content that was read from it already."""
    expected = manifest["files"].get(name)
    if expected is None:
        raise DamagedCheckpointError(checkpoint, f"{name} is not in {MANIFEST_FILE}")
    file = checkpoint / name
    try:
        size = file.stat().st_size if content is None else len(content)
        if size != expected["size"]:
            raise DamagedCheckpointError(checkpoint, f"{name} is damaged ({size} bytes, expected {expected['size']})")
        digest = _digest(file) if content is None else hashlib.sha256(content).hexdigest()
    except FileNotFoundError as error:
        raise DamagedCheckpointError(checkpoint, f"{name} is missing") from error
    except OSError as error:
        raise DamagedCheckpointError(checkpoint, f"{name} can't be read ({error.strerror})") from error
    if digest != expected["sha256"]:
        raise DamagedCheckpointError(checkpoint, f"{name} is damaged (its digest is not the manifest's)")


def _check_never_had_one(checkpoint: Path) -> None:
    """Checks that a checkpoint without a manifest was written before there were any, and is not half a copy."""
    try:
        info = json.loads((checkpoint / INFO_FILE).read_bytes())
    except FileNotFoundError as error:
        raise DamagedCheckpointError(
            checkpoint, f"is incomplete: {MANIFEST_FILE} and {INFO_FILE} are missing"
        ) from error
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(checkpoint, f"{INFO_FILE} is damaged, and {MANIFEST_FILE} missing") from error
    if not isinstance(info, dict) or HAS_MANIFEST in info:
        raise DamagedCheckpointError(checkpoint, f"is incomplete: {MANIFEST_FILE} is missing")


def files_of(checkpoint: Path) -> list[str]:
    """Returns the paths of a checkpoint's files in its directory, sorted, without the manifest."""
    inside = (file.relative_to(checkpoint).as_posix() for file in checkpoint.rglob("*") if file.is_file())
    return sorted(name for name in inside if name != MANIFEST_FILE)


def _measure(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": _digest(file)}


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _render(content: Mapping[str, Any]) -> bytes:
    """Returns a manifest's one and only text."""
    body = json.dumps(content, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f"{json.dumps({**content, 'digest': digest}, indent=1)}\n".encode()


def _parse(raw: bytes) -> dict[str, Any] | None:
    """Returns what a manifest's text says, or None if it is not the text that was written."""
    try:
        content = json.loads(raw)
        digest = content.pop("digest")
        return content if isinstance(digest, str) and _render(content) == raw else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
