"""Showered events of single top with a mediator, and the momenta behind their missing momentum."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Literal

import numpy as np

from hepkan.errors import UsageError
from hepkan.physics.invisible import invisible_truth
from hepkan.physics.les_houches import lhaup, pythia_settings
from hepkan.physics.processes import ProcessCard, Slice
from hepkan.physics.showers import EVENTS_PER_BATCH, Batch, start, stream
from hepkan.physics.top_phi import TopPhi
from hepkan.physics.top_phi_amplitude import TopPhiParameters
from hepkan.physics.top_phi_events import MEDIATOR, TopPhiEvents

MASS_SETTING = f"{MEDIATOR}:m0"
MEDIATOR_SETTINGS = (f"{MEDIATOR}:mayDecay = off", f"{MEDIATOR}:isResonance = off")
_BATCHES = 40

LEPTON_PT_MIN = {11: 28.0, 13: 20.0, 15: 24.0}
"""Transverse momentum in GeV, by flavour, below which a hard event cannot have the lepton of the selection."""
LEPTON_ETA_MAX = 2.7
"""The same for |eta|. The shower hardly moves the lepton; of 11,262 selected events one lies outside these limits."""


def scalar_batches(card: ProcessCard, piece: Slice, seed: int) -> Iterator[Batch]:
    """Yield batches of single top with a scalar mediator; see `mediator_batches`."""
    return mediator_batches("scalar", card, piece, seed)


def pseudoscalar_batches(card: ProcessCard, piece: Slice, seed: int) -> Iterator[Batch]:
    """Yield batches of single top with a pseudoscalar mediator; see `mediator_batches`."""
    return mediator_batches("pseudoscalar", card, piece, seed)


def mediator_batches(
    mediator: Literal["scalar", "pseudoscalar"], card: ProcessCard, piece: Slice, seed: int
) -> Iterator[Batch]:
    """Yield batches of t-channel single top with a mediator: own hard events, Pythia's shower and hadrons.

    The mediator's mass is that of Pythia's setting `54:m0` in the slice. Truth columns are those of all batches and
    of `invisible_truth`, and `true_m_phi`, the mediator's mass. Events whose lepton is too soft or too far forward for
    the selection count as attempts and are not showered: 30 % of them for a mass of 10 GeV, 8 % for 1000 GeV.

    Raises:
        UsageError: the slice gives no mass.
    """
    mass = mediator_mass((*card.pythia, *piece.pythia))
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    generator = _generator(mediator, mass)
    settings = (*pythia_settings(), *MEDIATOR_SETTINGS, *card.pythia, *piece.pythia)
    first = 0
    while True:
        events = generator.generate(_BATCHES * EVENTS_PER_BATCH, rng)
        within = take(events, np.flatnonzero(lepton_within_reach(events)))
        batches = len(within) // EVENTS_PER_BATCH
        attempts = np.diff(np.rint(np.arange(batches + 1) * EVENTS_PER_BATCH * len(events) / len(within)).astype(int))
        source = lhaup(within)
        pythia = start(settings, int(rng.integers(1, 900_000_000)), source=source)
        for number, batch in zip(attempts.tolist(), stream(pythia, first, invisible_truth), strict=False):
            yield replace(batch, attempts=number, truth={**batch.truth, "true_m_phi": np.full(len(batch.parent), mass)})
        first += batches


def lepton_within_reach(events: TopPhiEvents) -> np.ndarray:
    """Return which hard events (n,) can pass the selection of a lepton."""
    pt = np.hypot(events.lepton[:, 0], events.lepton[:, 1])
    least = np.select([np.abs(events.id_lepton) == flavour for flavour in LEPTON_PT_MIN], list(LEPTON_PT_MIN.values()))
    within: np.ndarray = (pt > least) & (np.abs(events.lepton[:, 2]) < pt * np.sinh(LEPTON_ETA_MAX))
    return within


def take(events: TopPhiEvents, rows: np.ndarray) -> TopPhiEvents:
    """Return the events of some rows."""
    values = {field.name: getattr(events, field.name) for field in fields(events)}
    chosen = {name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)}
    return replace(events, **chosen)


def mediator_mass(settings: tuple[str, ...], setting: str = MASS_SETTING) -> float:
    """Return the mediator's mass (GeV) that Pythia settings give, the last one if there are several.

    Raises:
        UsageError: there is none.
    """
    masses = [line.split("=")[1] for line in settings if line.split("=")[0].strip() == setting]
    if not masses:
        raise UsageError(
            f"A slice of top + mediator needs the mass of the mediator, however its settings are {list(settings)}; "
            f"add '{setting} = 125.'."
        )
    return float(masses[-1])


@cache
def _generator(mediator: Literal["scalar", "pseudoscalar"], mass: float) -> TopPhi:
    return TopPhi(TopPhiParameters(mediator=mediator, m_phi=mass))
