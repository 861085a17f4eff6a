// Vectors of ARM: four of 128 bits at a time, so that a number's lane is the same as with AVX-512, and
// sums over lanes have the same bits.
//
// The product of codes is SDOT where the compiler may use it, or USDOT (i8mm), else widening products.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace GLM_ISA {

struct Floats {
  float32x4_t v[4];
};
struct Ints {
  int32x4_t v[4];
};
constexpr int kLanes = 16;

template <class Work>
inline Floats floats_by(Work work) {
  return {{work(0), work(1), work(2), work(3)}};
}
template <class Work>
inline Ints ints_by(Work work) {
  return {{work(0), work(1), work(2), work(3)}};
}

inline Floats all(float x) {
  return floats_by([=](int) { return vdupq_n_f32(x); });
}
inline Floats zeros() { return all(0.0f); }
inline Floats load(const float* p) {
  return floats_by([=](int i) { return vld1q_f32(p + 4 * i); });
}
inline void store(float* p, Floats x) {
  for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.v[i]);
}
inline Floats add(Floats a, Floats b) {
  return floats_by([&](int i) { return vaddq_f32(a.v[i], b.v[i]); });
}
inline Floats sub(Floats a, Floats b) {
  return floats_by([&](int i) { return vsubq_f32(a.v[i], b.v[i]); });
}
inline Floats mul(Floats a, Floats b) {
  return floats_by([&](int i) { return vmulq_f32(a.v[i], b.v[i]); });
}
inline Floats div(Floats a, Floats b) {
  return floats_by([&](int i) { return vdivq_f32(a.v[i], b.v[i]); });
}
inline Floats fma(Floats a, Floats b, Floats c) {
  return floats_by([&](int i) { return vfmaq_f32(c.v[i], a.v[i], b.v[i]); });
}
// Of two numbers one of which is a NaN, the second, as on x86.
inline Floats max(Floats a, Floats b) {
  return floats_by([&](int i) { return vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline Floats min(Floats a, Floats b) {
  return floats_by([&](int i) { return vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i]); });
}
inline Floats load_half(const uint16_t* p) {
  return floats_by([=](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
inline Floats load_bf16(const uint16_t* p) {
  return floats_by([=](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
}
inline Floats load_codes(const int8_t* p) {
  const int8x16_t codes = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_s8(vget_high_s8(codes));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
           vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}

inline Ints all(int32_t x) {
  return ints_by([=](int) { return vdupq_n_s32(x); });
}
inline Ints int_zeros() { return all(int32_t{0}); }
inline Ints load_ints(const void* p) {
  return ints_by([=](int i) { return vld1q_s32(static_cast<const int32_t*>(p) + 4 * i); });
}
inline void store_ints(void* p, Ints x) {
  for (int i = 0; i < 4; i++) vst1q_s32(static_cast<int32_t*>(p) + 4 * i, x.v[i]);
}
inline Ints add(Ints a, Ints b) {
  return ints_by([&](int i) { return vaddq_s32(a.v[i], b.v[i]); });
}
inline Ints bit_and(Ints a, Ints b) {
  return ints_by([&](int i) { return vandq_s32(a.v[i], b.v[i]); });
}
inline Ints max(Ints a, Ints b) {
  return ints_by([&](int i) { return vmaxq_s32(a.v[i], b.v[i]); });
}
template <int kBits>
inline Ints shift_left(Ints a) {
  return ints_by([&](int i) { return vshlq_n_s32(a.v[i], kBits); });
}
template <int kBits>
inline Ints shift_right(Ints a) {
  return ints_by([&](int i) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(a.v[i]), kBits));
  });
}
inline Floats to_floats(Ints x) {
  return floats_by([&](int i) { return vcvtq_f32_s32(x.v[i]); });
}
inline Ints to_ints(Floats x) {  // rounds to nearest
  return ints_by([&](int i) { return vcvtnq_s32_f32(x.v[i]); });
}
inline Ints bits_of(Floats x) {
  return ints_by([&](int i) { return vreinterpretq_s32_f32(x.v[i]); });
}
inline Floats floats_of(Ints x) {
  return floats_by([&](int i) { return vreinterpretq_f32_s32(x.v[i]); });
}
inline float sum(Floats x) {  // halves are added until one number is left
  const float32x4_t four = vaddq_f32(vaddq_f32(x.v[1], x.v[3]), vaddq_f32(x.v[0], x.v[2]));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
inline float largest(Floats x) {
  const Floats halves = max(Floats{{x.v[2], x.v[3], x.v[2], x.v[3]}}, Floats{{x.v[0], x.v[1], x.v[0], x.v[1]}});
  alignas(16) float four[4];
  vst1q_f32(four, vbslq_f32(vcgtq_f32(halves.v[1], halves.v[0]), halves.v[1], halves.v[0]));
  const float even = four[0] > four[2] ? four[0] : four[2], odd = four[1] > four[3] ? four[1] : four[3];
  return even > odd ? even : odd;
}
inline int32_t largest(Ints x) {
  return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.v[0], x.v[1]), vmaxq_s32(x.v[2], x.v[3])));
}
inline Floats zero_below(Floats y, Floats x, Floats bound) {  // y where x >= bound, else 0
  return floats_by([&](int i) {
    return vreinterpretq_f32_u32(
        vandq_u32(vcgeq_f32(x.v[i], bound.v[i]), vreinterpretq_u32_f32(y.v[i])));
  });
}
inline Ints if_nan(Floats x, Ints y, Ints z) {  // y where x is a NaN, else z
  return ints_by([&](int i) { return vbslq_s32(vceqq_f32(x.v[i], x.v[i]), z.v[i], y.v[i]); });
}
inline void store_low_halves(uint16_t* p, Ints x) {  // numbers of 16 bits, unsigned
  for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vmovn_u32(vreinterpretq_u32_s32(x.v[i])));
}
inline bool any_at_least(Floats x, Floats bound) {
  uint32x4_t found = vdupq_n_u32(0);
  for (int i = 0; i < 4; i++) found = vorrq_u32(found, vcgeq_f32(x.v[i], bound.v[i]));
  return vmaxvq_u32(found) != 0;
}
inline bool any_not_below(Floats x, Floats bound) {  // true for a NaN
  uint32x4_t below = vdupq_n_u32(0xffffffff);
  for (int i = 0; i < 4; i++) below = vandq_u32(below, vcltq_f32(x.v[i], bound.v[i]));
  return vminvq_u32(below) == 0;
}

