// A hint to the CPU that a loop waits.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace glm {

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // as long as x86's; YIELD takes no time on most cores
#endif
}

}  // namespace glm
