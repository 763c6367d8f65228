"""Samples from the user's own hard events: LHE files of any generator, showered or at parton level.

The files are read once into blocks of arrays beside the output, each of which is then a chunk with a seed of its own:
as in `generate`, the result does not depend on the number of workers, and a killed run picks up where it was.

All files together are one sample of one process. Weights keep their signs and ratios; they add up to the cross-section
in the `init` blocks, or, where a file has none, to the mean weight, as the Les Houches accord (hep-ph/0109068) has it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

import hepkan
from hepkan.errors import DataError, UsageError
from hepkan.files import atomic_file, write_text
from hepkan.physics.dark import hard_truth, merge_dark
from hepkan.physics.lhe import HardEvents, LheInit, lhe_blocks, read_lhe_init
from hepkan.physics.partons import DETECTOR
from hepkan.physics.processes import CrossSection, ProcessCard
from hepkan.physics.recipes import get_recipe

EVENTS_PER_BLOCK = 2000
_SUMMARY = "hard.json"
_WEIGHTS_IN_PB = (1, 4)  # strategies (IDWTUP)


@dataclass(frozen=True, kw_only=True)
class UserEvents:
    """What to make of LHE files.

    Attributes:
        task: whose selection and columns the sample has.
        files: one or more, of one process; compressed (.gz) or not.
        process: its name in the sample; the name of the first file by default.
        label: 1 prompt, 0 multijet. In the task `multijet`, 0 takes leptons from the anti-isolated sideband.
        parton_level: no shower; the partons play the reconstructed objects (`partons`).
        smear: at parton level, send them through the detector.
        mediator_ids: PDG numbers of mediator and dark matter, instead of those of `dark`.
        cross_section_pb: instead of the files'.
        events: hard events to use, the first ones; all for None.
    """

    task: str
    files: tuple[Path, ...]
    process: str = ""
    label: int = 1
    parton_level: bool = False
    smear: bool = False
    mediator_ids: tuple[int, ...] = ()
    cross_section_pb: float | None = None
    events: int | None = None

    def __post_init__(self) -> None:
        get_recipe(self.task)
        if not self.files:
            raise UsageError("At least one LHE file must be given, however there is none; use --lhe FILE.")
        if self.label not in (0, 1):
            raise UsageError(f"The label must be 0 (multijet) or 1 (prompt), however: {self.label}.")
        if self.smear and not self.parton_level:
            raise UsageError(
                "Smearing must go with the parton level, however events are to be showered, and their detector always "
                "smears; add --parton-level or leave out --smear."
            )
        if self.cross_section_pb is not None and not 0.0 < self.cross_section_pb < math.inf:
            raise UsageError(f"The cross-section must be positive, however: {self.cross_section_pb} pb.")
        if self.events is not None and self.events < 1:
            raise UsageError(f"At least one hard event must be used, however: {self.events}.")

    @property
    def name(self) -> str:
        """Name of the process in the sample."""
        return self.process or self.files[0].name.removesuffix(".gz").removesuffix(".lhe")

    @property
    def card(self) -> ProcessCard:
        """A process card for these events."""
        return ProcessCard(
            name=self.name,
            title=f"user's events, {', '.join(path.name for path in self.files)}",
            label=self.label,
            generator="lhe",
            region="isolated" if self.label == 1 else "sideband",
            share=1.0,
            cross_section=CrossSection(
                value_pb=self.cross_section_pb, order="as in the files", reference="the user's LHE files"
            ),
        )

    def recipe(self, seed: int) -> dict[str, Any]:
        """Return everything the content of the sample depends on, with its SHA-256 as `recipe_hash`.

        Raises:
            DataError: a file is missing.
        """
        options = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("task", "files")}
        content: dict[str, Any] = {
            "task": self.task,
            "seed": seed,
            "version": hepkan.__version__,
            "lhe": {**options, "process": self.name, "files": [[path.name, _digest(path)] for path in self.files]},
            "cards": {self.name: self.card.model_dump(mode="json")},
            "selection": dataclasses.asdict(get_recipe(self.task).selection),
            "detector": dataclasses.asdict(DETECTOR),
        }
        canonical = json.dumps(content, sort_keys=True, default=str)
        return {**json.loads(canonical), "recipe_hash": hashlib.sha256(canonical.encode()).hexdigest()}


@dataclass(frozen=True)
class HardBlock:
    """A block of hard events with what turns their weights to pb.

    Attributes:
        events: with their dark particles merged where the task has a mediator.
        factor: (n,), weights relative to the mean weight of all events.
        sigma_pb: cross-section of all files.
        init: beams of the first file.
    """

    events: HardEvents
    factor: np.ndarray
    sigma_pb: float
    init: LheInit


def prepare(user: UserEvents, folder: Path) -> list[int]:
    """Read the files into blocks in `folder`, unless that is done; return the number of events of each block.

    Raises:
        MissingExtra: pylhe is not installed.
        DataError: a file is missing, truncated, damaged or empty; its cross-section is zero; an event lacks a mediator,
            or none has a leptonic W, in a task that needs them.
    """
    summary = folder / _SUMMARY
    if not summary.exists():
        files: list[dict[str, Any]] = []
        counts: list[int] = []
        usable = 0
        left = user.events
        for path in user.files:
            weights: list[np.ndarray] = []
            for events in _limited(lhe_blocks(path, EVENTS_PER_BLOCK), left):
                if get_recipe(user.task).mediator:
                    events = merge_dark(events, user.mediator_ids, path.name)
                    truth = hard_truth(events)
                    usable += int(np.sum((truth.neutrino >= 0) | (truth.undecayed & (not user.parton_level))))
                _save(folder, len(counts), events, len(files))
                counts.append(len(events))
                weights.append(events.weight)
            init = read_lhe_init(path)
            if weights:
                left = None if left is None else left - sum(map(len, weights))
                files.append(_file_summary(path, init, np.concatenate(weights), user.cross_section_pb))
            if left == 0:
                break
        if len({(one["beams"], one["energies"]) for one in files}) > 1:
            raise DataError(
                "The files of one sample must have the same beams, however: "
                + "; ".join(f"{one['file']} {one['beams']} at {one['energies']} GeV" for one in files)
                + ". Make a sample of each."
            )
        if get_recipe(user.task).mediator and not usable:
            raise _no_top_lepton(user)
        write_text(summary, json.dumps({"files": files, "counts": counts}, sort_keys=True))
    return [int(count) for count in json.loads(summary.read_text(encoding="utf-8"))["counts"]]


def load_block(folder: Path, number: int) -> HardBlock:
    """Return a block that `prepare` has written."""
    summary = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    with np.load(_block_path(folder, number), allow_pickle=False) as content:
        events = HardEvents(**{field.name: content[field.name] for field in fields(HardEvents)})
        file = summary["files"][int(content["source"])]
    sigma_pb = total_pb(summary["files"])
    factor = events.weight / file["mean_weight"] * (file["sigma_pb"] / sigma_pb)
    init = LheInit(tuple(file["beams"]), tuple(file["energies"]), file["strategy"], file["sigma_pb"], 0.0)
    return HardBlock(events, factor, sigma_pb, init)


def file_summaries(folder: Path) -> list[dict[str, Any]]:
    """Return what `prepare` has found in each file: events, sigma_pb, init_pb, mean_weight, negative, beams, ..."""
    content: list[dict[str, Any]] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))["files"]
    return content


def total_pb(files: Sequence[Mapping[str, Any]]) -> float:
    """Return the cross-section of files that are parts of one sample: their mean, weighted with their events."""
    return float(np.average([one["sigma_pb"] for one in files], weights=[one["events"] for one in files]))


def _file_summary(path: Path, init: LheInit, weight: np.ndarray, given_pb: float | None) -> dict[str, Any]:
    """Cross-section and weights of one file."""
    mean = float(weight.mean())
    # XSECUP counts where it is given; generators that leave it out (POWHEG writes -1) have weights in pb, unless the
    # strategy says that events are unweighted.
    sigma = given_pb or init.sigma_pb
    if not sigma > 0.0 and abs(init.strategy) in _WEIGHTS_IN_PB and init.sigma_pb != 0.0:
        sigma = mean
    if not (0.0 < mean < math.inf and 0.0 < sigma < math.inf):
        raise DataError(
            f"An LHE file must have a positive cross-section and sum of weights, however {path} has "
            f"{init.sigma_pb:g} pb in its init block and a mean weight of {mean:g}; check the file, or give "
            "--cross-section."
        )
    return {
        "file": path.name, "events": len(weight), "sigma_pb": sigma, "init_pb": init.sigma_pb, "mean_weight": mean,
        "negative": float(np.mean(weight < 0)), "beams": init.beams, "energies": init.energies,
        "strategy": init.strategy,
    }  # fmt: skip


def _limited(blocks: Iterator[HardEvents], left: int | None) -> Iterator[HardEvents]:
    """The first `left` events of blocks, all for None."""
    for events in blocks:
        if left is None or len(events) <= left:
            yield events
            left = None if left is None else left - len(events)
        else:
            yield first_events(events, left)
            left = 0
        if left == 0:
            return


def first_events(events: HardEvents, n: int) -> HardEvents:
    """Return the first `n` hard events."""
    rows = int(events.offsets[n])
    own = {"offsets": n + 1, "weight": n, "scale": n, "alpha_s": n}
    names = [field.name for field in fields(HardEvents)]
    return HardEvents(**{name: getattr(events, name)[: own.get(name, rows)] for name in names})


def _no_top_lepton(user: UserEvents) -> DataError:
    """The error for files without a leptonic W."""
    remedy = "leave out --parton-level, and Pythia decays undecayed tops" if user.parton_level else "check the process"
    return DataError(
        f"The events must have a top quark with exactly one W -> l nu, however none in "
        f"{', '.join(path.name for path in user.files)} has one neutrino of its own besides those of the mediator; "
        f"{remedy}."
    )


def _save(folder: Path, number: int, events: HardEvents, file: int) -> None:
    """Write one block."""
    arrays = {field.name: getattr(events, field.name) for field in fields(HardEvents)}
    with atomic_file(_block_path(folder, number)) as temporary, temporary.open("wb") as stream:
        np.savez(stream, source=np.array(file), **arrays)


def _block_path(folder: Path, number: int) -> Path:
    return folder / f"hard-{number:05d}.npz"


def _digest(path: Path) -> str:
    """SHA-256 of a file."""
    if not path.is_file():
        raise DataError(f"An LHE file is needed, however {path} does not exist or is no file. Check the path.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
