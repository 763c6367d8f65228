"""Edits of the explorer applied to the KAN of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hepkan.errors import UsageError

if TYPE_CHECKING:
    from hepkan.interpret.edits import Edits
    from hepkan.interpret.formula import Formula
    from hepkan.nn import KAN
    from hepkan.studies.interpret_run import RunNetwork


def by_hand(folder: str | Path, run: RunNetwork, path: str | Path, sizes: Mapping[str, Any]) -> KAN:
    """Return the network of a page without the edges that were removed there.

    Raises:
        UsageError: the edits are of another network or put functions on edges, or sizes are wanted too.
        DataError: the file is damaged, or no path is left.
    """
    from hepkan.interpret.edits import without_removed

    wanted = [name for name, value in sizes.items() if value is not None]
    if wanted:
        raise UsageError(f"--edits say which edges go, however --{wanted[0]} is given too. Leave one out.")
    edits, model = edited_network(folder, run, path)
    if edits.replaced:
        raise UsageError(
            f"A pruned network has splines on its edges, however {path} puts functions on {len(edits.replaced)} of "
            f"them. Make a formula of it with: hepkan symbolic {folder} --edits {path}"
        )
    return without_removed(model, edits)


def formula_by_hand(folder: str | Path, run: RunNetwork, path: str | Path) -> tuple[Formula, KAN, Path]:
    """Return the network of a page with all edits as a formula, the network itself, and its file.

    Raises:
        UsageError: the edits are of another network, or it has a head.
        DataError: the file is damaged, or the network is constant.
    """
    from hepkan.interpret.edits import edited_formula

    edits, model = edited_network(folder, run, path)
    return edited_formula(model, edits, list(run.train.names)), model, Path(folder) / edits.network


def edited_network(folder: str | Path, run: RunNetwork, path: str | Path) -> tuple[Edits, KAN]:
    """Return edits and the network they were made on, found by its digest: the run's, or the pruned one.

    Raises:
        UsageError: it is neither.
        DataError: the file is damaged.
    """
    from hepkan.interpret.edits import read_edits
    from hepkan.model_io import load
    from hepkan.nn import KAN

    edits = read_edits(path)
    for file in (run.path, Path(folder) / "pruned" / "model.hepkan"):
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == edits.sha256:
            model = load(file)
            assert isinstance(model, KAN)
            return edits, model
    raise UsageError(
        f"Edits must be of this run's network, however {path} was saved from another one ({edits.network}). "
        f"Save them from the page of: hepkan explore {folder}"
    )
