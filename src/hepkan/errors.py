"""The package's errors: one clear paragraph each, saying what is required, what was seen and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class UsageError(ValueError):
    """The request itself is wrong (unknown name, impossible setting). The command line exits with code 2."""


class DataError(ValueError):
    """The request is fine but a file or its content is not (corrupted, truncated, NaN). Exit code 1."""


class MissingExtra(ImportError):
    """An optional dependency is needed; the text names the `pip install` line. Exit code 1."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a name that is not among `known`, with the closest one suggested."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(choices)}.")


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency or say which extra brings it.

    Raises:
        MissingExtra: `module` cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(
            f"{purpose} needs the package {module!r}, however it cannot be imported ({error}). "
            f"Install it with: pip install 'hepkan[{extra}]'"
        ) from error
