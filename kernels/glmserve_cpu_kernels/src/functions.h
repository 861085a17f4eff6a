// Functions of vectors that more than one kernel needs.
#pragma once

#include <algorithm>

#include "simd.h"

namespace GLM_ISA {

// e^x to float32's precision, for x from -87 (lower x count as -87) to 87: 2^whole times Cephes'
// polynomial for the remainder.
inline Floats exp(Floats x) {
  x = max(all(-87.0f), min(all(87.0f), x));  // in this order a NaN stays one
  const Ints whole = to_ints(mul(x, all(1.44269504f)));
  const Floats n = to_floats(whole);
  x = fma(n, all(-0.693359375f), x);
  x = fma(n, all(2.12194440e-4f), x);
  Floats y = all(1.9875691500e-4f);
  y = fma(y, x, all(1.3981999507e-3f));
  y = fma(y, x, all(8.3334519073e-3f));
  y = fma(y, x, all(4.1665795894e-2f));
  y = fma(y, x, all(1.6666665459e-1f));
  y = fma(y, x, all(5.0000001201e-1f));
  y = fma(y, mul(x, x), add(x, all(1.0f)));
  return floats_of(add(bits_of(y), shift_left<23>(whole)));
}

// 0 for x below -87 and for a NaN; multiplying by x gives the NaN again.
inline Floats sigmoid(Floats x) {
  const Floats y = div(all(1.0f), add(all(1.0f), exp(sub(zeros(), x))));
  return zero_below(y, x, all(-87.0f));
}

}  // namespace GLM_ISA
