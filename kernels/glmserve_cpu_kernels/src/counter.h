// A number in memory that several processes have mapped: one counts, others wait for it.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

#include "pause.h"

namespace glm {

// It may wrap around; waiting ranks are less than 2^31 behind.
struct alignas(64) Counter {
  std::atomic<uint32_t> value;

  void show(uint32_t number) {
    value.store(number, std::memory_order_release);
    syscall(SYS_futex, &value, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }

  // Waits until at least `number` was shown.
  void wait_for(uint32_t number) {
    constexpr int kLooks = 2000;  // some ten microseconds; then the kernel is asked to wake us
    for (int i = 0;; i++) {
      const uint32_t seen = value.load(std::memory_order_acquire);
      if (int32_t(seen - number) >= 0) return;
      if (i < kLooks)
        pause();
      else
        syscall(SYS_futex, &value, FUTEX_WAIT, seen, nullptr, nullptr, 0);
    }
  }
};
static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(Counter) == 64);

}  // namespace glm
