"""What a page needs of `report.json`: its keys and their types."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    """A part of `report.json`: the keys that a page needs, others as they are."""

    model_config = ConfigDict(extra="allow")


class _Row(_Part):
    model: str
    metric: str
    value: float | None
    error: float | None
    seeds: int
    parameters: int
    train_seconds: float


class _Yield(_Part):
    process: str
    label: int
    rows: int
    effective: float
    pb: float


class _Data(_Part):
    source: str
    n_train: int
    n_validation: int
    n_test: int
    yields: list[_Yield]


class _Input(_Part):
    name: str
    unit: str | None = None
    label: str | None = None


class _Target(_Input):
    scale: float = Field(gt=0)


class _Derived(_Input):
    name: str = Field(alias="quantity")
    model: str
    metric: Literal["mae", "bias", "width68"]
    value: float | None
    error: float | None


class _Coverage(_Part):
    levels: list[float] = Field(min_length=1)
    coverage: list[float]
    error: list[float]

    @model_validator(mode="after")
    def same_length(self) -> _Coverage:
        if not len(self.levels) == len(self.coverage) == len(self.error):
            raise ValueError("levels, coverage and error differ in length")
        return self


class Report(_Part):
    """The whole of `report.json`."""

    task: str
    version: str
    created: str
    command: str
    environment: dict[str, Any]
    luminosity_fb: float
    data: _Data
    rows: list[_Row] = Field(min_length=1)
    features: list[_Input] = Field(min_length=1)
    targets: list[_Target] = []
    derived: list[_Derived] = []
    conditional: dict[str, _Coverage] = {}
