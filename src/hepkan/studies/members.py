"""Members: one model kind trained with one seed, kept as a folder.

A finished member carries the hash of everything that decides its content and is reused when that hash is asked for
again, which makes a killed study resumable. The test part is the same for all members; the seed chooses the
initialisation and the partition of the rest into training and validation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hepkan.files import atomic_folder
from hepkan.studies.card import Card

if TYPE_CHECKING:
    from hepkan.baselines import TrainedModel
    from hepkan.data import Table

TRAIN_SCORES = 50_000
"""Training events whose scores are kept, for the comparison of training and test."""


@dataclass(frozen=True)
class Data:
    """What a member reads: the card, the sample file and its SHA-256. Small, so that processes can receive it."""

    card: str
    path: Path
    sha256: str
    task: str


@dataclass(frozen=True)
class Member:
    """One training to do or already done."""

    label: str
    kind: str
    seed: int
    settings: str
    folder: Path
    digest: str

    @property
    def name(self) -> str:
        """Return `<label>-seed<k>`."""
        return f"{self.label}-seed{self.seed}"

    @property
    def complete(self) -> bool:
        """Return whether the folder holds this very member, finished."""
        if not (self.folder / "DONE").is_file():
            return False
        try:
            return bool(self.record["digest"] == self.digest)
        except (OSError, ValueError, KeyError):
            return False

    @property
    def record(self) -> dict[str, Any]:
        """Return the content of `member.json`."""
        content: dict[str, Any] = json.loads((self.folder / "member.json").read_text(encoding="utf-8"))
        return content

    def scores(self, part: str) -> pa.Table:
        """Return the scores of the part `test` or `train`: columns id, score."""
        table = pq.read_table(self.folder / "scores.parquet", filters=[("part", "=", part)])
        return table.drop_columns(["part"])


@dataclass(frozen=True)
class Step:
    """Progress of one member: `done` of `total` epochs; `state` is running, done or reused."""

    member: str
    done: int
    total: int
    state: str = "running"
    text: str = ""


def make_member(
    data: Data, card: Card, label: str, kind: str, seed: int, settings: dict[str, Any], root: Path
) -> Member:
    """Return a member with its folder below `root/members` and the hash of all that decides its content."""
    text = json.dumps(settings, sort_keys=True)
    decides = {
        "kind": kind,
        "seed": seed,
        "settings": settings,
        "sample": data.sha256,
        "features": card.feature_names,
        "negative_weights": card.negative_weights,
        "mix": card.mix,
        "rows": card.rows,
        "split": card.split.model_dump(),
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Member(label, kind, seed, text, root / "members" / f"{label}-seed{seed}", digest)


@lru_cache(maxsize=1)
def load_parts(data: Data) -> tuple[Table, Table]:
    """Return the test part and the rest, read once per process."""
    card = build_card(parse_yaml(data.card, "of the study"))
    table = get_task(data.task).table(
        n=card.rows, seed=card.split.seed, path=data.path, mix=card.mix, features=card.feature_names
    )
    split = card.split
    train, validation, test = table.split((split.train, split.validation, split.test), seed=split.seed)
    return test, train.join(validation)


def train_member(data: Data, member: Member, progress: Callable[[Step], None] | None = None) -> None:
    """Train one member and write its folder, complete or not at all."""
    from hepkan.baselines import train_model

    card = build_card(parse_yaml(data.card, "of the study"))
    test, rest = load_parts(data)
    share = card.split.train / (card.split.train + card.split.validation)
    train, validation = rest.split((share, 1 - share), seed=card.split.seed + 1 + member.seed)
    settings = json.loads(member.settings)
    trained = train_model(member.kind, train, validation, settings, seed=member.seed, threads=1, progress=None)
