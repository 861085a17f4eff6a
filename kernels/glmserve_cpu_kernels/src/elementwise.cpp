// Computed in float32, rounded once. One thread computes a row, in a fixed order.

#include "elementwise.h"

#include <cmath>

#include "functions.h"
#include "pool.h"

namespace GLM_ISA {

using glm::Type;

constexpr int kNumbersPerTask = 16384;  // below, waking a thread takes longer than the work

// work(row) for all rows; on several threads if there are enough numbers.
template <class Work>
void for_rows(int rows, int size, Work work) {
  const int at_once = std::max(1, kNumbersPerTask / size);
  glm::run((rows + at_once - 1) / at_once, [&](int task) {
    for (int row = task * at_once; row < std::min(rows, (task + 1) * at_once); row++) work(row);
  });
}

template <class Activation>
void rms_norm_of(const void* x, void* residual, const void* weight, float eps, int tokens, int size,
                 void* out) {
  using Stored = typename Activation::Stored;
  const auto* scale = static_cast<const Stored*>(weight);
  for_rows(tokens, size, [&](int row) {
    const auto* addend = x ? static_cast<const Stored*>(x) + size_t(row) * size : nullptr;
    auto* stream = static_cast<Stored*>(residual) + size_t(row) * size;
    auto* to = static_cast<Stored*>(out) + size_t(row) * size;
    Floats squares = zeros();
    float rest = 0;
    int i = 0;
    for (; i + kLanes <= size; i += kLanes) {
      if (addend)
        Activation::store(stream + i, add(Activation::load(stream + i), Activation::load(addend + i)));
      const Floats h = Activation::load(stream + i);
      squares = fma(h, h, squares);
    }
    for (; i < size; i++) {
      if (addend) stream[i] = Activation::one(Activation::one(stream[i]) + Activation::one(addend[i]));
      const float h = Activation::one(stream[i]);
      rest += h * h;
    }
    const float inverse = 1 / std::sqrt((sum(squares) + rest) / float(size) + eps);
    for (i = 0; i + kLanes <= size; i += kLanes)
      Activation::store(to + i, mul(mul(Activation::load(stream + i), all(inverse)),
                                    Activation::load(scale + i)));
    for (; i < size; i++)
      to[i] = Activation::one(Activation::one(stream[i]) * inverse * Activation::one(scale[i]));
  });
}

template <class Activation>
void silu_and_mul_of(const void* x, int tokens, int size, void* out) {
  using Stored = typename Activation::Stored;
  for_rows(tokens, size, [&](int row) {
    const auto* gate = static_cast<const Stored*>(x) + size_t(row) * 2 * size;
    auto* to = static_cast<Stored*>(out) + size_t(row) * size;
    int i = 0;
    for (; i + kLanes <= size; i += kLanes) {
      const Floats g = Activation::load(gate + i), up = Activation::load(gate + size + i);
      Activation::store(to + i, mul(mul(g, sigmoid(g)), up));
    }
    if (i < size) {  // by the same operations, so that a number's place does not matter
      Stored rest[kLanes] = {}, ups[kLanes] = {};
      std::copy(gate + i, gate + size, rest);
      std::copy(gate + size + i, gate + 2 * size, ups);
      const Floats g = Activation::load(rest), up = Activation::load(ups);
      Activation::store(rest, mul(mul(g, sigmoid(g)), up));
      std::copy_n(rest, size - i, to + i);
    }
  });
}

// 0.5 x (1 + tanh(u)) is x sigmoid(2u).
inline Floats gelu(Floats x) {
  const Floats cubic = fma(mul(mul(x, x), x), all(0.044715f), x);
  return mul(x, sigmoid(mul(cubic, all(1.5957691216f))));
}

template <class Activation>
void gelu_of(const void* x, int tokens, int size, void* out) {
  using Stored = typename Activation::Stored;
  for_rows(tokens, size, [&](int row) {
    const auto* from = static_cast<const Stored*>(x) + size_t(row) * size;
    auto* to = static_cast<Stored*>(out) + size_t(row) * size;
    int i = 0;
    for (; i + kLanes <= size; i += kLanes) Activation::store(to + i, gelu(Activation::load(from + i)));
    if (i < size) {
      Stored rest[kLanes] = {};
      std::copy(from + i, from + size, rest);
      Activation::store(rest, gelu(Activation::load(rest)));
      std::copy_n(rest, size - i, to + i);
    }
  });
}

template <class Activation>
void rope_of(void* x, const float* rows, int tokens, int heads, int dim, int stride, int pairs) {
  using Stored = typename Activation::Stored;
  for_rows(tokens, heads * dim, [&](int token) {
    const float* turn = rows + size_t(token) * pairs * 2;
    for (int head = 0; head < heads; head++) {
      auto* h = static_cast<Stored*>(x) + size_t(token) * stride + size_t(head) * dim;
      for (int i = 0; i < 2 * pairs; i += 2) {
        const float a = Activation::one(h[i]), b = Activation::one(h[i + 1]);
        h[i] = Activation::one(a * turn[i] - b * turn[i + 1]);
        h[i + 1] = Activation::one(a * turn[i + 1] + b * turn[i]);
      }
    }
  });
}

void rms_norm(Type type, const void* x, void* residual, const void* weight, float eps, int tokens,
              int size, void* out) {
  (type == Type::kFloat32 ? rms_norm_of<Fp32> : rms_norm_of<Bf16>)(x, residual, weight, eps, tokens,
                                                                   size, out);
}

void silu_and_mul(Type type, const void* x, int tokens, int size, void* out) {
  (type == Type::kFloat32 ? silu_and_mul_of<Fp32> : silu_and_mul_of<Bf16>)(x, tokens, size, out);
}

void gelu(Type type, const void* x, int tokens, int size, void* out) {
  (type == Type::kFloat32 ? gelu_of<Fp32> : gelu_of<Bf16>)(x, tokens, size, out);
}

void rope(Type type, void* x, const float* rows, int tokens, int heads, int dim, int stride,
          int pairs) {
  (type == Type::kFloat32 ? rope_of<Fp32> : rope_of<Bf16>)(x, rows, tokens, heads, dim, stride,
                                                           pairs);
}

extern const glm::ElementwiseKernels elementwise_kernels;
const glm::ElementwiseKernels elementwise_kernels{rms_norm, silu_and_mul, gelu, rope};

}  // namespace GLM_ISA
