"""Loading and unloading adapters while the server runs: /admin/adapters, and vLLM's routes"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from glmserve.api.http.admin_key import check_admin_key
from glmserve.api.http.body import read_request
from glmserve.api.http.responses import json_response
from glmserve.api.http.state import context_of
from glmserve.api.protocol.adapters import (
    AddAdapterRequest,
    LoadLoraAdapterRequest,
    UnloadLoraAdapterRequest,
)
from glmserve.engine.adapters import AdapterCatalog, AdapterVersion
from glmserve.errors import InvalidRequestError, ModelNotFoundError

LOAD_PATH, UNLOAD_PATH = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
_FIELD_NAMES = {"name": "lora_name", "path": "lora_path"}


class Adapter(msgspec.Struct, kw_only=True):
    """One content of an adapter, or a folder that nothing has asked for yet."""

    name: str
    path: str
    """Its folder."""
    kind: str | None
    """lora, prefix-tuning or p-tuning-v2; null: it was not read yet."""
    id: int | None
    """A new one for each content of a name."""
    digest: str | None
    """Hash of the content."""
    status: Literal["loaded", "loading", "idle", "retired"]
    """`idle`: it is loaded when a request asks for it. `retired`: its name is gone, or means
    another content; it answers the requests that it has."""
    requests: int
    """That run with it or wait for it."""


class AdapterList(msgspec.Struct):
    """All adapters, and those that are not gone yet."""

    max_adapters: int
    """How many are loaded at the same time."""
    adapters: list[Adapter]


async def add_adapter(request: Request) -> Response:
    """Load an adapter, and give it a name or a name a new content."""
    check_admin_key(request)
    wanted, _ = await read_request(request, AddAdapterRequest)
    catalog = _catalog_of(request)
    version = await catalog.add(wanted.name, Path(wanted.path))
    return json_response(_described(catalog, version, is_current=True))


async def list_adapters(request: Request) -> Response:
    """The adapters of this server, and what became of each."""
    check_admin_key(request)
    catalog = _catalog_of(request)
    names = await catalog.names()
    current = catalog.current()
    others = [version for version in catalog.slots.versions if version not in current]
    adapters = [
        *(_described(catalog, version, is_current=True) for version in current),
        *(_described(catalog, version, is_current=False) for version in others),
    ]
    known = {version.name for version in current}
    for name, folder in names.items():
        if name not in known:
            adapters.append(_unread(name, folder))
    return json_response(AdapterList(catalog.slots.capacity, adapters))


async def remove_adapter(request: Request) -> Response:
    """Take an adapter's name away; its requests finish first, then its memory is free."""
    check_admin_key(request)
    catalog, name = _catalog_of(request), request.path_params["name"]
    version = await catalog.remove(name)
    if version is None:
        raise ModelNotFoundError(f"there is no adapter {name[:200]!r} here", "name")
    return json_response(_described(catalog, version, is_current=False))


async def load_lora_adapter(request: Request) -> Response:
    """Load an adapter and give it a name, as vLLM does."""
    check_admin_key(request)
    wanted, _ = await read_request(request, LoadLoraAdapterRequest)
    try:
        await _catalog_of(request).add(
            wanted.lora_name, Path(wanted.lora_path), replace=wanted.load_inplace
        )
    except InvalidRequestError as error:
        raise error.renamed(_FIELD_NAMES) from None
    return PlainTextResponse(f"Success: LoRA adapter '{wanted.lora_name}' added successfully.")


async def unload_lora_adapter(request: Request) -> Response:
    """Take an adapter's name away, as vLLM does."""
    check_admin_key(request)
    wanted, _ = await read_request(request, UnloadLoraAdapterRequest)
    catalog, name = _catalog_of(request), wanted.lora_name
    if wanted.lora_int_id is not None:
        _check_id(catalog, name, wanted.lora_int_id)
    if await catalog.remove(name) is None:
        raise ModelNotFoundError(f"The lora adapter {name[:200]!r} cannot be found.", "lora_name")
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


def _check_id(catalog: AdapterCatalog, name: str, adapter_id: int) -> None:
    """Check that an adapter's name means this content.

    Raises:
        InvalidRequestError: it means another one.
    """
    for version in catalog.current():
        if version.name == name and version.id != adapter_id:
            raise InvalidRequestError(
                f"the adapter {name!r} has the id {version.id}", "lora_int_id"
            )


def _catalog_of(request: Request) -> AdapterCatalog:
    """The server's adapters.

    Raises:
        NotReadyError: the model is still loading.
    """
    context = context_of(request)
    _ = context.engine.info
    return context.adapters


def _described(catalog: AdapterCatalog, version: AdapterVersion, *, is_current: bool) -> Adapter:
    slots = catalog.slots
    status: Literal["loaded", "loading", "idle", "retired"] = "idle"
    if not is_current:
        status = "retired"
    elif slots.is_loaded(version):
        status = "loaded"
    elif version in slots.versions:
        status = "loading"
    return Adapter(
        name=version.name,
        path=version.source.folder,
        kind=version.kind,
        id=version.id,
        digest=version.digest,
        status=status,
        requests=slots.num_requests(version),
    )


def _unread(name: str, folder: Path) -> Adapter:
    return Adapter(
        name=name, path=str(folder), kind=None, id=None, digest=None, status="idle", requests=0
    )
