// The most likely output of each row of a product, found panel by panel instead of storing the outputs.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

namespace glm {

// An output's number and its index in one integer. Greater is more likely: the greater number; of equals
// the lower index; a NaN is greater than all numbers, so it tells that the row is not finite.
using Ranked = uint64_t;
constexpr Ranked kNoOutput = 0;  // less than all; its number is a NaN

inline Ranked ranked(float number, int32_t index) {
  uint32_t bits = __builtin_bit_cast(uint32_t, number + 0.0f);  // -0 becomes 0: they are equal
  bits = bits >> 31 ? ~bits : bits | 0x80000000;
  if (std::isnan(number)) bits = 0xffffffff;
  return Ranked(bits) << 32 | (0xffffffff - uint32_t(index));
}
inline float number_of(Ranked ranked) {
  const auto bits = uint32_t(ranked >> 32);
  return __builtin_bit_cast(float, bits >> 31 ? bits ^ 0x80000000 : ~bits);
}
inline int32_t index_of(Ranked ranked) { return int32_t(0xffffffff - uint32_t(ranked)); }

struct MostLikely {
  const uint32_t* allowed;    // a bit for each output, 32 in a panel's word, the lowest first
  std::atomic<Ranked>* best;  // [rows], from kNoOutput on

  void offer(size_t row, Ranked candidate) const {
    Ranked known = best[row].load(std::memory_order_relaxed);
    while (candidate > known &&
           !best[row].compare_exchange_weak(known, candidate, std::memory_order_relaxed)) {
    }
  }
};

}  // namespace glm
