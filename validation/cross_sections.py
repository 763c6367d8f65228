"""Generator cross-sections beside published ones: where the K-factors of the process cards come from.

    python validation/cross_sections.py [--events 60000]

Writes results/cross_sections.json. Inclusive leading-order rates of Pythia 8 at 13 TeV without shower, in pb.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from hepkan.physics.showers import start
from hepkan.physics.single_top import SingleTop

PUBLISHED = {
    "W -> l nu": (61526.7, "NNLO, FEWZ 3.1, arXiv:1208.5967"),
    "ttbar": (831.76, "NNLO+NNLL, Top++ 2.0, arXiv:1112.5675"),
    "t-channel single top": (216.99, "NLO, HATHOR 2.1, arXiv:1406.4403"),
}
SETTINGS = {
    "W -> l nu": ("WeakSingleBoson:ffbar2W = on", "24:onMode = off", "24:onIfAny = 11 13 15"),
    "ttbar": ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "6:m0 = 172.5"),
}


def leading_order(name: str, events: int) -> tuple[float, float]:
    """Return the cross-section and its statistical error in pb."""
    if name not in SETTINGS:
        generator = SingleTop()
        return generator.sigma_pb, generator.sigma_error_pb
    pythia = start((*SETTINGS[name], "PartonLevel:all = off", "HadronLevel:all = off"), seed=5)
    for _ in range(events):
        pythia.next()
    info = pythia.infoPython()
    return info.sigmaGen() * 1e9, info.sigmaErr() * 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=60_000)
    events = parser.parse_args().events
    rows = []
    for name, (published, reference) in PUBLISHED.items():
        sigma, error = leading_order(name, events)
        rows.append(
            {
                "process": name,
                "published_pb": published,
                "reference": reference,
                "leading_order_pb": round(sigma, 3),
                "error_pb": round(error, 3),
                "ratio": round(published / sigma, 4),
            }
        )
        print(rows[-1])
    path = Path(__file__).parent / "results" / "cross_sections.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
