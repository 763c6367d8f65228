"""The cards in examples/ on public data: every model, five seeds, errors.

    python benchmarks/own_data.py [NAME ...]

`atlas_higgsml` is run twice, with the weights of the challenge and without; the yardsticks are for the second. The
KAN's settings for `atlas_higgsml` and `higgs_lightgbm` won random searches of 42 and 9 trials, three seeds each, on
validation events (of ATLAS without weights). The other models, with settings near their defaults, were not searched,
and nothing was for the other data sets, which are too small for a claim.

Writes results/own_data.json and .md; every run is resumable (folders in runs/own_data/).
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

from summary import ROOT, result_table

from hepkan.files import write_text
from hepkan.studies.environment import cpu, versions
from hepkan.studies.options import load_card
from hepkan.studies.run import run

RESULTS = Path(__file__).parent / "results"
EXAMPLES = ROOT / "examples"
STUDIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "atlas_higgsml without weights": ("atlas_higgsml.yaml", ("weight=null",)),
    "higgs_lightgbm": ("higgs_lightgbm.yaml", ()),
    "atlas_higgsml": ("atlas_higgsml.yaml", ()),
    "cms_single_top": ("cms_single_top.yaml", ()),
    "fair_universe": ("fair_universe.yaml", ()),
    "nanoaod": ("nanoaod.yaml", ()),
}
YARDSTICKS = {
    "atlas_higgsml without weights": {"logistic": 0.815, "MLP 2x100": 0.872, "HistGradientBoosting": 0.889},
    "higgs_lightgbm": {"logistic": 0.693, "MLP 2x100": 0.742, "HistGradientBoosting": 0.835},
}
"""AUC of scikit-learn with its defaults; for ATLAS on another division of the same events (70 % to train on)."""


def study(name: str) -> dict[str, Any]:
    """Carry out one card and return its numbers."""
    card, overrides = STUDIES[name]
    folder = ROOT / "runs" / "own_data" / name.replace(" ", "_")
    result = run(load_card(str(EXAMPLES / card), overrides=overrides), output=folder, resume=True, progress=show)
    report = result.report
    kept = {key: report[key] for key in ("rows", "errors", "comparisons", "cross_evaluation", "luminosity_fb")}
    data = {key: report["data"][key] for key in ("n_train", "n_validation", "n_test", "yields", "sha256")}
    return {"card": card, "overrides": list(overrides), "data": data, **kept}


def show(step: Any) -> None:
    """Print a line when a training ends."""
    if step.state == "done" and step.member != "all":
        print(step.member, step.text, flush=True)


def page(studies: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    parts = ["# Cards on public data\n", " ".join((__doc__ or "").split("\n\n")[2].split()) + "\n"]
    for name, found in studies.items():
        data = found["data"]
        parts.append(f"## {name}\n\n{result_table(found)}\n")
        sizes = f"{data['n_train']} events train, {data['n_validation']} validate, {data['n_test']} test."
        auc = next(row for row in found["cross_evaluation"]["rows"] if row["metric"] == "auc")
        cross = f"All events, each scored by the KAN that never saw it: AUC {auc['value']:.4f} ± {auc['error']:.4f}."
        words = ", ".join(f"{model} {value}" for model, value in YARDSTICKS.get(name, {}).items())
        parts.append(f"{sizes} {cross}" + (f" Yardsticks of scikit-learn (AUC): {words}." if words else "") + "\n")
    return "\n".join(parts)


def main() -> None:
    """Run what was asked for and write the results of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *STUDIES], help="studies, all by default")
    names = parser.parse_args().names or list(STUDIES)
    path = RESULTS / "own_data.json"
    known = json.loads(path.read_text(encoding="utf-8"))["studies"] if path.is_file() else {}
    for name in names:
        known[name] = study(name)
        ordered = {one: known[one] for one in STUDIES if one in known}
        date = datetime.datetime.now(datetime.UTC).date().isoformat()
        content = {"date": date, "machine": cpu(), "versions": versions(), "studies": ordered}
        write_text(path, json.dumps(content, indent=1))
        write_text(RESULTS / "own_data.md", page(ordered))
        print(f"{name} is done", flush=True)


if __name__ == "__main__":
    main()
