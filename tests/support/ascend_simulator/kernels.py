"""The simulated calls by the names of the vendor's. Each is plain torch, and strict.

The vendor's documents: https://gitcode.com/Ascend/op-plugin, docs/context.
"""

from __future__ import annotations

from support.ascend_simulator.attention import _npu_paged_attention as _npu_paged_attention
from support.ascend_simulator.attention import (
    npu_fused_infer_attention_score as npu_fused_infer_attention_score,
)
from support.ascend_simulator.attention import (
    npu_incre_flash_attention as npu_incre_flash_attention,
)
from support.ascend_simulator.cache import _npu_reshape_and_cache as _npu_reshape_and_cache
from support.ascend_simulator.cache import npu_scatter_pa_kv_cache as npu_scatter_pa_kv_cache
from support.ascend_simulator.elementwise import npu_add_rms_norm as npu_add_rms_norm
from support.ascend_simulator.elementwise import npu_rms_norm as npu_rms_norm
from support.ascend_simulator.elementwise import npu_rotary_mul as npu_rotary_mul
from support.ascend_simulator.elementwise import npu_swiglu as npu_swiglu
from support.ascend_simulator.products import (
    npu_convert_weight_to_int4pack as npu_convert_weight_to_int4pack,
)
from support.ascend_simulator.products import npu_dynamic_quant as npu_dynamic_quant
from support.ascend_simulator.products import npu_quant_matmul as npu_quant_matmul
from support.ascend_simulator.products import npu_quantize as npu_quantize
from support.ascend_simulator.products import (
    npu_weight_quant_batchmatmul as npu_weight_quant_batchmatmul,
)
