// Operations between the products of a block. T tokens, H hidden size, D head dim.
#pragma once

#include "linear.h"

namespace glm {

struct ElementwiseKernels {
  // residual += x (where there is an x), both [T, H]; out = residual / rms(residual) * weight.
  void (*rms_norm)(Type, const void* x, void* residual, const void* weight, float eps, int tokens,
                   int size, void* out);
  // silu(x[:, :size]) * x[:, size:], x [T, 2 * size].
  void (*silu_and_mul)(Type, const void* x, int tokens, int size, void* out);
  // GELU by its tanh approximation, x [T, size].
  void (*gelu)(Type, const void* x, int tokens, int size, void* out);
  // Rotates adjacent pairs of the first 2 * pairs numbers of each of `heads` heads, in place; tokens are
  // `stride` numbers apart. rows: cos and sin, [T, pairs, 2].
  void (*rope)(Type, void* x, const float* rows, int tokens, int heads, int dim, int stride,
               int pairs);
};

}  // namespace glm
