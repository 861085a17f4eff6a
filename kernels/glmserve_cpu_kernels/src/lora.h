// What adapters add to the results of a linear module. See lora.cpp.
#pragma once

#include <cstdint>

#include "linear.h"

namespace glm {

// An adapter of one module, in one slot. Numbers are of the activations' type.
struct LoraAdapter {
  const void* a;     // [rank, inputs]; null: rank is 0
  const void* b;     // [panels, rank, 32], with the adapter's scale in it
  const void* bias;  // [outputs], or null
  int32_t rank;
  int32_t unused;
};

// The rows of a step that have adapters, those of a slot side by side.
struct LoraRows {
  const int64_t* order;   // [rows] indices of the rows
  const int64_t* slots;   // [groups]
  const int64_t* starts;  // [groups + 1] index in `order` of each slot's first row; then their number
  int32_t groups;
  int32_t unused;
};

struct LoraKernels {
  // y[row] += B (A x[row]) + bias for each row: x [T, inputs], y [T, outputs].
  void (*add)(const LoraAdapter* slots, const LoraRows&, Type, const void* x, int inputs, int outputs,
              void* y);
};

}  // namespace glm
