// The work of a product with packed weights, and where its results go.
#pragma once

#include <algorithm>

#include "linear.h"
#include "pool.h"
#include "tiles.h"

namespace GLM_ISA {

using glm::Linear;
using glm::MostLikely;

constexpr int kRowsAtOnce = 240;  // with partial sums that stay in the cache
constexpr int kTasksPerThread = 8;
// Panels of a task, at least, if each thread still gets two tasks. A thread prefetches the panel behind its
// own; in tasks of one panel, another thread computes that one. So the product of 16 rows with 768 outputs
// took 1.2 times as long on two threads as on one.
constexpr int kPanelsInARow = 4;

// Where a product goes: rows of `linear.outputs` activations, or of their values as float32; or only the
// most likely outputs.
struct Output {
  const void* bias;
  void* y;
  bool is_wide;
  const MostLikely* most_likely = nullptr;
};

// Keeps the best of a row's 32 outputs from `first` on, if they are better than all before.
template <class Activation>
void compare(const typename Activation::Stored* outputs, int first, size_t row, const MostLikely& most) {
  const Floats bound = all(glm::number_of(most.best[row].load(std::memory_order_relaxed)));
  bool is_better = false;
  for (int i = 0; i < kPanel; i += kLanes)
    is_better |= any_not_below(Activation::load(outputs + i), bound);
  if (!is_better) return;
  const uint32_t allowed = most.allowed[first / kPanel];
  glm::Ranked best = glm::kNoOutput;
  for (int i = 0; i < kPanel; i++)
    if (allowed >> i & 1) best = std::max(best, glm::ranked(Activation::one(outputs[i]), first + i));
  most.offer(row, best);
}

// totals [rows, 32] to rows of the output from `row` on, from output `first` on.
template <class Activation>
void finish(const Linear& linear, int first, const float* totals, size_t row, int rows,
            const Output& output) {
  using Stored = typename Activation::Stored;
  const auto* bias = static_cast<const Stored*>(output.bias);
  const int outputs = std::min(kPanel, linear.outputs - first);
  if (output.most_likely && !output.most_likely->allowed[first / kPanel]) return;
  const bool is_kept = !output.is_wide && !output.most_likely;
  for (int r = 0; r < rows; r++, totals += kPanel) {
    alignas(64) Stored rounded[kPanel];
    const size_t at = (row + r) * linear.outputs + first;
    Stored* to = is_kept ? static_cast<Stored*>(output.y) + at : rounded;
    int i = 0;
    for (; i + kLanes <= outputs; i += kLanes) {
      Floats total = load(totals + i);
      if (linear.scales) total = mul(total, load(linear.scales + first + i));
      if (bias) total = add(total, Activation::load(bias + first + i));
      Activation::store(to + i, total);
    }
    for (; i < outputs; i++) {
      float total = totals[i];
      if (linear.scales) total *= linear.scales[first + i];
      if (bias) total += Activation::one(bias[first + i]);
      to[i] = Activation::one(total);
    }
    if (output.most_likely) {
      std::fill(to + outputs, to + kPanel, Stored{});
      compare<Activation>(to, first, row + r, *output.most_likely);
    }
    if (!output.is_wide) continue;
    auto* wide = static_cast<float*>(output.y) + at;
    for (i = 0; i < outputs; i++) wide[i] = Activation::one(rounded[i]);
  }
}

// Rows in groups of kRowsAtOnce, a multiple of all tile sizes; the last group may be smaller.
inline int row_blocks(int rows) { return (rows + kRowsAtOnce - 1) / kRowsAtOnce; }
inline int rows_of_block(int rows, int block) { return std::min(kRowsAtOnce, rows - block * kRowsAtOnce); }

// work(first row, rows) for every tile of at most `most` rows.
template <class Work>
void for_row_tiles(int rows, int most, Work work) {
  const int per_block = kRowsAtOnce / most;
  const int full = rows / kRowsAtOnce * per_block;
  const Tiling rest(rows % kRowsAtOnce, most);
  glm::run(full + rest.count, [&](int i) {
    if (i < full) return work(i * most, most);
    work(full * most + rest.first(i - full), rest.size(i - full));
  });
}

// work(panel, row block) for all panels and row blocks. A thread computes consecutive panels: while one
// is used, the next is prefetched.
template <class Work>
void for_panels(const Linear& linear, int rows, Work work) {
  const int panels = (linear.outputs + kPanel - 1) / kPanel, blocks = row_blocks(rows);
  const int threads = glm::threads();
  const int consecutive = std::min(kPanelsInARow, panels / (2 * threads));
  const Tiling runs(panels, std::max({1, consecutive, panels / (kTasksPerThread * threads)}));
  glm::run(runs.count * blocks, [&](int task) {
    const int run = task / blocks;
    for (int i = 0; i < runs.size(run); i++) work(runs.first(run) + i, task % blocks);
  });
}

}  // namespace GLM_ISA
