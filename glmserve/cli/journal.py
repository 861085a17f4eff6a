"""Opens the journal of `glmserve serve`."""

from __future__ import annotations

from glmserve.config import JournalConfig, RedisAddress, RunnerConfig
from glmserve.errors import CheckpointError
from glmserve.journal import Journal, SqliteStore, Store, fingerprint
from glmserve.journal.checkpoint_files import checkpoint_file, checkpoint_folders
from glmserve.journal.shared.store import RedisStore
from glmserve.model_config import GenerationDefaults, ModelConfig
from glmserve.text import ChatFormat


def open_journal(
    config: JournalConfig,
    model: ModelConfig,
    runner: RunnerConfig,
    chat: ChatFormat | None,
    defaults: GenerationDefaults,
) -> Journal:
    """Open the journal for a model and the settings that determine its texts.

    Raises:
        StartupError: the journal cannot be used, or belongs to another model.
    """
    settings = (
        *(checkpoint_file(runner), runner.load_format, runner.rope_scaling),
        *(runner.dtype, runner.quantization, runner.kv_cache_dtype, chat and chat.name),
        *_rounding(runner),
        runner.seed if runner.load_format == "dummy" else None,
        *(model.eos_token_ids, str(defaults)),
    )
    try:
        model_id = fingerprint(checkpoint_folders(runner), settings)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error}") from None
    return Journal(_open_store(config, model_id), config.keep)


def _open_store(config: JournalConfig, model_id: str) -> Store:
    if isinstance(config.place, RedisAddress):
        return RedisStore(config.place, model_id, config.max_bytes)
    return SqliteStore(config.place, model_id, config.max_bytes)


def _rounding(runner: RunnerConfig) -> tuple[object, ...]:
    """The shards, if weights are rounded while loading: each rounds its part with scales of its
    own. Stages round layers as one process does. Journals of one process stay what they were."""
    size = runner.tensor_parallel_size
    return (f"{size} ranks",) if size > 1 and runner.quantization else ()
