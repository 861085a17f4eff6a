// y = x W^T + bias for packed weights. See linear.cpp for the layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "most_likely.h"

namespace glm {

constexpr int kPanel = 32;  // outputs that are packed, and computed, together

enum class Format : int32_t { kFloat32, kBfloat16, kInt8, kInt4 };
enum class Type : int32_t { kFloat32, kBfloat16 };

struct Linear {
  Format format;
  int32_t outputs, inputs;
  int32_t group;            // integers: inputs that share a scale of the activations
  int32_t weight_groups;    // integers: scales per output
  int32_t limbs;            // integers: activations have 8 bits (1), 15 (2) or 22 (3)
  const void* weights;      // [panels, steps, 32, 4 bytes]
  const float* scales;      // integers with one scale per output: [outputs, padded to panels]
  const uint16_t* group_scales;  // float16 [panels, weight_groups, 32]
};

// The kernels of one instruction set.
struct LinearKernels {
  // y_type: float32, or that of x and bias. The results are rounded to the latter in any case.
  void (*linear)(const Linear&, const void* x, int rows, Type type, const void* bias, void* y,
                 Type y_type);
  // Of the outputs that `linear` would give, without a bias.
  void (*most_likely)(const Linear&, const void* x, int rows, Type type, const MostLikely&);
};

}  // namespace glm
