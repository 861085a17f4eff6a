// Huge pages of the operating system (madvise(2), MADV_HUGEPAGE).
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace glm {

// Asks the system for huge pages. Each small page of a large array would cost a look-up of its own in
// the page table.
inline void ask_for_huge_pages(void* start, size_t bytes) {
  constexpr uintptr_t kPage = 1 << 21;
  const auto first = (reinterpret_cast<uintptr_t>(start) + kPage - 1) / kPage * kPage;
  const auto last = (reinterpret_cast<uintptr_t>(start) + bytes) / kPage * kPage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
}

}  // namespace glm
