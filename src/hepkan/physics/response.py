"""Functions of pT, |eta| and energy that a parametric detector is made of, and the numbers of a CMS-like one.

Sources named beside the numbers:
    [D]    the public Delphes card of CMS, delphes/delphes `cards/delphes_card_CMS.tcl`
    [D3]   "DELPHES 3" (de Favereau et al., 2014), arXiv:1307.6346
    [CMS]  "The CMS experiment at the CERN LHC" (CMS, 2008), JINST 3 S08004
    [PF]   "Particle-flow reconstruction and global event description" (CMS, 2017), arXiv:1706.04965
    [TRK]  "Description and performance of track and primary-vertex reconstruction" (CMS, 2014), arXiv:1405.6569
    [EG]   "Performance of photon reconstruction and identification" (CMS, 2015), arXiv:1502.02701
    [ECAL] "Energy calibration and resolution of the CMS ECAL" (CMS, 2013), arXiv:1306.2016
    [BTV]  "Identification of heavy-flavour jets" (CMS, 2018), arXiv:1712.07158
    [MET]  "Performance of missing transverse momentum reconstruction" (CMS, 2019), arXiv:1903.06078
    [JER]  "Jet energy scale and resolution in the CMS experiment at 8 TeV" (CMS, 2017), arXiv:1607.03663
    [AK]   "The anti-kt jet clustering algorithm" (Cacciari, Salam, Soyez, 2008), arXiv:0802.1189
    [PDG]  "Review of Particle Physics" (Particle Data Group, 2024)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Binned:
    """A number per bin of |eta| and pT; 0 at and below the first pT edge and beyond the last |eta| edge.

    Attributes:
        eta: upper |eta| edges (included in their bin).
        pt: lower pT edges in GeV (excluded from their bin).
        values: one row per |eta| bin, one number per pT bin.
    """

    eta: tuple[float, ...]
    pt: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __call__(self, pt: Floats, eta: Floats) -> Floats:
        """Return the value at pT in GeV and eta, shapes (m,) -> (m,)."""
        table = np.zeros((len(self.eta) + 1, len(self.pt) + 1))
        table[:-1, 1:] = self.values
        rows = np.searchsorted(np.asarray(self.eta), np.abs(eta), side="left")
        return np.asarray(table[rows, np.searchsorted(np.asarray(self.pt), pt, side="left")])


@dataclass(frozen=True)
class TrackResolution:
    """Relative resolution of a track's pT: `a (+) b pT`, added in quadrature, with (a, b) per |eta| bin.

    Attributes:
        eta: upper |eta| edges; infinite resolution beyond the last.
        terms: (a, b in 1/GeV) per bin.
    """

    eta: tuple[float, ...]
    terms: tuple[tuple[float, float], ...]

    def __call__(self, pt: Floats, eta: Floats) -> Floats:
        """Return sigma(pT)/pT at pT in GeV and eta, shapes (m,) -> (m,)."""
        table = np.array([*self.terms, (np.inf, 0.0)])
        a, b = table[np.searchsorted(np.asarray(self.eta), np.abs(eta), side="left")].T
        return np.asarray(np.hypot(a, b * pt))


@dataclass(frozen=True)
class CalorimeterResolution:
    """Relative energy resolution `shape(eta) (constant (+) stochastic/sqrt(E) (+) noise/E)`, quadrature sum.

    Attributes:
        eta: upper |eta| edges; infinite resolution beyond the last.
        terms: (constant, stochastic in sqrt(GeV), noise in GeV) per bin.
        shape: (s0, s2, centre) per bin for `shape(eta) = s0 + s2 (|eta| - centre)^2`.
    """

    eta: tuple[float, ...]
    terms: tuple[tuple[float, float, float], ...]
    shape: tuple[tuple[float, float, float], ...]

    def __call__(self, energy: Floats, eta: Floats) -> Floats:
        """Return sigma(E)/E at energy in GeV and eta, shapes (m,) -> (m,)."""
        size = np.abs(eta)
        rows = np.searchsorted(np.asarray(self.eta), size, side="left")
        constant, stochastic, noise = np.array([*self.terms, (np.inf, 0.0, 0.0)])[rows].T
        s0, s2, centre = np.array([*self.shape, (1.0, 0.0, 0.0)])[rows].T
        relative = np.sqrt(constant**2 + stochastic**2 / energy + (noise / energy) ** 2)
        return np.asarray((s0 + s2 * (size - centre) ** 2) * relative)


@dataclass(frozen=True)
class DetectorParameters:
    """A CMS-like detector at 13 TeV. Units GeV and radians; the letters name the sources in this module's text.

    What is left out: pile-up (its effect on the missing momentum is `met_noise`), magnetic bending, showers that
    overlap, fakes other than a jet's own content.
    """

    # Tracking efficiency above pT 0.1, 1 (and 100) GeV, |eta| < 1.5 and < 2.5: [D] after [TRK].
    hadron_tracking: Binned = Binned((1.5, 2.5), (0.1, 1.0), ((0.70, 0.95), (0.60, 0.85)))
    electron_tracking: Binned = Binned((1.5, 2.5), (0.1, 1.0, 100.0), ((0.73, 0.95, 0.99), (0.50, 0.83, 0.90)))
    muon_tracking: Binned = Binned((1.5, 2.5), (0.1, 1.0), ((0.75, 0.99), (0.70, 0.98)))
    # Momentum resolution of tracks, |eta| < 0.5, 1.5, 2.5: [D] after [TRK].
    hadron_track: TrackResolution = TrackResolution((0.5, 1.5, 2.5), ((0.01, 1.5e-4), (0.015, 2.5e-4), (0.025, 5.5e-4)))
    electron_track: TrackResolution = TrackResolution((0.5, 1.5, 2.5), ((0.03, 1.3e-3), (0.05, 1.7e-3), (0.15, 3.1e-3)))
    muon_track: TrackResolution = TrackResolution((0.5, 1.5, 2.5), ((0.01, 1.0e-4), (0.015, 1.5e-4), (0.025, 3.5e-4)))
    # Electromagnetic energy, barrel, endcap and forward: [D]; shape in eta from [ECAL], in energy from [EG].
    ecal: CalorimeterResolution = CalorimeterResolution(
        (1.5, 2.5, 5.0),
        ((0.008, 0.11, 0.40), (0.008, 0.11, 0.40), (0.107, 2.08, 0.0)),
        ((1.0, 0.64, 0.0), (2.16, 5.6, 2.0), (1.0, 0.0, 0.0)),
    )
    # Hadronic energy, central (HCAL) and forward (HF): [D].
    hcal: CalorimeterResolution = CalorimeterResolution(
        (3.0, 5.0), ((0.050, 1.50, 0.0), (0.130, 2.70, 0.0)), ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
    )
    ecal_energy_min: float = 0.5  # GeV, [D] EnergyMin of the ECAL
    hcal_energy_min: float = 1.0  # GeV, [D] EnergyMin of the HCAL
    # Width of a cell, over which a position is uniform, up to |eta|: [D] after [CMS] (crystals, towers, HF).
    ecal_cell: Binned = Binned((3.0, 5.0), (0.0,), ((0.0174,), (0.175,)))
    hcal_cell: Binned = Binned((1.74, 5.0), (0.0,), ((0.087,), (0.175,)))
    # A charged hadron without a track reaches the calorimeter above 0.15 B R, with B = 3.8 T, R = 1.29 m: [D].
    calorimeter_pt_min: float = 0.735  # GeV
    eta_max: float = 5.0  # the forward calorimeter's edge, [CMS] and [D]
    pion_mass: float = 0.13957  # GeV, [PDG]; given to all charged hadrons as in [PF]
    # Identification of a tracked lepton above pT 10 GeV: [D] ElectronEfficiency, MuonEfficiency.
    electron_identification: Binned = Binned((1.5, 2.5), (10.0,), ((0.95,), (0.85,)))
    muon_identification: Binned = Binned((2.4,), (10.0,), ((0.95,),))
    lepton_pt_min: float = 10.0  # GeV, [D], where the efficiencies above begin
    muon_mass: float = 0.10566  # GeV, [PDG]
    isolation_radius: float = 0.4  # cone of the muon isolation in CMS-TOP-17-023, arXiv:1907.08330
    isolation_pt_min: float = 0.5  # GeV, [D] PTMin of the isolation modules
    jet_radius: float = 0.4  # anti-kT, [AK]; 0.4 is the CMS choice at 13 TeV, [PF]
    jet_pt_min: float = 20.0  # GeV, [D] JetPTMin
    # Resolution lost by overlapping particles and pile-up: (constant, stochastic, noise). Solved for the 15-20 % at
    # 30 GeV, 10 % at 100 GeV and 5 % at 1 TeV of central jets in [JER] after taking out, in quadrature, the
    # 0.37/sqrt(pT) that the response above gives in simulated top pairs (validation/detector_response.py).
    jet_confusion: CalorimeterResolution = CalorimeterResolution((3.0,), ((0.041, 0.82, 1.24),), ((1.0, 0.0, 0.0),))
    heavy_radius: float = 0.4  # a heavy hadron belongs to the nearest jet within the jet's radius
    heavy_pt_min: float = 5.0  # GeV, as in Rivet's tagging functions (Buckley et al., 2019), arXiv:1910.01637
    tag_eta_max: float = 2.4  # [BTV], the tracker's acceptance for b tagging
    tag_b: float = 0.68  # [BTV] DeepCSV medium, jets of ttbar events with pT > 20 GeV
    tag_c: float = 0.12  # [BTV], the same
    tag_light: float = 0.011  # [BTV], the same
    # GeV per component: what pile-up adds, an assumption. It is the resolution -1.5 + 0.68 sqrt(sum ET) of Table 3 in
    # [MET] (its preliminary version CMS-PAS-JME-17-001, read through Rivet) for sum ET = 400 GeV. The hard event adds
    # its own part: 16 to 22 GeV in all for top pairs.
    met_noise: float = 12.0
    # Ids without a signal: neutrinos, the lightest neutralino, a scalar or dark mediator (25 in Pythia, 54), 18.
    invisible: tuple[int, ...] = (12, 14, 16, 18, 25, 54, 1000022)
