// Activations as integers, for products with integer weights: by groups of inputs with one scale each,
// one limb of 8 bits, or more behind it of 7 bits each. Sums of a limb within a group are exact.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "linear.h"
#include "simd.h"

namespace GLM_ISA {

constexpr int kLimbBits = 7;
constexpr int kHalfLimb = 1 << (kLimbBits - 1);
constexpr int kMostGroup = 128;
constexpr int kZero4 = 8;  // codes of 4 bits are stored as code + 8

// One group of one row. Magnitudes are compared as integers, where a NaN is the largest: it becomes
// the scale, and so the result. Four codes at a time go to `codes`, `word` bytes apart, and the next
// limb of each `limb` bytes behind it. Weights are stored too large by `zero`; see Integers::offsets.
template <class Activation, int kLimbs>
void round_group(const typename Activation::Stored* x, int count, int group, int8_t* codes,
                 size_t word, size_t limb, int zero, float* scale, int32_t* offsets) {
  alignas(64) float wide[kMostGroup];
  alignas(64) int32_t rounded[kMostGroup];
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) store(wide + i, Activation::load(x + i));
  for (; i < count; i++) wide[i] = Activation::one(x[i]);
  std::fill(wide + count, wide + group, 0.0f);
  int32_t magnitude = 0;
  for (i = 0; i < group; i++)
    magnitude = std::max(magnitude, __builtin_bit_cast(int32_t, wide[i]) & 0x7fffffff);
  const float top = __builtin_bit_cast(float, magnitude);
  constexpr float kMost = 127.0f * (1 << kLimbBits * (kLimbs - 1));
  *scale = top / kMost;
  const float inverse = kMost / top;
  if (inverse > 0 && inverse < INFINITY)
    for (i = 0; i < group; i++) rounded[i] = int32_t(std::nearbyint(wide[i] * inverse));
  else  // zeros, or what is nearly so; or numbers that are not finite, and then the scale tells
    std::fill_n(rounded, group, 0);
  for (int l = kLimbs - 1; l >= 0; l--) {
    alignas(64) int8_t narrow[kMostGroup];
    int32_t total = 0;
    for (i = 0; i < group; i++) {
      const int32_t higher = l ? (rounded[i] + kHalfLimb) >> kLimbBits : 0;
      const int32_t code = rounded[i] - (higher << kLimbBits);
      narrow[i] = int8_t(code);
      total += code;
      rounded[i] = higher;
    }
    offsets[l] = -zero * total;
    for (i = 0; i < group / 4; i++) std::memcpy(codes + i * word + l * limb, narrow + 4 * i, 4);
  }
}

struct Integers {
  int inputs, groups;                // inputs: padded to whole groups
  std::unique_ptr<int8_t[]> codes;   // in an order that the product chooses, highest limb first
  std::unique_ptr<float[]> scales;   // [rows, groups]
  // [rows, groups, limbs], for sums of codes times stored weights: added, they make up for weights that
  // are stored too large.
  std::unique_ptr<int32_t[]> offsets;

  // Without memory for the codes.
  Integers(const glm::Linear& linear, int rows)
      : groups((linear.inputs + linear.group - 1) / linear.group) {
    inputs = groups * linear.group;
    scales.reset(new float[size_t(rows) * groups]);
    offsets.reset(new int32_t[size_t(rows) * groups * linear.limbs]);
  }
};

// Where a row's codes go: four codes of a limb, `word` bytes from the next four, and `limb` bytes
// from those of the next limb.
struct CodesPlace {
  int8_t* first;
  size_t word, limb;
};

// Row `row` of x as integers.
template <class Activation, int kLimbs>
void round_row(const glm::Linear& linear, const typename Activation::Stored* x, int row,
               CodesPlace place, Integers& out) {
  const int zero = linear.format == glm::Format::kInt8 ? kZero8 : kZero4;
  for (int g = 0; g < out.groups; g++) {
    const int input = g * linear.group;
    const size_t at = size_t(row) * out.groups + g;
    round_group<Activation, kLimbs>(
        x + size_t(row) * linear.inputs + input, std::min(linear.group, linear.inputs - input),
        linear.group, place.first + input / 4 * place.word, place.word, place.limb, zero,
        &out.scales[at], &out.offsets[at * kLimbs]);
  }
}

// A group's product from its limbs' exact sums, offsets included.
template <int kLimbs, class Exact>
Floats joined(Exact exact) {
  Floats product = zeros();
  for (int l = 0; l < kLimbs; l++) {
    const Floats limb = to_floats(exact(l));
    product = l ? fma(product, all(float(1 << kLimbBits)), limb) : limb;
  }
  return product;
}

}  // namespace GLM_ISA
