"""The adapters that a replay has loaded."""

from __future__ import annotations

from glmserve.contract.adapter import AdapterSource
from glmserve.contract.wire import LoadAdapter, RemoveAdapter
from glmserve.executor import Executor


class ReplayedAdapters:
    """Loads the adapters of a recording, from the folders that it names.

    Args:
        executor: of a started runner, which holds as many adapters as the recorded one.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._loaded: set[int] = set()

    async def apply(self, change: LoadAdapter | RemoveAdapter) -> None:
        """Load or remove an adapter.

        Raises:
            AdapterError: it is gone, or has another content now.
        """
        match change:
            case LoadAdapter(source):
                await self.load(source)
            case RemoveAdapter(adapter_id):
                self.remove(adapter_id)

    async def load(self, source: AdapterSource) -> None:
        """Load an adapter.

        Raises:
            AdapterError: it is gone, or has another content now.
        """
        await self._executor.load_adapter(source)
        self._loaded.add(source.id)

    def remove(self, adapter_id: int) -> None:
        """Remove an adapter that is loaded."""
        self._loaded.remove(adapter_id)
        self._executor.remove_adapter(adapter_id)

    def remove_all(self) -> None:
        """Remove what is loaded: the recorded runner was lost with it."""
        for adapter_id in [*self._loaded]:
            self.remove(adapter_id)
