"""Fixtures that every test folder may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from glmserve.config import RedisAddress
from support.client_records import pytest_addoption as pytest_addoption
from support.client_records import pytest_configure as pytest_configure
from support.parallel import pytest_cmdline_main as pytest_cmdline_main
from support.parallel import pytest_collection_modifyitems as pytest_collection_modifyitems
from support.redis_server import RedisServer

# A busy machine is no failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Triton kernels run in its interpreter, unless the environment says otherwise: it is 0 where
# tests/kernel_ops and tests/gpu are to run on a GPU. Triton looks when it is first imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

# Threads of one test process wait busily for each other while another process has their core: on
# two busy cores torch took sixteen times as long. Servers choose their threads themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A shell script's background job ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Under nohup the same holds for the end of a terminal session, which servers must notice.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def golden_models() -> Path:
    """Folder of tiny random checkpoints with reference outputs of the original models."""
    return REPOSITORY / "tests" / "goldens"


@pytest.fixture(scope="session")
def goldens_dir() -> Path:
    """Folder of goldens that cannot be shipped: the publisher's own tokenizer files."""
    path = Path(os.environ.get("GLMSERVE_GOLDENS", REPOSITORY.parent / "shared" / "goldens"))
    if not path.is_dir():
        pytest.skip(f"no goldens at {path} (set GLMSERVE_GOLDENS)")
    return path


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for the tests of one process."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def redis_address(redis_server: RedisServer) -> RedisAddress:
    """An empty database."""
    import redis

    with redis.Redis.from_url(redis_server.url()) as client:
        client.flushdb()
    return RedisAddress(redis_server.url())
