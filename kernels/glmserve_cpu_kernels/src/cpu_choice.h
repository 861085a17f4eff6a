// Where a thread wakes up.
//
// Linux often wakes a thread on the CPU of the thread that wakes it, though another CPU is idle. The two
// threads then share one CPU for some milliseconds: after a pause, a prompt of 128 tokens took 1.2 times as long (two CPUs,
// Linux 6.18).
#pragma once

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>

namespace glm {

class CpuChoice {
  using Clock = std::chrono::steady_clock;
  // Shorter sleeps are left to Linux: between two steps the server process runs on one of these CPUs, and
  // it should delay the thread that sleeps, not the one that wakes it.
  static constexpr auto kLongSleep = std::chrono::milliseconds(1);

 public:
  // By the thread itself.
  void before_sleep() {
    since_.store(Clock::now(), std::memory_order_relaxed);
    sleeper_.store(pid_t(syscall(SYS_gettid)), std::memory_order_release);
  }

  // By the thread itself: it may run on all its CPUs again.
  void after_sleep() {
    sleeper_.store(kNone, std::memory_order_relaxed);
    const int avoided = avoided_.exchange(kNone, std::memory_order_acquire);
    cpu_set_t allowed;
    if (avoided == kNone || sched_getaffinity(0, sizeof allowed, &allowed)) return;
    CPU_SET(avoided, &allowed);
    sched_setaffinity(0, sizeof allowed, &allowed);
  }

  // By the thread that is about to wake it: after a long sleep it wakes up on another CPU than this one, if
  // it may run on another one.
  void avoid_this_cpu() {
    const pid_t thread = sleeper_.load(std::memory_order_acquire);
    if (thread == kNone || Clock::now() - since_.load(std::memory_order_relaxed) < kLongSleep) return;
    const int cpu = sched_getcpu();
    cpu_set_t allowed;
    if (cpu < 0 || sched_getaffinity(thread, sizeof allowed, &allowed)) return;
    if (!CPU_ISSET(cpu, &allowed) || CPU_COUNT(&allowed) == 1) return;
    CPU_CLR(cpu, &allowed);
    if (!sched_setaffinity(thread, sizeof allowed, &allowed)) avoided_.store(cpu, std::memory_order_release);
  }

 private:
  static constexpr int kNone = -1;
  std::atomic<pid_t> sleeper_{kNone};  // the thread while it sleeps
  std::atomic<Clock::time_point> since_{};
  std::atomic<int> avoided_{kNone};  // the CPU that it may run on again when it is awake
};

}  // namespace glm
