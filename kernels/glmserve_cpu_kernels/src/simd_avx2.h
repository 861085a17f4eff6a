// Vectors of 256 bits: AVX2 with FMA and F16C, and with AVX-VNNI where the compiler may use it.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace GLM_ISA {

using Floats = __m256;
using Ints = __m256i;
constexpr int kLanes = 8;

inline Floats zeros() { return _mm256_setzero_ps(); }
inline Floats all(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats load_half(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Floats load_bf16(const uint16_t* p) {
  __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
inline Floats load_codes(const int8_t* p) {
  __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

inline Ints int_zeros() { return _mm256_setzero_si256(); }
inline Ints all(int32_t x) { return _mm256_set1_epi32(x); }
inline Ints load_ints(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store_ints(void* p, Ints x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
inline Ints max(Ints a, Ints b) { return _mm256_max_epi32(a, b); }
template <int kBits>
inline Ints shift_left(Ints a) { return _mm256_slli_epi32(a, kBits); }
template <int kBits>
inline Ints shift_right(Ints a) { return _mm256_srli_epi32(a, kBits); }
inline Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }
inline Ints to_ints(Floats x) { return _mm256_cvtps_epi32(x); }
inline Ints bits_of(Floats x) { return _mm256_castps_si256(x); }
inline Floats floats_of(Ints x) { return _mm256_castsi256_ps(x); }
inline float sum(Floats x) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline float largest(Floats x) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline int32_t largest(Ints x) {
  __m128i s = _mm_max_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
inline Floats zero_below(Floats y, Floats x, Floats bound) {
  return _mm256_and_ps(_mm256_cmp_ps(x, bound, _CMP_GE_OQ), y);
}
inline Ints if_nan(Floats x, Ints y, Ints z) {
  return _mm256_blendv_epi8(z, y, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}
inline void store_low_halves(uint16_t* p, Ints x) {
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), halves);
}
inline bool any_at_least(Floats x, Floats bound) {
  return _mm256_movemask_ps(_mm256_cmp_ps(x, bound, _CMP_GE_OQ)) != 0;
}
inline bool any_not_below(Floats x, Floats bound) {
  return _mm256_movemask_ps(_mm256_cmp_ps(x, bound, _CMP_NLT_UQ)) != 0;
}

#if defined(__AVXVNNI__)
constexpr int kZero8 = 128;
inline Ints dot8(Ints total, Ints weights, Ints x) {  // not by an intrinsic, as in simd_avx512.h
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(total) : "x"(weights), "x"(x));
  return total;
}
inline Ints dot4(Ints total, Ints weights, Ints x, Ints next_weights, Ints next_x) {
  return dot8(dot8(total, weights, x), next_weights, next_x);
}
#else
// maddubs adds two products in 16 bits: 2 * 255 * 127 would not fit, 2 * 128 * 127 does. So codes of
// 8 bits are made signed again, and their signs given to the activations. Of 4 bits, 4 * 15 * 128 fits too.
constexpr int kZero8 = 0;
inline Ints add_pairs(Ints total, Ints pairs) {
  return _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Ints dot8(Ints total, Ints weights, Ints x) {
  Ints codes = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
  return add_pairs(total, _mm256_maddubs_epi16(_mm256_abs_epi8(codes), _mm256_sign_epi8(x, codes)));
}
inline Ints dot4(Ints total, Ints weights, Ints x, Ints next_weights, Ints next_x) {
  Ints pairs = _mm256_maddubs_epi16(weights, x), next = _mm256_maddubs_epi16(next_weights, next_x);
  return add_pairs(total, _mm256_add_epi16(pairs, next));
}
#endif

// And into 16.
constexpr int kFloatRows = 4;
constexpr int int_rows(int limbs) { return limbs == 1 ? 4 : 2; }
constexpr int columns_at_once(int rows) { return rows == 1 ? 4 : 2; }

}  // namespace GLM_ISA
