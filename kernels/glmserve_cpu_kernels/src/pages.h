// How the system keeps memory.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace glm {

// Large pages, if the system has any: what is read end to end, or all over the place, costs a look-up
// for each small one.
inline void ask_for_large_pages(void* start, size_t bytes) {
  constexpr uintptr_t kPage = 1 << 21;
  const auto first = (reinterpret_cast<uintptr_t>(start) + kPage - 1) / kPage * kPage;
  const auto last = (reinterpret_cast<uintptr_t>(start) + bytes) / kPage * kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace glm
