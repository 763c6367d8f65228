"""Opening the files of a card, those with collections too: their events get the 43 observables as columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hepkan.data.files import EventFile, Place, open_events, places
from hepkan.errors import UsageError, unknown
from hepkan.studies.card import Reader, Source
from hepkan.studies.recipe import SELECTED


def open_source(source: Source) -> list[EventFile]:
    """Open all files of a source.

    Raises:
        UsageError, DataError, MissingExtra: see `hepkan.data.files`.
    """
    found = {}
    for name in source.files:
        for place in places(name, source.tree, source.format, source.header):
            found[str(place)] = place
    return [open_place(place, source.reader) for place in found.values()]


def open_place(place: Place, reader: Reader | None) -> EventFile:
    """Open one file, its collections as observables where a reader is named."""
    file = open_events(place)
    return file if reader is None else _with_observables(file, reader)


@dataclass(frozen=True)
class WithObservables:
    """A file of collections; the 43 observables and their objects are further columns.

    Events that fail the selection have NaN there, and `hepkan_selected` is false.
    """

    file: EventFile
    branches: tuple[str, ...]
    made: tuple[str, ...]
    convert: Callable[[Any], dict[str, Any]]

    @property
    def place(self) -> Place:
        """Where the file is."""
        return self.file.place

    @property
    def rows(self) -> int:
        """Number of events, selected or not."""
        return self.file.rows

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns of the file and those that are made."""
        return {**self.file.columns, **dict.fromkeys(self.made, "float"), SELECTED: "bool"}

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Read ranges of events."""
        from hepkan.physics.observables import compute

        own = [name for name in names if name not in self.made and name != SELECTED]
        for raw in self.file.chunks(list(dict.fromkeys([*self.branches, *own])), size):
            found = self.convert(raw)
            entry, n = found.pop("id"), len(next(iter(raw.values())))
            found |= compute(found)
            chunk = {name: raw[name] for name in own}
            for name in self.made:
                if name in names:
                    chunk[name] = np.full(n, np.nan)
                    chunk[name][entry] = found[name]
            chunk[SELECTED] = np.zeros(n, dtype=np.bool_)
            chunk[SELECTED][entry] = True
            yield chunk


def _with_observables(file: EventFile, reader: Reader) -> WithObservables:
    """Return the file with its reader's columns."""
    from hepkan.physics import cms, nanoaod
    from hepkan.physics.event import OBJECT_COLUMNS
    from hepkan.physics.observables import OBSERVABLES
    from hepkan.physics.selection import Selection

    branches = {"cms_tutorial": cms.BRANCHES, "nanoaod": nanoaod.BRANCHES}[reader.kind]
    whole = {one.name: isinstance(one.default, int) for one in dataclasses.fields(Selection)}
    for name in reader.thresholds:
        if name not in whole and name != "btag_min":
            raise unknown("threshold", name, [*whole, "btag_min"])
    changes = {name: int(value) if whole[name] else value for name, value in reader.thresholds.items() if name in whole}
    cuts = Selection(**changes)  # type: ignore[arg-type]
    tag = {"btag_min": reader.thresholds["btag_min"]} if "btag_min" in reader.thresholds else {}
    missing = [name for name in branches if name not in file.columns]
    if missing:
        raise UsageError(
            f"The reader {reader.kind} needs the branches {', '.join(missing)}, however {file.place} lacks them. Write "
            "features as formulas of the file's own branches instead."
        )
    select: Callable[..., dict[str, Any]] = {
        "cms_tutorial": cms.select_cms_single_top,
        "nanoaod": nanoaod.select_nanoaod,
    }[reader.kind]

    def convert(raw: Mapping[str, Any]) -> dict[str, Any]:
        import awkward as ak

        found = select(ak.Array({name: raw[name] for name in branches}), cuts, **tag)
        found.pop("weight", None)
        return found

    extra = ("lep_iso", "lep_flavour", "n_jets")
    made = tuple(dict.fromkeys([*OBSERVABLES, *OBJECT_COLUMNS, *extra]))
    return WithObservables(file, branches, made, convert)