// 32-bit sums of products of codes: four of 8 bits (code + kZero8, unsigned), or twice four of 4 (code + 8).
inline int32x4_t dot(int32x4_t total, int8x16_t weights, int8x16_t x) {
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(total, weights, x);
#else
  const int16x8_t low = vmull_s8(vget_low_s8(weights), vget_low_s8(x));
  const int16x8_t high = vmull_s8(vget_high_s8(weights), vget_high_s8(x));
  return vaddq_s32(total, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
#endif
}
inline Ints dot_signed(Ints total, Ints weights, Ints x) {
  return ints_by([&](int i) {
    return dot(total.v[i], vreinterpretq_s8_s32(weights.v[i]), vreinterpretq_s8_s32(x.v[i]));
  });
}
inline Ints dot4(Ints total, Ints weights, Ints x, Ints next_weights, Ints next_x) {
  return dot_signed(dot_signed(total, weights, x), next_weights, next_x);
}
#if defined(__ARM_FEATURE_MATMUL_INT8)
constexpr int kZero8 = 128;
inline Ints dot8(Ints total, Ints weights, Ints x) {
  return ints_by([&](int i) {
    return vusdotq_s32(total.v[i], vreinterpretq_u8_s32(weights.v[i]), vreinterpretq_s8_s32(x.v[i]));
  });
}
#else
constexpr int kZero8 = 0;
inline Ints dot8(Ints total, Ints weights, Ints x) {
  const int32x4_t sign = vreinterpretq_s32_u8(vdupq_n_u8(0x80));
  return dot_signed(total, ints_by([&](int i) { return veorq_s32(weights.v[i], sign); }), x);
}
#endif

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define GLM_HAS_BF16
inline Floats dot_bf16(Floats total, Ints weights, Ints x) {
  return floats_by([&](int i) {
    return vbfdotq_f32(total.v[i], vreinterpretq_bf16_s32(weights.v[i]),
                       vreinterpretq_bf16_s32(x.v[i]));
  });
}
inline void store_bf16(uint16_t* p, Floats x) {
  for (int i = 0; i < 4; i++)
    vst1_u16(p + 4 * i, vreinterpret_u16_bf16(vcvt_bf16_f32(x.v[i])));
}
#endif

// Rows of a tile, so that its totals, weights and an activation fit into 32 registers of 128 bits.
constexpr int kFloatRows = 6;
constexpr int int_rows(int limbs) { return limbs == 1 ? 4 : limbs == 2 ? 2 : 1; }
constexpr int columns_at_once(int rows) { return rows == 1 ? 2 : 1; }

}  // namespace GLM_ISA
