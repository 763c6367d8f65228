"""Fill the tables of docs/from-network-to-formula.md from the result files.

python benchmarks/formula_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import likelihood_ratios
import multijet_formula
import pruning
from summary import ROOT, insert, table

from hepkan.report.words import with_error

PAGE = ROOT / "docs" / "from-network-to-formula.md"


def read(path: Path) -> dict[str, Any]:
    """Return a result file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def parts() -> dict[str, str]:
    """Return the marked parts of the page."""
    pruned, formulae, ratios = (read(one.RESULT) for one in (pruning, multijet_formula, likelihood_ratios))
    return {
        "pruned": pruned["verdict"] + "\n\n" + cost_of_inputs(pruned),
        "kept_inputs": kept_inputs(pruned),
        "formulae": formula_table(formulae["seeds"]) + "\n\n" + multijet_formula.verdict(formulae["seeds"]),
        "formula": formula_text(formulae["seeds"]),
        "ratios": ratio_table(ratios),
    }


def cost_of_inputs(content: dict[str, Any]) -> str:
    """Return what the networks of `pruning.py` reach on test events."""
    words = {
        "full": "all inputs",
        "backward only": "backward elimination",
        "few inputs": "after exchanges, trained again",
    }
    rows = []
    for name, text in words.items():
        found = [seed["networks"][name] for seed in content["seeds"]]
        auc, lost = (with_error(*pruning.mean([one[key] for one in found])) for key in ("auc", "difference"))
        inputs = pruning.spread([len(one["inputs"]) for one in found])
        rows.append(
            [text, inputs, pruning.spread([one["edges"] for one in found]), auc, "" if name == "full" else lost]
        )
    return table(["network", "inputs", "edges", "test AUC", "difference"], rows)


def kept_inputs(content: dict[str, Any]) -> str:
    """Return how many seeds keep an input."""
    return table(["input", "seeds"], [[f"`{name}`", str(times)] for name, times in content["kept"].items()])


def formula_table(seeds: list[dict[str, Any]]) -> str:
    """Return what the formulae cost."""
    rows = [
        [
            str(one["seed"]),
            str(one["edges"]),
            str(one["complexity"]),
            str(one["splines"]),
            *(with_error(*one["judged"][name]["auc"]) for name in ("full", "network", "formula")),
            with_error(*one["judged"]["formula"]["difference"]),
        ]
        for one in seeds
    ]
    head = ["seed", "edges", "complexity", "splines", "whole KAN", "small KAN", "formula", "formula - whole KAN"]
    return table(head, rows)


def formula_text(seeds: list[dict[str, Any]]) -> str:
    """Return the formula that loses least."""
    best = max(seeds, key=lambda one: one["judged"]["formula"]["difference"][0])
    terms = best["formula"].replace(" + ", "\n    + ").replace(" - ", "\n    - ")
    return f"```text\n{terms}\n```"


def ratio_table(content: dict[str, Any]) -> str:
    """Return the error of a one-layer KAN against the number of events."""
    rows = [[str(one["events"]), *(f"{one[name][0]:.3f} ± {one[name][1]:.3f}" for name in ("kan", "histograms"))]
            for one in content["rows"]]  # fmt: skip
    return table(["events", "one-layer KAN", "histograms"], rows) + (
        f"\n\nRms error of log odds with a spread of {content['spread']:.2f}, falls like n^{content['slope']:.2f}. "
        f"Mean over {content['rows'][0]['seeds']} seeds."
    )


if __name__ == "__main__":
    for name, text in parts().items():
        insert(text, name, PAGE)
