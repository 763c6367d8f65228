"""Checkpoints: which training one belongs to, and how it is written and read without executing code."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from hepkan.errors import DataError, UsageError
from hepkan.files import atomic_file
from hepkan.nn import Network
from hepkan.train.settings import Settings
from hepkan.train.sources import Source, hash_of

MARK = b"+"


def identity_of(model: Network, settings: Settings, sources: Iterable[Source], processes: int) -> bytes:
    """Return a hash of all that decides the result: settings, initial weights and maps, events."""
    words = [asdict(settings), type(model).__name__, model.describe(), processes]
    digest = hashlib.sha256(json.dumps(words).encode())
    digest.update(hash_of(*model.state_dict().values()))
    for source in sources:
        digest.update(source.digest())
    return digest.digest()


def write_checkpoint(path: Path, identity: bytes, content: dict[str, Any]) -> None:
    """Write tensors and plain data, atomically."""
    with atomic_file(path) as temporary:
        torch.save({**content, "identity": identity.hex()}, temporary)


def stored(path: Path) -> bytes:
    """Return a mark and the bytes of a checkpoint: nothing when there is none, the mark alone when it is unreadable."""
    try:
        return MARK + path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError:
        return MARK


def read_checkpoint(path: Path, found: bytes, identity: bytes) -> dict[str, Any] | None:
    """Return the content of a checkpoint of this training from what `stored` gave, None when there is none.

    Raises:
        DataError: the file is damaged or no checkpoint.
        UsageError: it belongs to another training.
    """
    if not found:
        return None
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(found.removeprefix(MARK)), weights_only=True)
        owner = content["identity"]
    except (RuntimeError, LookupError, TypeError, ValueError, EOFError, OSError, UnpicklingError) as error:
        raise DataError(
            f"{path} must be a checkpoint of a training, however it cannot be read. Delete it to start anew."
        ) from error
    if owner != identity.hex():
        raise UsageError(
            f"The checkpoint {path} belongs to a training with other settings, data or initial weights. "
            "Delete it or choose another file."
        )
    return content
