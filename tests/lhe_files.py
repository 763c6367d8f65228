"""LHE text for tests: single top + mediator of our own generator, written as several generators would."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hepkan.physics.les_houches import _rows
from hepkan.physics.top_decay import two_body_decay
from hepkan.physics.top_phi import TopPhi
from hepkan.physics.top_phi_events import MEDIATOR, TopPhiEvents
from test_single_top import toy_densities

Particle = tuple[Any, ...]
Change = Callable[[list[Particle]], list[Particle]]


@cache
def events(n: int = 300) -> TopPhiEvents:
    """Return t phi events with a mediator of 125 GeV; toy densities, so that nothing else is needed."""
    return TopPhi(pdf=toy_densities()).generate(n, np.random.default_rng(11))


def write(
    path: Path,
    source: TopPhiEvents | None = None,
    *,
    change: Change | None = None,
    weights: Sequence[float] | None = None,
    sigma_pb: float = 2.0,
    strategy: int = -4,
) -> Path:
    """Write events to `path` (packed if it ends in .gz), each with its particles changed by `change`."""
    source = source or events()
    lines = ['<LesHouchesEvents version="3.0">', "<init>", f"2212 2212 6500. 6500. 0 0 247000 247000 {strategy} 1"]
    lines += [f"{sigma_pb:.8e} 0. {sigma_pb:.8e} 1", "</init>"]
    for i, (scale, particles, _) in enumerate(_rows(source)):
        changed = change(particles) if change else particles
        weight = sigma_pb if weights is None else weights[i]
        lines += ["<event>", f"{len(changed)} 1 {weight:.8e} {scale:.8e} 7.8e-3 1.18e-1"]
        for one in changed:
            numbers = " ".join(f"{value:.12e}" for value in one[6:])
            lines.append(" ".join(map(str, one[:6])) + " " + numbers)
        lines.append("</event>")
    text = "\n".join([*lines, "</LesHouchesEvents>", ""]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def renamed(number: int) -> Change:
    """Give the mediator another number."""
    return lambda particles: [(number, *one[1:]) if one[0] == MEDIATOR else one for one in particles]


def decayed(daughter: int = 52, mass: float = 10.0, line: bool = True, mediator: int = MEDIATOR) -> Change:
    """Let the mediator decay to a pair of `daughter`, with a line for it or without one."""

    def change(particles: list[Particle]) -> list[Particle]:
        *others, one = particles
        p4 = np.array([one[6:10]])
        angles = np.random.default_rng(int(abs(p4[0, 2]) * 1e6))
        axis = np.array([[0.0, 0.0, 1.0, 1.0]])
        pair = two_body_decay(p4, axis, angles.uniform(-1, 1, 1), angles.uniform(0, 6, 1), np.full(1, mass), mass)
        mothers = (len(particles), 0) if line else (1, 2)
        chis = [
            (sign * daughter, 1, *mothers, 0, 0, *q[0].tolist(), mass, 0.0, 9.0)
            for sign, q in zip((1, -1), pair, strict=True)
        ]
        return [*others, *([(mediator, 2, *one[2:])] if line else []), *chis]

    return change
