// The products of adapters: y[row] += B (A x[row]) + bias, for rows that are grouped by adapter.
//
// Both products read the adapter's numbers once for some rows at a time. A is read along its rows: each
// number of A x is one sum of vectors, whose lanes are added at the end. B lies in panels of 32 outputs,
// each with all ranks, and its sums run over the ranks.
//
// Every sum has one total and one order for any number of rows, so the bits of a row's result do not
// depend on the batch. A x stays in float32.

#include "lora.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "pool.h"
#include "tiles.h"

namespace GLM_ISA {

using glm::LoraAdapter;
using glm::LoraRows;
using glm::Type;

constexpr int kRanksAtOnce = 4;
constexpr int kMostRows = kLanes == 16 ? 4 : 2;  // of a tile, so that its totals fit into registers
constexpr int kRowsPerTask = 64;
constexpr int kPanelsPerTask = 16;
constexpr size_t kVectorBytes = sizeof(Floats);

// A part of the work: some rows of one group.
struct LoraTask {
  const LoraAdapter* adapter;
  const int64_t* rows;  // their indices
  int count;
  int part;             // ranks of A, or panels of B
  float* inner;         // [count, rank]: A x of these rows
};

template <class Activation>
using Dot = std::conditional_t<sizeof(typename Activation::Stored) == 4, Float32Dot, Bfloat16Dot>;

// The last numbers of a row, which fill no vector, and zeros.
inline Ints load_rest(const uint8_t* row, size_t bytes) {
  alignas(64) uint8_t padded[kVectorBytes] = {};
  std::memcpy(padded, row + bytes / kVectorBytes * kVectorBytes, bytes % kVectorBytes);
  return load_ints(padded);
}

// inner [kRows, rank], from rank `first` on: kRanks rows of A times kRows rows of x.
template <class D, int kRows, int kRanks>
void shrink_tile(const LoraTask& task, int row, int first, const uint8_t* x, size_t bytes) {
  const auto* a = static_cast<const uint8_t*>(task.adapter->a) + first * bytes;
  const uint8_t* at[kRows];
  for (int r = 0; r < kRows; r++) at[r] = x + task.rows[row + r] * bytes;
  Floats total[kRows][kRanks];
  for (int r = 0; r < kRows; r++)
    for (int i = 0; i < kRanks; i++) total[r][i] = zeros();
  size_t done = 0;
  for (; done + kVectorBytes <= bytes; done += kVectorBytes) {
    Ints numbers[kRows];
    for (int r = 0; r < kRows; r++) numbers[r] = load_ints(at[r] + done);
    for (int i = 0; i < kRanks; i++) {
      const Ints weights = load_ints(a + i * bytes + done);
      for (int r = 0; r < kRows; r++) total[r][i] = D::dot(total[r][i], weights, numbers[r]);
    }
  }
  if (done < bytes)
    for (int i = 0; i < kRanks; i++) {
      const Ints weights = load_rest(a + i * bytes, bytes);
      for (int r = 0; r < kRows; r++)
        total[r][i] = D::dot(total[r][i], weights, load_rest(at[r], bytes));
    }
  for (int r = 0; r < kRows; r++)
    for (int i = 0; i < kRanks; i++)
      task.inner[size_t(row + r) * task.adapter->rank + first + i] = sum(total[r][i]);
}

template <class D, int kRows, int kRanks = kRanksAtOnce>
void shrink_ranks(const LoraTask& task, int row, int first, int ranks, const uint8_t* x,
                  size_t bytes) {
  if constexpr (kRanks > 1) {
    if (ranks < kRanks) return shrink_ranks<D, kRows, kRanks - 1>(task, row, first, ranks, x, bytes);
  }
  shrink_tile<D, kRows, kRanks>(task, row, first, x, bytes);
}

template <class D, int kRows = kMostRows>
void shrink_rows(const LoraTask& task, int row, int rows, const uint8_t* x, size_t bytes) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return shrink_rows<D, kRows - 1>(task, row, rows, x, bytes);
  }
  const int first = task.part * kRanksAtOnce;
  const int ranks = std::min(kRanksAtOnce, task.adapter->rank - first);
  shrink_ranks<D, kRows>(task, row, first, ranks, x, bytes);
}

// y += total + bias, `count` numbers at most.
template <class Activation>
void add_to(Floats total, const typename Activation::Stored* bias, int count,
            typename Activation::Stored* y) {
  if (count >= kLanes) {
    if (bias) total = add(total, Activation::load(bias));
    return Activation::store(y, add(Activation::load(y), total));
  }
  alignas(64) float sums[kLanes];
  store(sums, total);
  for (int i = 0; i < count; i++) {
    const float added = bias ? sums[i] + Activation::one(bias[i]) : sums[i];
    y[i] = Activation::one(Activation::one(y[i]) + added);
  }
}

