"""What every reader of files does: a missing or damaged file is one clear paragraph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hepkan.errors import DataError, MissingExtra, UsageError


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises on a missing, truncated or foreign file into a `DataError`.

    Raises:
        DataError: instead of any error but the package's own.
    """
    if not path.is_file():
        raise DataError(
            f"A file ({kind}) is needed, however {path} does not exist or is no file. Check the path."
        )
    try:
        yield
    except (UsageError, DataError, MissingExtra):
        raise
    except Exception as error:  # damaged bytes make parsers raise almost anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"A complete {kind} file is needed, however {path} cannot be read: it is truncated, damaged or "
            f"of another format ({type(error).__name__}: {reason}). Make or copy it again."
        ) from error
