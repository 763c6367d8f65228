"""Fill the tables of docs/from-network-to-formula.md, and that of README's formulae, from the result files.

python benchmarks/formula_page.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import likelihood_ratios
import multijet_formula
import numpy as np
import pruning
import symbolic_feynman
import symbolic_physics
import symbolic_toys
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
        "pruned": "\n\n".join([pruned["verdict"], pruning.networks_table(pruned)]),
        "kept_inputs": kept_inputs(pruned),
        "formulae": formula_table(formulae["seeds"]) + "\n\n" + multijet_formula.verdict(formulae["seeds"]),
        "formula": formula_text(formulae["seeds"]),
        "ratios": ratio_table(ratios),
    }


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
            str(len(one["inputs"])),
            f"{one['cpu_seconds'] / 60.0:.1f}",
            *(with_error(*one["judged"][name]["auc"]) for name in ("full", "network")),
            *(with_error(*one["judged"][name]["difference"]) for name in ("formula", "printed")),
        ]
        for one in seeds
    ]
    head = ["seed", "edges", "complexity", "splines", "inputs", "CPU min", "whole KAN", "small KAN"]
    return table([*head, "formula - whole KAN", "with four digits"], rows)


def formula_text(seeds: list[dict[str, Any]]) -> str:
    """Return the shortest formula without splines, a line for each of its terms."""
    best = min((one for one in seeds if one["splines"] == 0), key=lambda one: one["complexity"])
    depth, lines = 0, [""]
    for letter in best["formula"]:
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter in "+-" and lines[-1].endswith(" "):
            lines[-1] = lines[-1].rstrip()
            lines.append("    ")
        lines[-1] += letter
    text = "\n".join(lines)
    return f"```text\n{text}\n```"


def ratio_table(content: dict[str, Any]) -> str:
    """Return the error of a one-layer KAN against the number of events."""
    rows = [[str(one["events"]), *(f"{one[name][0]:.3f} ± {one[name][1]:.3f}" for name in ("kan", "histograms"))]
            for one in content["rows"]]  # fmt: skip
    return table(["events", "one-layer KAN", "histograms"], rows) + (
        f"\n\nRms error of log odds with a spread of {content['spread']:.2f}, falls like n^{content['slope']:.2f}. "
        f"Mean over {content['rows'][0]['seeds']} seeds."
    )


def found_again() -> str:
    """Return what is found again of what is known, and what formulae cost where nothing is known, for README."""
    toys, equations, physics = (read(one.RESULT)["rows"] for one in (symbolic_toys, symbolic_feynman, symbolic_physics))
    rows = [[f"`{case}`, trained KAN 2-5-1", *(toy(toys, case, name) for name in symbolic_toys.PACKAGES)]
            for case in symbolic_toys.CASES]  # fmt: skip
    for noise in sorted({one["noise"] for one in equations}):
        part = [one for one in equations if one["noise"] == noise]
        exact, good = sum(one["exact"] for one in part), sum(one["unexplained"] < 1e-3 for one in part)
        words = f"{len(part)} equations of AI Feynman, " + (f"{100 * noise:g} % noise" if noise else "no noise")
        rows.append([words, f"{exact} exact, R² above 0.999 for {good}", "not measured"])
    for one in physics:
        error = f"largest relative error {one['largest_relative_error']:.1e}"
        rows.append([one["case"], f"`{one['formula']}`, {error}", "–"])
    pruned, formulae = read(pruning.RESULT), read(multijet_formula.RESULT)["seeds"]
    for name, number in (("few", pruning.INPUTS), ("more", pruning.MORE)):
        lost = with_error(*pruned["difference"][name])
        rows.append([f"multijet, {number} of 43 inputs", f"AUC {lost} (five seeds)", "–"])
    costs = [one["judged"]["formula"]["difference"] for one in formulae]
    closed = sum(one["splines"] == 0 for one in formulae)
    words = f"AUC {with_error(*pruning.mean(costs))} (seeds done: {len(costs)}, closed: {closed})"
    rows.append(["multijet, a closed formula", words, "–"])
    return table(["what", "hepkan", "pykan 0.2.8"], rows)


def toy(rows: list[dict[str, Any]], case: str, package: str) -> str:
    """Return how often a package finds a known function again, and the median of its CPU seconds."""
    part = [one for one in rows if (one["case"], one["package"]) == (case, package)]
    found = sum(one["recovered"] for one in part)
    return f"{found} of {len(part)} seeds, {np.median([one['cpu_seconds'] for one in part]):.1f} s" if part else ""


if __name__ == "__main__":
    for name, text in parts().items():
        insert(text, name, PAGE)
    insert(found_again(), "formulae")
