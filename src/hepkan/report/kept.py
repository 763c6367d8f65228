"""Pictures of an earlier page that are still true: what they show, the look and this code are the same."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib
import matplotlib

from hepkan.report.sections import Plot, Sketch
from hepkan.report.style import look

KEYS = "keys.json"


class Kept(NamedTuple):
    """A picture that need not be drawn again."""

    svg: bytes
    width: int


class Keys:
    """Hashes of everything that pictures depend on; what many of them share is hashed once."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[object, str]] = {}

    def of(self, sketch: Sketch) -> str:
        """Return the hash of one picture."""
        make = sketch.make
        function = make.func if isinstance(make, functools.partial) else make
        arguments = (*make.args, *make.keywords, *make.keywords.values()) if isinstance(make, functools.partial) else ()
        hashes = [self._hash(one) for one in arguments]
        whole = (f"{function.__module__}.{function.__qualname__}", hashes, look(), matplotlib.__version__, _code())
        return str(joblib.hash(whole))

    def _hash(self, value: object) -> str:
        """Return the hash of an argument, which is kept so that its identity stays its own."""
        if id(value) not in self._found:
            self._found[id(value)] = value, str(joblib.hash(value))
        return self._found[id(value)][1]


@functools.cache
def _code() -> str:
    """Return a hash of the code that draws."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def kept_in(folder: Path) -> dict[str, Kept]:
    """Return the pictures in a folder by key; none that has been changed or damaged since."""
    try:
        entries = json.loads((folder / KEYS).read_text(encoding="utf-8"))
        found = {}
        for name, (key, width, digest) in entries.items():
            svg = (folder / f"{Path(name).name}.svg").read_bytes()
            if hashlib.sha256(svg).hexdigest() == digest:
                found[str(key)] = Kept(svg, int(width))
    except (OSError, ValueError, TypeError, AttributeError):  # then everything is drawn
        return {}
    return found


def write_pictures(folder: Path, pictures: Sequence[Plot], keys: Mapping[str, str]) -> None:
    """Write pictures, and by which keys they can be kept."""
    entries = {}
    for one in pictures:
        (folder / f"{one.name}.svg").write_bytes(one.svg)
        if one.name in keys:
            entries[one.name] = keys[one.name], one.width, hashlib.sha256(one.svg).hexdigest()
    (folder / KEYS).write_text(json.dumps(entries, indent=0, sort_keys=True), encoding="utf-8")
