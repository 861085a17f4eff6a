// The vector operations of the kernels, for the instruction set that this file is compiled for.
// build.py compiles every kernel file once per instruction set, each in its own namespace (GLM_ISA).
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__AVX512VNNI__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#elif defined(__aarch64__)
#include "simd_neon.h"
#endif

namespace GLM_ISA {

#if !defined(GLM_HAS_BF16)
inline Floats dot_bf16(Floats total, Ints weights, Ints x) {
  const Ints high = all(static_cast<int32_t>(0xffff0000));
  total = fma(floats_of(shift_left<16>(weights)), floats_of(shift_left<16>(x)), total);
  return fma(floats_of(bit_and(weights, high)), floats_of(bit_and(x, high)), total);
}
// Rounds to nearest, ties to even.
inline void store_bf16(uint16_t* p, Floats x) {
  const Ints bits = bits_of(x), is_odd = bit_and(shift_right<16>(bits), all(1));
  const Ints rounded = shift_right<16>(add(bits, add(is_odd, all(0x7fff))));
  store_low_halves(p, if_nan(x, all(0x7fc0), rounded));
}
#endif

inline Ints broadcast(const void* four_bytes) {
  int32_t word;
  __builtin_memcpy(&word, four_bytes, sizeof word);
  return all(word);
}

// Activations are bfloat16 or float32.
struct Bf16 {
  using Stored = uint16_t;
  static Floats load(const Stored* p) { return load_bf16(p); }
  static void store(Stored* p, Floats x) { store_bf16(p, x); }
  static float one(Stored x) { return __builtin_bit_cast(float, static_cast<uint32_t>(x) << 16); }
  static Stored one(float x) {
    uint32_t bits = __builtin_bit_cast(uint32_t, x);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fc0;  // NaN
    return static_cast<Stored>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
};
struct Fp32 {
  using Stored = float;
  static Floats load(const Stored* p) { return GLM_ISA::load(p); }
  static void store(Stored* p, Floats x) { GLM_ISA::store(p, x); }
  static float one(Stored x) { return x; }
};

}  // namespace GLM_ISA
