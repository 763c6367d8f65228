"""One file per model: safetensors with JSON metadata. Loading never executes code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import hepkan
from hepkan.errors import DataError, unknown
from hepkan.files import atomic_file
from hepkan.nn.networks import NETWORKS, Network

FORMAT = 1
LINKS = ("identity", "sigmoid", "softmax")


def save(model: Network, path: str | Path, extra: dict[str, Any] | None = None) -> None:
    """Write a model with everything that prediction needs.

    Arguments:
        model: a network of this package.
        path: the file; replaced only when the new one is complete.
        extra: JSON-able data kept in the metadata.

    Raises:
        OSError: the file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "version": hepkan.__version__,
        "class": type(model).__name__,
        "arguments": model.describe(),
        "link": model.link,
        "feature_names": model.feature_names,
        "extra": extra or {},
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"hepkan": json.dumps(metadata, sort_keys=True)})


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the metadata of a model file without its numbers.

    Raises:
        DataError: the file is not a model of this package, damaged, or of a newer format.
        OSError: the file cannot be read.
    """
    name = Path(path)
    if not name.is_file():
        raise DataError(f"There is no model file {name}.")
    try:
        with safe_open(name, framework="pt") as file:
            text = (file.metadata() or {}).get("hepkan")
    except SafetensorError as error:
        raise DataError(f"{name} must be a complete safetensors file, however it cannot be read ({error}).") from error
    if text is None:
        raise DataError(f"{name} is a safetensors file, however not a hepkan model: its metadata lacks 'hepkan'.")
    try:
        metadata: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"The metadata of {name} must be JSON, however it is damaged ({error}).") from error
    number = metadata.get("format") if isinstance(metadata, dict) else None
    if not isinstance(number, int) or number > FORMAT:
        version = metadata.get("version") if isinstance(metadata, dict) else None
        raise DataError(
            f"{name} has the model format {number}, however this version reads up to {FORMAT}. "
            f"It was written by hepkan {version}; upgrade hepkan."
        )
    missing = [key for key in ("class", "arguments", "link", "extra") if key not in metadata]
    if missing or metadata["link"] not in LINKS:
        raise DataError(
            f"The metadata of {name} must hold class, arguments, extra and a link ({', '.join(LINKS)}), however "
            + (f"it lacks {', '.join(missing)}." if missing else f"the link is {metadata['link']!r}.")
        )
    return dict(metadata)


def load(path: str | Path) -> Network:
    """Read a model.

    Raises:
        DataError: as `read_metadata`, or the numbers do not fit the description.
        UsageError: the class of the model is unknown.
    """
    metadata = read_metadata(path)
    if metadata["class"] not in NETWORKS:
        raise unknown("model class", str(metadata["class"]), NETWORKS)
    try:
        model = NETWORKS[metadata["class"]](**metadata["arguments"])
    except (TypeError, ValueError) as error:
        raise DataError(f"The description of the model in {path} must be complete, however: {error}") from error
    model.link = metadata["link"]
    model.feature_names = metadata.get("feature_names")
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    _check_tensors(model, tensors, path)
    _resize(model, tensors)
    model.load_state_dict(tensors)
    return model.to(next(iter(model.parameters())).dtype).eval()


def _check_tensors(model: Network, tensors: dict[str, torch.Tensor], path: str | Path) -> None:
    """Demand every tensor of the model, in its shape but for the number of knots, which refinement may change.

    Raises:
        DataError: a tensor misses, is foreign, no floating numbers, or of a shape that does not fit.
    """
    wanted = model.state_dict()
    if set(tensors) != set(wanted):
        raise DataError(f"{path} must have the tensors of a {type(model).__name__}, however some miss or are foreign.")
    for name, tensor in tensors.items():
        shape = list(wanted[name].shape)
        if name.endswith((".knots", ".coef", ".shapes")) and tensor.dim() > 1:
            layer = model.get_submodule(name.rpartition(".")[0])
            knots = tensors[f"{name.rpartition('.')[0]}.knots"].shape[-1]
            shape[1] = knots if name.endswith(".knots") else knots - int(layer.degree) - 1  # type: ignore[arg-type]
        if list(tensor.shape) != shape or not tensor.is_floating_point():
            raise DataError(
                f"The tensor {name} in {path} must have floating numbers of the shape {tuple(shape)}, however it has "
                f"{tensor.dtype} {tuple(tensor.shape)}. The file is damaged or was put together by hand."
            )


def _resize(model: Network, tensors: dict[str, torch.Tensor]) -> None:
    """Give every buffer and parameter the shape and type of the file (grids may have been refined layer by layer)."""
    for name, tensor in tensors.items():
        owner = model.get_submodule(name.rpartition(".")[0])
        attribute = name.rpartition(".")[2]
        if attribute in owner._buffers:
            owner._buffers[attribute] = torch.empty_like(tensor)
        else:
            setattr(owner, attribute, torch.nn.Parameter(torch.empty_like(tensor)))
