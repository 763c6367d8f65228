"""Other people's KANs behind our interface, for honest comparison (extra `rivals`)."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepkan.errors import require
from hepkan.nn.networks import Network


class PyKAN(Network):
    """The network of pykan 0.2.8 in its fast mode (no symbolic branch, no stored activations) after our input map.

    **Shape** input: `(n, widths[0])`, output: `(n, widths[-1])`.

    Raises:
        MissingExtra: pykan is not installed.

    References:
        "KAN 2.0: Kolmogorov-Arnold Networks Meet Science" (Liu et al., 2024), arXiv:2408.10205.
    """

    def __init__(self, widths: Sequence[int], grid: int = 5, degree: int = 3, seed: int = 0) -> None:
        super().__init__(widths, "quantile", seed, grid=grid, degree=degree)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kan: Any = require("kan", "rivals", "The model pykan")
            # Its constructor seeds the global generators of three libraries: give them back as they were.
            states = random.getstate(), np.random.get_state()  # noqa: NPY002
            with torch.random.fork_rng(devices=[]):
                self.network = kan.KAN(
                    width=list(self.widths),
                    grid=grid,
                    k=degree,
                    seed=seed,
                    grid_range=[-3.0, 3.0],
                    auto_save=False,
                    symbolic_enabled=False,
                    save_act=False,
                )
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        for parameter in self.network.symbolic_fun.parameters():
            parameter.requires_grad_(False)

    def body(self, z: Tensor) -> Tensor:
        """Apply pykan's forward pass."""
        return self.network(z)  # type: ignore[no-any-return]

    @property
    def n_parameters(self) -> int:
        """Number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return one group with all that is trained."""
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": trained, "weight_decay": weight_decay}]