// y of kRows rows += one panel of B times `inner`, and the bias.
template <class Activation, int kRows>
void expand_tile(const LoraTask& task, int row, int panel, int outputs,
                 typename Activation::Stored* y) {
  using Stored = typename Activation::Stored;
  const LoraAdapter& adapter = *task.adapter;
  const int rank = adapter.rank, first = panel * kPanel;
  const Stored* b = static_cast<const Stored*>(adapter.b) + size_t(panel) * rank * kPanel;
  const float* inner = task.inner + size_t(row) * rank;
  Floats total[kRows][kVectors];
  for (int r = 0; r < kRows; r++)
    for (int v = 0; v < kVectors; v++) total[r][v] = zeros();
  for (int i = 0; i < rank; i++, b += kPanel)
    for (int v = 0; v < kVectors; v++) {
      const Floats weights = Activation::load(b + v * kLanes);
      for (int r = 0; r < kRows; r++)
        total[r][v] = fma(weights, all(inner[size_t(r) * rank + i]), total[r][v]);
    }
  const auto* bias = static_cast<const Stored*>(adapter.bias);
  for (int r = 0; r < kRows; r++)
    for (int v = 0; v < kVectors; v++) {
      const int at = first + v * kLanes;
      add_to<Activation>(total[r][v], bias ? bias + at : nullptr, outputs - at,
                         y + task.rows[row + r] * outputs + at);
    }
}

template <class Activation, int kRows = kMostRows>
void expand_rows(const LoraTask& task, int row, int rows, int panel, int outputs,
                 typename Activation::Stored* y) {
  if constexpr (kRows > 1) {
    if (rows < kRows)
      return expand_rows<Activation, kRows - 1>(task, row, rows, panel, outputs, y);
  }
  expand_tile<Activation, kRows>(task, row, panel, outputs, y);
}

// Blocks of rows of all groups whose adapter changes the module, and the memory of their A x.
struct LoraBlocks {
  std::vector<LoraTask> blocks;
  std::unique_ptr<float[]> inner;

  LoraBlocks(const LoraAdapter* slots, const LoraRows& rows) {
    size_t numbers = 0;
    for (int g = 0; g < rows.groups; g++)
      numbers += size_t(rows.starts[g + 1] - rows.starts[g]) * slots[rows.slots[g]].rank;
    inner.reset(new float[numbers]);
    float* at = inner.get();
    for (int g = 0; g < rows.groups; g++) {
      const LoraAdapter& adapter = slots[rows.slots[g]];
      if (!adapter.rank && !adapter.bias) continue;
      for (int64_t row = rows.starts[g]; row < rows.starts[g + 1]; row += kRowsPerTask) {
        const int count = int(std::min<int64_t>(kRowsPerTask, rows.starts[g + 1] - row));
        blocks.push_back({&adapter, rows.order + row, count, 0, at});
        at += size_t(count) * adapter.rank;
      }
    }
  }

  // Each block in as many parts as `parts_of` says.
  template <class PartsOf>
  std::vector<LoraTask> tasks(PartsOf parts_of) const {
    std::vector<LoraTask> found;
    for (LoraTask block : blocks)
      for (block.part = 0; block.part < parts_of(*block.adapter); block.part++)
        found.push_back(block);
    return found;
  }
};

template <class Activation>
void add_of(const LoraAdapter* slots, const LoraRows& rows, const void* x, int inputs, int outputs,
            void* y) {
  using Stored = typename Activation::Stored;
  const LoraBlocks all_rows(slots, rows);
  if (all_rows.blocks.empty()) return;
  const size_t bytes = size_t(inputs) * sizeof(Stored);
  const auto shrinking = all_rows.tasks([](const LoraAdapter& adapter) {
    return (adapter.rank + kRanksAtOnce - 1) / kRanksAtOnce;
  });
  glm::run(int(shrinking.size()), [&](int i) {
    const LoraTask& task = shrinking[i];
    for (int row = 0; row < task.count; row += kMostRows)
      shrink_rows<Dot<Activation>>(task, row, std::min(kMostRows, task.count - row),
                                   static_cast<const uint8_t*>(x), bytes);
  });
  const int panels = (outputs + kPanel - 1) / kPanel;
  const auto expanding = all_rows.tasks([&](const LoraAdapter&) {
    return (panels + kPanelsPerTask - 1) / kPanelsPerTask;
  });
  glm::run(int(expanding.size()), [&](int i) {
    const LoraTask& task = expanding[i];
    const int first = task.part * kPanelsPerTask, last = std::min(panels, first + kPanelsPerTask);
    for (int panel = first; panel < last; panel++)
      for (int row = 0; row < task.count; row += kMostRows)
        expand_rows<Activation>(task, row, std::min(kMostRows, task.count - row), panel, outputs,
                                static_cast<Stored*>(y));
  });
}

void add_lora(const LoraAdapter* slots, const LoraRows& rows, Type type, const void* x, int inputs,
              int outputs, void* y) {
  (type == Type::kFloat32 ? add_of<Fp32> : add_of<Bf16>)(slots, rows, x, inputs, outputs, y);
}

extern const glm::LoraKernels lora_kernels;
const glm::LoraKernels lora_kernels{add_lora};

}  // namespace GLM_ISA
