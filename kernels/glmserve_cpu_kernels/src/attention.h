// Paged attention over a KV cache in the layout of the tiles. See attention.cpp.
#pragma once

#include <cstdint>

#include "linear.h"

namespace glm {

constexpr int kSubblock = 32;  // token slots; a block of the cache is one subblock or several

// One layer's K and V.
struct KvCache {
  Type type;           // of activations
  int32_t is_int8;     // numbers are codes with one scale per token and head
  int32_t kv_heads;
  int32_t dim;
  void* numbers;       // [subblocks, kv_heads, 2, dim padded to panels, 32]
  float* scales;       // [subblocks, kv_heads, 2, 32], or null
};

// What all layers of a step share. T tokens, B sequences.
struct AttentionStep {
  int32_t tokens, sequences;
  int32_t table_stride;         // block ids per sequence
  int32_t subblocks_per_block;
  const int64_t* slots;         // [T]
  const int64_t* last_visible;  // [T] position of the last token that each attends to
  const int64_t* query_start;   // [B + 1]
  const int64_t* contexts;      // [B] tokens of the sequence in the cache
  const int64_t* block_tables;  // [B, table_stride]
  const int64_t* hidden;        // [B] slots at a sequence's beginning that no token attends to; null: 0
};

struct AttentionKernels {
  // key_values [T, 2 * kv_heads, dim], keys before values; tokens are `stride` numbers apart.
  void (*write)(const KvCache&, const AttentionStep&, const void* key_values, int stride);
  // qkv [T, heads, dim], queries before keys and values; out [T, query heads, dim].
  void (*attend)(const KvCache&, const AttentionStep&, const void* qkv, int heads, void* out);
};

}  // namespace glm
