"""Events with a single top and a mediator as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hepkan.physics.single_top_events import SingleTopEvents

MEDIATOR = 54
"""Number of a spin-0 mediator of dark matter in the scheme of the Particle Data Group (2024, section 45)."""


@dataclass(frozen=True, eq=False)
class TopPhiEvents(SingleTopEvents):
    """Unweighted events of single top with a mediator; as `SingleTopEvents`, and the mediator.

    Attributes:
        pdg_ids: (n, 9), the mediator last.
        mediator: four-vectors (n, 4) of the mediator, undecayed and at its mass.
    """

    mediator: np.ndarray
