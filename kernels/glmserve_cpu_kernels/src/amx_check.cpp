#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "amx.h"
#include "pack.h"

namespace glm {
namespace {

// No whole number of panels, of tiles of rows, or of tiles of inputs.
constexpr int kOutputs = 40, kInputs = 168, kRows = 37, kGroup = 64;
constexpr int kAlone = 33;  // the row that is also computed alone

class Numbers {
 public:
  uint32_t next() { return state_ = state_ * 1664525u + 1013904223u; }
  float unit() { return float(next() >> 8) / float(1 << 23) - 1.0f; }  // from -1 to 1

 private:
  uint32_t state_ = 1;
};

uint16_t bfloat16(float x) { return uint16_t(__builtin_bit_cast(uint32_t, x) >> 16); }

struct Case {
  Linear linear{};
  std::vector<uint8_t> packed;
  std::vector<float> scales;

  Case(Format format, int limbs, const std::vector<uint8_t>& weights) {
    const bool is_float = format == Format::kBfloat16;
    linear.format = format;
    linear.outputs = kOutputs;
    linear.inputs = kInputs;
    linear.group = is_float ? 0 : kGroup;
    linear.weight_groups = 1;
    linear.limbs = limbs;
    packed.resize(packed_bytes(format, kOutputs, kInputs, linear.group));
    pack(format, weights.data(), kOutputs, kInputs, linear.group, packed.data());
    linear.weights = packed.data();
    if (is_float) return;
    scales.assign((kOutputs + kPanel - 1) / kPanel * kPanel, 0.25f);
    linear.scales = scales.data();
  }
  std::vector<float> product(const LinearKernels& kernels, const void* x, int rows, Type type) const {
    std::vector<float> y(size_t(rows) * kOutputs);
    kernels.linear(linear, x, rows, type, nullptr, y.data(), Type::kFloat32);
    return y;
  }
};

bool same(const std::vector<float>& a, const float* b) {
  return !std::memcmp(a.data(), b, a.size() * sizeof(float));
}

bool integers_agree(const LinearKernels& amx, const LinearKernels& reference) {
  Numbers numbers;
  std::vector<uint8_t> codes(kOutputs * kInputs);
  std::vector<float> x(kRows * kInputs);
  for (uint8_t& code : codes) code = uint8_t(numbers.next() >> 24);
  for (float& value : x) value = numbers.unit();
  for (Format format : {Format::kInt8, Format::kInt4})
    for (int limbs : {1, 2, 3}) {
      const Case of(format, limbs, codes);
      const auto want = of.product(reference, x.data(), kRows, Type::kFloat32);
      if (!same(of.product(amx, x.data(), kRows, Type::kFloat32), want.data())) return false;
    }
  return true;
}

const char* bfloat16_difference(const LinearKernels& amx, const LinearKernels& reference) {
  Numbers numbers;
  std::vector<uint8_t> weights(kOutputs * kInputs * sizeof(uint16_t));
  std::vector<uint16_t> x(kRows * kInputs);
  for (size_t i = 0; i < weights.size(); i += sizeof(uint16_t)) {
    const uint16_t weight = bfloat16(numbers.unit());
    std::memcpy(&weights[i], &weight, sizeof weight);
  }
  for (uint16_t& value : x) value = bfloat16(numbers.unit());
  const Case of(Format::kBfloat16, 0, weights);
  const auto got = of.product(amx, x.data(), kRows, Type::kBfloat16);
  const auto want = of.product(reference, x.data(), kRows, Type::kBfloat16);
  // Products are at most 1: each sum is off by at most a unit of float32 for each, then rounded.
  constexpr float kSums = kInputs * kInputs * 0x1p-24f, kRounding = 0x1p-7f;
  for (size_t i = 0; i < want.size(); i++)
    if (!(std::abs(got[i] - want[i]) <= kSums + kRounding * std::abs(want[i])))
      return "products of bfloat16 differ from the reference";
  const auto alone = of.product(amx, x.data() + kAlone * kInputs, 1, Type::kBfloat16);
  return same(alone, got.data() + kAlone * kOutputs) ? nullptr : "a row's product depends on other rows";
}

}  // namespace

const char* amx_difference(const LinearKernels& amx, const LinearKernels& reference) {
  if (!integers_agree(amx, reference)) return "products of integers differ from the reference";
  return bfloat16_difference(amx, reference);
}

}  // namespace glm
