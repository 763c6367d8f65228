"""Predictors that are not networks of this package: gradient boosted trees and pykan, behind the same `predict`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from hepkan.errors import DataError, UsageError, require
from hepkan.files import atomic_file
from hepkan.model_io import read_metadata
from hepkan.nn import Network


class Trees:
    """Gradient boosted trees in LightGBM's text format; an event with NaN gives NaN, as everywhere."""

    def __init__(self, text: str, threads: int = 1) -> None:
        import lightgbm

        self.text = text
        self._booster = lightgbm.Booster(model_str=text)
        self._threads = threads

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return probabilities `(n,)` or `(n, K)`."""
        x = np.asarray(X, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self._booster.num_feature():
            raise UsageError(
                f"X needs the shape (n, {self._booster.num_feature()}), however it has {x.shape}."
            )
        if not len(x):
            classes = self._booster.num_model_per_iteration()
            return np.zeros((0, classes) if classes > 1 else 0)
        y = np.asarray(self._booster.predict(x, num_threads=self._threads))
        y[np.isnan(x).any(axis=1)] = np.nan
        return y

    @property
    def n_parameters(self) -> int:
        """Number of leaves and splits of all trees."""
        return sum(2 * int(tree["num_leaves"]) - 1 for tree in self._booster.dump_model()["tree_info"])


def read_trees(root: Path) -> tuple[Trees, dict[str, Any]]:
    """Read LightGBM's text and the record beside it."""
    import lightgbm

    try:
        record: dict[str, Any] = json.loads((root / "model.json").read_text(encoding="utf-8"))
        text = (root / "model.txt").read_text(encoding="utf-8")
        if "\nend of trees\n" not in text:  # LightGBM would end the process
            raise ValueError("model.txt is cut off")
        return Trees(text), record
    except (lightgbm.basic.LightGBMError, OSError, ValueError) as error:
        raise DataError(f"{root} must hold complete model.txt and model.json, however: {error}") from error


class PyKAN(Network):
    """The network of pykan 0.2.8 in its fast mode (no symbolic branch, nothing stored) behind our input map.

    Raises:
        MissingExtra: pykan is not installed.

    References:
        "KAN 2.0: Kolmogorov-Arnold Networks Meet Science" (Liu et al., 2024), arXiv:2408.10205.
    """

    def __init__(
        self,
        widths: Sequence[int],
        grid: int,
        degree: int,
        *,
        input_map: str = "quantile",
        head: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(widths, input_map, seed, head=head, grid=grid, degree=degree)
        kan = require("kan", "rivals", "The model 'pykan'")
        with _untouched_random_states():
            self.network = kan.KAN(
                width=list(self.widths),
                grid=grid,
                k=degree,
                seed=seed,
                grid_range=[-3.0, 3.0],
                symbolic_enabled=False,
                save_act=False,
                auto_save=False,
            )
        self.network.symbolic_fun.requires_grad_(False)

    def body(self, z: Tensor) -> Tensor:
        """Apply pykan's own forward pass."""
        return self.network(z)  # type: ignore[no-any-return]

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers; pykan also keeps grids, masks and symbolic functions as parameters."""
        return sum(parameter.numel() for parameter in self._trained())

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group: nothing in it is a bias."""
        return [{"params": self._trained(), "weight_decay": weight_decay}]

    def write(self, path: Path, record: Mapping[str, Any]) -> None:
        """Write the numbers as safetensors, with the description as metadata."""
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().contiguous() for name, tensor in self.state_dict().items()}
        content = {"format": 1, "class": "PyKAN", "arguments": self.describe(), "link": self.link}
        content["extra"] = dict(record)
        with atomic_file(path) as temporary:
            save_file(tensors, temporary, {"hepkan": json.dumps(content)})

    @classmethod
    def read(cls, path: Path) -> PyKAN:
        """Read what `write` wrote."""
        from safetensors.torch import load_file

        content = read_metadata(path)
        model = cls(**content["arguments"])
        model.load_state_dict(load_file(path))
        model.link = content["link"]
        return model.eval()

    def _trained(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


@contextmanager
def _untouched_random_states() -> Iterator[None]:
    """Give the global random states back as they were: pykan's constructor seeds those of three libraries."""
    ours, theirs = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(ours)
        np.random.set_state(theirs)  # noqa: NPY002
