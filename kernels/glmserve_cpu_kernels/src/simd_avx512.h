// Vectors of 512 bits: AVX-512 with VNNI, and with BF16 where the compiler may use it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace GLM_ISA {

using Floats = __m512;
using Ints = __m512i;
constexpr int kLanes = 16;

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats all(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats load_half(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Floats load_bf16(const uint16_t* p) {
  __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
inline Floats load_codes(const int8_t* p) {
  __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes));
}

inline Ints int_zeros() { return _mm512_setzero_si512(); }
inline Ints all(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints load_ints(const void* p) { return _mm512_loadu_si512(p); }
inline void store_ints(void* p, Ints x) { _mm512_storeu_si512(p, x); }
inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
inline Ints max(Ints a, Ints b) { return _mm512_max_epi32(a, b); }
template <int kBits>
inline Ints shift_left(Ints a) { return _mm512_slli_epi32(a, kBits); }
template <int kBits>
inline Ints shift_right(Ints a) { return _mm512_srli_epi32(a, kBits); }
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }  // rounds to nearest
inline Ints bits_of(Floats x) { return _mm512_castps_si512(x); }
inline Floats floats_of(Ints x) { return _mm512_castsi512_ps(x); }
inline float sum(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largest(Floats x) { return _mm512_reduce_max_ps(x); }
inline int32_t largest(Ints x) { return _mm512_reduce_max_epi32(x); }
inline Floats zero_below(Floats y, Floats x, Floats bound) {  // y where x >= bound, else 0
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_GE_OQ), y);
}
inline Ints if_nan(Floats x, Ints y, Ints z) {  // y where x is a NaN, else z
  return _mm512_mask_mov_epi32(z, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), y);
}
inline void store_low_halves(uint16_t* p, Ints x) {  // numbers of 16 bits, unsigned
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x));
}
inline bool any_at_least(Floats x, Floats bound) {
  return _mm512_cmp_ps_mask(x, bound, _CMP_GE_OQ) != 0;
}
inline bool any_not_below(Floats x, Floats bound) {  // true for a NaN
  return _mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ) != 0;
}

// 32-bit sums of products of codes: four of 8 bits (code + kZero8, unsigned), or twice four of 4 (code + 8).
constexpr int kZero8 = 128;
// Not by intrinsics: g++ 12 copies a total that an intrinsic returns to another register and back in each
// step, so products took 1.4 times as long (Zen 5).
inline Ints dot8(Ints total, Ints weights, Ints x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(total) : "v"(weights), "v"(x));
  return total;
}
inline Ints dot4(Ints total, Ints weights, Ints x, Ints next_weights, Ints next_x) {
  return dot8(dot8(total, weights, x), next_weights, next_x);
}

// Rows of a tile, so that its totals, weights and an activation fit into 32 registers.
constexpr int kFloatRows = 12;
constexpr int int_rows(int limbs) { return limbs == 1 ? 8 : limbs == 2 ? 4 : 2; }
constexpr int columns_at_once(int) { return 2; }

#if defined(__AVX512BF16__)
#define GLM_HAS_BF16
inline Floats dot_bf16(Floats total, Ints weights, Ints x) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(total) : "v"(weights), "v"(x));
  return total;
}
inline void store_bf16(uint16_t* p, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(x));
}
#endif

}  // namespace GLM_ISA
