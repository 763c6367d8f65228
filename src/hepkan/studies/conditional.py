"""How far the conditional distributions of probabilistic models can be trusted, for the record of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hepkan.metrics.conditional import LEVELS, evaluate_conditional
from hepkan.studies.card import Card
from hepkan.studies.evidence import finite
from hepkan.studies.members import Member, thin

if TYPE_CHECKING:
    from hepkan.data import Table

EVENTS, SAMPLES = 5_000, 200
"""Test events, and draws for each of them."""


def conditional(card: Card, members: Sequence[Member], test: Table) -> dict[str, Any]:
    """Return coverage and CRPS of the first seed of every kind that can sample; nothing for a classification.

    `coverage` is the mean over targets at each of `levels`, `targets` has that of each target, `crps` is in the unit of
    the target. Errors are from a bootstrap.
    """
    found: dict[str, Any] = {}
    if test.classification:
        return found
    from hepkan.baselines import load_model
    from hepkan.flow import Flow

    events = thin(test, EVENTS)
    for member in members:
        if member.seed or not (member.folder / "model.flow").is_file():
            continue
        predictor = load_model(member.folder).predictor
        assert isinstance(predictor, Flow)
        samples = predictor.sample(events.X, SAMPLES, seed=member.seed)
        measures = evaluate_conditional(
            events.y, samples, np.abs(events.weight), events.group, n_boot=card.bootstrap, seed=card.split.seed
        )
        names = [f"coverage_{100 * level:g}" for level in LEVELS]
        each = [measures[name] for name in names]
        found[member.label] = {
            "events": len(events),
            "levels": list(LEVELS),
            "coverage": [finite(values.mean()) for values, _ in each],
            "error": [finite(errors.max()) for _, errors in each],
            "targets": {
                target: {
                    "coverage": [finite(values[t]) for values, _ in each],
                    "error": [finite(errors[t]) for _, errors in each],
                    "crps": [finite(measures["crps"][0][t]), finite(measures["crps"][1][t])],
                }
                for t, target in enumerate(test.target_names)
            },
        }
    return found
