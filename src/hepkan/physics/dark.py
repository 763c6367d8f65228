"""The invisible mediator of hard events from any generator, put together from whatever the file writes.

A file may keep the mediator stable, or let it decay to dark matter, with or without a line for it. Here all its
invisible descendants become one stable particle, `MEDIATOR`, of their summed momentum. They neither radiate nor leave a
signal, so shower and detector see no difference.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hepkan.errors import DataError
from hepkan.physics.lhe import HardEvents
from hepkan.physics.particles import offsets_from_counts
from hepkan.physics.showers import NEUTRINOS
from hepkan.physics.top_phi_events import MEDIATOR

MEDIATOR_IDS = (25, MEDIATOR, 55)
"""Mediators by default: a Higgs boson that plays one, and those of spin 0 and 1 in the PDG scheme."""

DARK_IDS = (18, 51, 52, 53, 1000022)
"""Dark matter of spin 0, 1/2 and 1 in the PDG scheme, and the numbers that models borrow for it."""

_UFO = (5_000_000, 6_000_000)  # numbers that FeynRules models give to what the PDG scheme lacks
_OTHER_MAKERS = (11, 13, 15, 23)


@dataclass(frozen=True, eq=False)
class Truth:
    """What hard events say of the neutrino.

    Attributes:
        neutrino: (n,), row of the only neutrino of an event that neither a charged lepton nor a Z has made; -1 where
            there is none or more than one.
        undecayed: (n,), whether a top quark or a W is left for the shower to decay.
    """

    neutrino: np.ndarray
    undecayed: np.ndarray


def merge_dark(events: HardEvents, ids: tuple[int, ...] = (), source: str = "the file") -> HardEvents:
    """Return the events with one stable `MEDIATOR` each, the last particle, in place of all that belongs to it.

    Its momentum is the sum of the outgoing particles that are a mediator or dark matter (`MEDIATOR_IDS`, `DARK_IDS`,
    5000000 to 5999999) and of the neutrinos into which a mediator decays.

    Arguments:
        events: the hard events.
        ids: PDG numbers of mediator and dark matter (without sign), instead of all of the above.
        source: name of the file, for errors.

    Raises:
        DataError: an event has nothing that is invisible and belongs to a mediator.
    """
    dark = _dark(events, ids)
    found = np.bincount(events.event[dark], minlength=len(events)) > 0
    if not found.all():
        known = ", ".join(map(str, ids or (*MEDIATOR_IDS, *DARK_IDS))) + ("" if ids else " and 5000000 to 5999999")
        final = np.unique(np.abs(events.pid[events.status == 1]))
        raise DataError(
            f"Every event needs an invisible mediator or its invisible daughters (PDG numbers {known}), however "
            f"{int((~found).sum())} of {len(events)} events of {source} have none; outgoing are "
            f"{', '.join(map(str, final))}. Name the number with --mediator-id, or use a task without a mediator."
        )
    return _collapse(events, dark)


def hard_truth(events: HardEvents) -> Truth:
    """Find the neutrino of the leptonic W in hard events; in events of `merge_dark` those of the mediator are gone."""
    rows = np.flatnonzero((events.status == 1) & np.isin(np.abs(events.pid), NEUTRINOS))
    maker = np.abs(events.pid[events.mother[rows]])
    rows = rows[~((events.mother[rows] >= 0) & np.isin(maker, _OTHER_MAKERS))]
    neutrino = np.full(len(events), -1)
    neutrino[events.event[rows]] = rows
    neutrino[np.bincount(events.event[rows], minlength=len(events)) != 1] = -1
    heavy = (events.status == 1) & np.isin(np.abs(events.pid), (6, 24))
    return Truth(neutrino, np.bincount(events.event[heavy], minlength=len(events)) > 0)


def _dark(events: HardEvents, ids: tuple[int, ...]) -> np.ndarray:
    """Whether each row is outgoing and belongs to the mediator."""
    size = np.abs(events.pid)
    mediator = np.isin(size, ids or MEDIATOR_IDS)
    ufo = np.zeros_like(mediator) if ids else (size >= _UFO[0]) & (size < _UFO[1])
    mediator |= ufo
    final = events.status == 1
    stable = mediator | (np.zeros_like(mediator) if ids else np.isin(size, DARK_IDS))
    inside = np.zeros(len(size), dtype=bool)
    above = events.mother.copy()
    while (above >= 0).any():
        inside |= (above >= 0) & mediator[above] & (events.status[above] == 2)
        above = np.where(above >= 0, events.mother[above], -1)
    daughters = inside & np.isin(size, (*NEUTRINOS, *DARK_IDS))
    return np.asarray(final & (stable | daughters))


def _collapse(events: HardEvents, dark: np.ndarray) -> HardEvents:
    """Put one particle in place of the rows of `dark` and of intermediate ones that decay to nothing else."""
    n, event, rows = len(events), events.event, np.arange(len(dark))
    finals, hidden = np.zeros(len(dark), dtype=np.int64), np.zeros(len(dark), dtype=np.int64)
    above = np.where(events.status == 1, rows, -1)
    while (above >= 0).any():
        some = above >= 0
        np.add.at(finals, above[some], 1)
        np.add.at(hidden, above[some & dark], 1)
        above = np.where(some, events.mother[above], -1)
    gone = (finals > 0) & (finals == hidden) & (events.status > 0)
    kept = np.flatnonzero(~gone)
    place = np.cumsum(~gone) - 1
    counts = np.bincount(event[kept], minlength=n)
    first = offsets_from_counts(counts)[:-1]
    parents = events.parents[kept]
    old = events.offsets[:-1][event[kept]][:, None] + parents - 1
    parents = np.where(parents > 0, place[np.clip(old, 0, len(dark) - 1)] - first[event[kept]][:, None] + 1, 0)
    added_parents = _origin(events, gone, place - first[event])
    p4 = np.stack([np.bincount(event[dark], events.p4[dark, i], minlength=n) for i in range(4)], axis=1)
    mass = np.sqrt(np.maximum(p4[:, 3] ** 2 - np.sum(p4[:, :3] ** 2, axis=1), 0.0))
    at = offsets_from_counts(counts)[1:]  # behind the last particle of each event

    def with_added(values: np.ndarray, added: np.ndarray) -> np.ndarray:
        return np.insert(values, at, added, axis=0)

    offsets = offsets_from_counts(counts + 1)
    joined = with_added(parents, added_parents)
    start = np.repeat(offsets[:-1], counts + 1)
    return replace(
        events,
        offsets=offsets,
        pid=with_added(events.pid[kept], np.full(n, MEDIATOR)),
        status=with_added(events.status[kept], np.ones(n, dtype=np.int64)),
        mother=np.where(joined[:, 0] > 0, start + joined[:, 0] - 1, -1),
        p4=with_added(events.p4[kept], p4),
        mass=with_added(events.mass[kept], mass),
        parents=joined,
        colours=with_added(events.colours[kept], np.zeros((n, 2), dtype=np.int64)),
        spin=with_added(events.spin[kept], np.full(n, 9.0)),
    )


def _origin(events: HardEvents, gone: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Mothers (n, 2) of the new particle: the intermediate particle that all of it comes from, else the beams."""
    mother = events.mother
    outer = np.flatnonzero(gone & ~((mother >= 0) & gone[np.maximum(mother, 0)]))
    above = mother[outer]
    decayed = (above >= 0) & (events.status[np.maximum(above, 0)] == 2)
    local = np.where(decayed, number[np.maximum(above, 0)] + 1, 0)
    event, n = events.event[outer], len(events)
    low, high = np.full(n, np.iinfo(np.int64).max), np.zeros(n, dtype=np.int64)
    np.minimum.at(low, event, local)
    np.maximum.at(high, event, local)
    same = (low == high) & (high > 0)
    return np.stack([np.where(same, high, 1), np.where(same, 0, 2)], axis=1)
