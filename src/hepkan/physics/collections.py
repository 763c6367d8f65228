"""From jagged collections of leptons and jets to one lepton, a tagged jet and a light jet per event.

The prompt selection of `selection.py` on events that somebody else reconstructed: exactly one tight lepton and no
second one, jets away from it, exactly one b tag; the light jet is the untagged one of largest |eta|.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepkan.physics.selection import Selection

Columns = dict[str, NDArray[Any]]


def select_objects(leptons: Any, jets: Any, met: tuple[Any, Any], cuts: Selection) -> Columns:
    """Return the object columns of the events that pass, float64 and of shape (k,), k may be 0.

    Arguments:
        leptons: jagged records pt, eta, phi, charge, iso, flavour (11 or 13), `tight` (identification, isolation and
            thresholds of the lepton) and `veto` (those of a further one).
        jets: jagged records pt, eta, phi, mass, `good` (identification) and `tag`.
        met: missing transverse momentum and its azimuth, (n,) each.
        cuts: thresholds of jets.

    Returns:
        Columns as in `event.OBJECT_COLUMNS` in GeV and radians, with lep_iso, lep_flavour, n_jets (int32) and `id`, the
        number of the event among the n.
    """
    import awkward as ak

    others = leptons.veto & ~leptons.tight
    entry = np.flatnonzero(np.asarray((ak.sum(leptons.tight, axis=1) == 1) & ~ak.any(others, axis=1)))
    lepton = leptons[leptons.tight][entry][:, 0]
    jets = _away(jets[entry], lepton, cuts)
    tag = jets.tag & (abs(jets.eta) < cuts.tag_eta_max)
    keep = np.asarray((ak.num(jets) >= cuts.n_jets_min) & (ak.sum(tag, axis=1) == 1))
    entry, lepton, jets, tag = entry[keep], lepton[keep], jets[keep], tag[keep]
    untagged = jets[~tag]
    light = untagged[ak.argmax(abs(untagged.eta), axis=1, keepdims=True)][:, 0]
    found: dict[str, tuple[Any, tuple[str, ...]]] = {"lep": (lepton, ("pt", "eta", "phi", "charge", "iso"))}
    found |= {"bjet": (jets[tag][:, 0], ("pt", "eta", "phi", "mass")), "ljet": (light, ("pt", "eta", "phi", "mass"))}
    columns = {f"{kind}_{name}": _float(one[name]) for kind, (one, names) in found.items() for name in names}
    columns |= {"met_pt": _float(met[0])[entry], "met_phi": _float(met[1])[entry]}
    whole = {"lep_flavour": lepton.flavour, "n_jets": ak.num(jets)}
    return {**columns, **{name: np.asarray(one, dtype=np.int32) for name, one in whole.items()}, "id": entry}


def _away(jets: Any, lepton: Any, cuts: Selection) -> Any:
    """Selected jets (jagged) of events with one lepton."""
    dphi = abs((jets.phi - lepton.phi + np.pi) % (2 * np.pi) - np.pi)
    away = np.hypot(jets.eta - lepton.eta, dphi) > cuts.jet_lepton_dr_min
    return jets[jets.good & (jets.pt > cuts.jet_pt_min) & (abs(jets.eta) < cuts.jet_eta_max) & away]


def _float(values: Any) -> NDArray[np.float64]:
    """A flat column in double precision."""
    import awkward as ak

    return np.asarray(ak.to_numpy(ak.fill_none(values, np.nan)), dtype=np.float64)
