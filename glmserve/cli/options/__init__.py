"""The options of `glmserve serve`, one module per group, and the configs made of them."""

from glmserve.cli.options.access import add_access_options as add_access_options
from glmserve.cli.options.adapters import adapter_config as adapter_config
from glmserve.cli.options.adapters import add_adapter_options as add_adapter_options
from glmserve.cli.options.batches import add_batch_options as add_batch_options
from glmserve.cli.options.batches import batch_config as batch_config
from glmserve.cli.options.checkpoint import add_checkpoint_options as add_checkpoint_options
from glmserve.cli.options.checkpoint import add_load_format_option as add_load_format_option
from glmserve.cli.options.connections import add_connection_options as add_connection_options
from glmserve.cli.options.connections import connection_config as connection_config
from glmserve.cli.options.debug import add_debug_options as add_debug_options
from glmserve.cli.options.device import add_device_options as add_device_options
from glmserve.cli.options.help_format import HelpFormatter as HelpFormatter
from glmserve.cli.options.http import add_http_options as add_http_options
from glmserve.cli.options.journal import add_journal_options as add_journal_options
from glmserve.cli.options.journal import journal_config as journal_config
from glmserve.cli.options.machines import add_machine_options as add_machine_options
from glmserve.cli.options.model import add_model_options as add_model_options
from glmserve.cli.options.names import with_official_names as with_official_names
from glmserve.cli.options.observation import add_observation_options as add_observation_options
from glmserve.cli.options.runner import config_of as config_of
from glmserve.cli.options.runner import npu_environment as npu_environment
from glmserve.cli.options.runner import runner_config as runner_config
from glmserve.cli.options.scheduling import add_scheduling_options as add_scheduling_options
from glmserve.cli.options.scheduling import scheduler_config as scheduler_config
from glmserve.cli.options.worker import add_worker_options as add_worker_options
from glmserve.cli.options.worker import supervision_config as supervision_config
