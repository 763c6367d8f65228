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


def key_of(sketch: Sketch) -> str:
    """Return a hash of everything that a picture depends on."""
    make = sketch.make
    function = make.func if isinstance(make, functools.partial) else make
    arguments = (make.args, make.keywords) if isinstance(make, functools.partial) else ()
    whole = (f"{function.__module__}.{function.__qualname__}", arguments, look(), matplotlib.__version__, _code())
    return str(joblib.hash(whole))


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
