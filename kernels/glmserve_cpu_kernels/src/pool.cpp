#include "pool.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "cpu_choice.h"
#include "pause.h"

namespace glm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kLookingForWork = std::chrono::microseconds(60);
constexpr int kLooksForTheEnd = 2000;

// A round is one call of run(). Threads take its tasks from `state_`, so one that is late, or not
// scheduled on a busy machine, takes none, and no thread waits for it.
class Pool {
 public:
  void resize(int count) {
    std::lock_guard hold(busy_);
    if (count == size()) return;
    stop();
    stopping_ = false;
    for (int i = 1; i < count; i++) {
      Worker& worker = workers_.emplace_back();
      worker.thread = std::thread([this, &worker, seen = round_of(state_.load())] { serve(seen, worker); });
    }
    size_ = count;
  }

  int size() const { return size_; }

  void run(int tasks, const std::function<void(int)>& work) {
    std::unique_lock hold(busy_, std::try_to_lock);
    if (!hold || workers_.empty() || tasks <= 1) {
      for (int task = 0; task < tasks; task++) work(task);
      return;
    }
    work_.store(&work, std::memory_order_relaxed);
    tasks_.store(tasks, std::memory_order_relaxed);
    left_.store(tasks, std::memory_order_relaxed);
    const uint64_t round = round_of(state_.load(std::memory_order_relaxed)) + 1;
    state_.store(round << 32 | uint64_t(tasks), std::memory_order_release);
    for (Worker& worker : workers_) worker.cpu.avoid_this_cpu();
    state_.notify_all();
    take_tasks(round);
    for (int i = 0; i < kLooksForTheEnd; i++) {
      if (!left_.load(std::memory_order_acquire)) return;
      pause();
    }
    for (int left; (left = left_.load(std::memory_order_acquire));) left_.wait(left);
  }

 private:
  struct Worker {
    std::thread thread;
    CpuChoice cpu;
  };

  static uint64_t round_of(uint64_t state) { return state >> 32; }

  // A taken task keeps its round open, so `work_` and `tasks_` do not change. Before a task is taken
  // they may belong to the next round already, so only `state_` shows whether there is a task to take.
  void take_tasks(uint64_t round) {
    uint64_t state = state_.load(std::memory_order_acquire);
    while (round_of(state) == round) {
      const int remaining = int(state & 0xffffffff);
      if (remaining == 0) return;
      if (!state_.compare_exchange_weak(state, state - 1, std::memory_order_acq_rel)) continue;
      (*work_.load(std::memory_order_relaxed))(tasks_.load(std::memory_order_relaxed) - remaining);
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_one();
      state = state_.load(std::memory_order_acquire);
    }
  }

  void serve(uint64_t seen, Worker& self) {
    for (;;) {
      seen = round_of(wait_for_round_after(seen, self));
      if (stopping_) return;
      take_tasks(seen);
    }
  }

  uint64_t wait_for_round_after(uint64_t seen, Worker& self) {
    for (auto start = Clock::now(); Clock::now() - start < kLookingForWork;) {
      for (int i = 0; i < 16; i++) {
        const uint64_t state = state_.load(std::memory_order_acquire);
        if (round_of(state) != seen) return state;
        pause();
      }
    }
    for (;;) {
      const uint64_t state = state_.load(std::memory_order_acquire);
      if (round_of(state) != seen) return state;
      self.cpu.before_sleep();
      state_.wait(state, std::memory_order_acquire);
      self.cpu.after_sleep();
    }
  }

  void stop() {
    stopping_ = true;
    state_.store((round_of(state_.load()) + 1) << 32);
    state_.notify_all();
    for (Worker& worker : workers_) worker.thread.join();
    workers_.clear();
  }

  std::mutex busy_;
  std::deque<Worker> workers_;
  std::atomic<int> size_{1};
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> state_{0};  // round, and in the lower half its tasks that are left to take
  std::atomic<int> tasks_{0}, left_{0};
  std::atomic<const std::function<void(int)>*> work_{nullptr};
};

Pool& pool() {
  static Pool* one = new Pool;  // never destroyed: threads may outlive static destructors
  return *one;
}

}  // namespace

void set_threads(int count) { pool().resize(count); }
int threads() { return pool().size(); }
void run(int tasks, const std::function<void(int)>& work) { pool().run(tasks, work); }

}  // namespace glm
