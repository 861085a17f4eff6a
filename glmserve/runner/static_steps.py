"""What graphs ask of attention and of adapters: plans whose tensors have fixed addresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from glmserve.ops.adapters.slots import RowPlan
from glmserve.ops.base import AnyOps
from glmserve.ops.batch import Batch, Int64Array
from glmserve.ops.packed_arrays import ArraySpec, HostArrays
from glmserve.ops.step_shape import StepShape
from glmserve.ops.uploads import Uploads

StaticPlan = TypeVar("StaticPlan", covariant=True)


@runtime_checkable
class StaticAttention(Protocol[StaticPlan]):
    """An attention backend that can plan steps of a fixed shape."""

    uploads: Uploads

    def static_specs(self, shape: StepShape) -> dict[str, ArraySpec]:
        """Shapes of the arrays of a step, padding included."""
        ...

    def fill_static(self, batch: Batch, host: HostArrays) -> None:
        """Write a step to `host`. Rows behind the step's become padding.

        Args:
            host: arrays of `static_specs`, on the host.
        """
        ...

    def static_plan(
        self, arrays: Mapping[str, Tensor], positions: Tensor, scratch: Tensor
    ) -> StaticPlan:
        """The plan that reads what `fill_static` wrote, after the upload.

        Args:
            arrays: arrays of `static_specs`, on the device.
            positions: int64 [T]
            scratch: float32, at least `scratch_size` numbers; overwritten by each step.
        """
        ...

    def scratch_size(self, shape: StepShape) -> int:
        """How many float32 numbers of scratch a step needs."""
        ...


@runtime_checkable
class StaticAdapters(Protocol):
    """Ops whose slots of adapters, and the plans of their rows, have fixed addresses."""

    def static_adapter_specs(self, rows: int, adapters: int) -> dict[str, ArraySpec]:
        """Shapes of the arrays of a plan for up to `rows` rows of up to `adapters` adapters."""
        ...

    def fill_static_adapters(self, slots: Int64Array, host: HostArrays) -> None:
        """Write the plan of rows with these slots.

        Args:
            host: arrays of `static_adapter_specs`, on the host.
        """
        ...

    def static_adapter_plan(self, arrays: Mapping[str, Tensor]) -> RowPlan:
        """The plan that reads what `fill_static_adapters` wrote, after the upload.

        Args:
            arrays: arrays of `static_adapter_specs`, on the device.
        """
        ...


def static_adapters(ops: AnyOps) -> StaticAdapters:
    """The ops, which have static slots for adapters.

    Raises:
        TypeError: they have none.
    """
    if not isinstance(ops, StaticAdapters):
        raise TypeError(f"{type(ops).__name__} has graphs, and no static slots for adapters")
    return ops
