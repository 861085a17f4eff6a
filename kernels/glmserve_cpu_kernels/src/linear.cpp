// Matrix products of activations with packed weights.
//
// Weights lie in panels of 32 outputs. Within a panel come steps: for each output four bytes, which
// are one float32 input, two of bfloat16, four codes of 8 bits, or eight of 4 bits (the first four in
// the low halves). So one step is 128 bytes, read in order, and an activation's part in a step is
// four bytes too (a pair of steps for codes of 4 bits), which are broadcast to all outputs.
//
// Every sum is computed input by input in one total for any number of rows, so the bits of a row's
// result do not depend on the batch.
//
// Activations for integer weights are integers as well, see integers.h.

#include "linear.h"

#include <algorithm>
#include <memory>

#include "integers.h"
#include "panels.h"
#include "tiles.h"

namespace GLM_ISA {

using glm::Format;
using glm::Linear;
using glm::Type;

constexpr int kBlockSteps = 2048;  // of a panel that stay in the second-level cache

// --- tiles of integers -----------------------------------------------------------------------------

template <int kBits, int kLimbs, int kTile>
void int_tile(const Linear& linear, const Integers& x, int row, const uint8_t* weights,
              const uint16_t* group_scales, Ahead<Level::kFirst> ahead, float* totals) {
  constexpr int kColumns = columns_at_once(kTile);
  const Ints low = all(0x0f0f0f0f);
  constexpr int kWord = 4 * kLimbs * kTile;  // of codes, for four inputs
  const int steps = linear.group * kBits / 32;
  const int groups_per_scale = x.groups / linear.weight_groups;
  for (int first = 0; first < kVectors; first += kColumns) {
    Floats total[kTile][kColumns];
    for (int r = 0; r < kTile; r++)
      for (int c = 0; c < kColumns; c++) total[r][c] = zeros();
    const uint8_t* step = weights + first * sizeof(Ints);
    const int8_t* codes = x.codes.get() + size_t(row) * kLimbs * x.inputs;
    for (int g = 0; g < x.groups; g++) {
      Ints exact[kLimbs][kTile][kColumns];
      for (int l = 0; l < kLimbs; l++)
        for (int r = 0; r < kTile; r++)
          for (int c = 0; c < kColumns; c++)
            exact[l][r][c] = all(x.offsets[(size_t(row + r) * x.groups + g) * kLimbs + l]);
      for (int s = 0; s < steps; s++, step += kStepBytes, codes += kWord * 8 / kBits) {
        ahead.fetch(size_t(g) * steps + s);
        Ints w[kColumns], later[kColumns];
        for (int c = 0; c < kColumns; c++) {
          w[c] = load_ints(step + c * sizeof(Ints));
          later[c] = bit_and(shift_right<4>(w[c]), low);
          if (kBits == 4) w[c] = bit_and(w[c], low);
        }
        for (int l = 0; l < kLimbs; l++)
          for (int r = 0; r < kTile; r++) {
            const int8_t* at = codes + 4 * (l * kTile + r);
            const Ints a = broadcast(at);
            const Ints b = kBits == 8 ? a : broadcast(at + kWord);
            for (int c = 0; c < kColumns; c++) {
              Ints& sum = exact[l][r][c];
              sum = kBits == 8 ? dot8(sum, w[c], a) : dot4(sum, w[c], a, later[c], b);
            }
          }
      }
      for (int r = 0; r < kTile; r++) {
        const size_t at = size_t(row + r) * x.groups + g;
        const Floats scale = all(x.scales[at]);
        for (int c = 0; c < kColumns; c++) {
          Floats product = joined<kLimbs>([&](int l) { return exact[l][r][c]; });
          if (group_scales) {
            const uint16_t* of_group = group_scales + g / groups_per_scale * kPanel;
            product = mul(product, load_half(of_group + (first + c) * kLanes));
          }
          total[r][c] = fma(product, scale, total[r][c]);
        }
      }
    }
    for (int r = 0; r < kTile; r++)
      for (int c = 0; c < kColumns; c++)
        store(totals + r * kPanel + (first + c) * kLanes, total[r][c]);
  }
}

// --- rows of any number ----------------------------------------------------------------------------

template <int kBits, int kLimbs, int kMost = int_rows(kLimbs)>
void int_tiles(int rows, const Linear& linear, const Integers& x, int row, const uint8_t* weights,
               const uint16_t* group_scales, Ahead<Level::kFirst> ahead, float* totals) {
  if constexpr (kMost > 1) {
    if (rows < kMost)
      return int_tiles<kBits, kLimbs, kMost - 1>(rows, linear, x, row, weights, group_scales, ahead,
                                                 totals);
  }
  int_tile<kBits, kLimbs, kMost>(linear, x, row, weights, group_scales, ahead, totals);
}

// x [rows, steps] to [steps, rows of the tile] for each tile, so that tiles read it in order. Rows with
// a power of two as distance would evict each other from the cache.
std::unique_ptr<uint32_t[]> interleave(const uint32_t* x, int rows, size_t steps) {
  std::unique_ptr<uint32_t[]> out(new uint32_t[rows * steps]);
  for_row_tiles(rows, kFloatRows, [&](int first, int n) {
    const uint32_t* from = x + first * steps;
    uint32_t* to = out.get() + first * steps;
    for (size_t s = 0; s < steps; s++)
      for (int r = 0; r < n; r++) *to++ = from[r * steps + s];
  });
  return out;
}

// Where a panel is fetched to was measured: two tiles are 1.2 times as fast with the second level (Zen 4,
// one thread), and a single one 1.02 times with the first level alone (Zen 5); for other numbers of rows
// the first level is as fast or faster.
template <class Activation, class Dot>
void float_linear(const Linear& linear, const void* x, int rows, const Output& output) {
  using Stored = typename Activation::Stored;
  const size_t steps = size_t(linear.inputs) * sizeof(Stored) / 4;
  const auto* in_rows = static_cast<const uint32_t*>(x);
  const auto in_tiles = rows == 1 ? nullptr : interleave(in_rows, rows, steps);
  const uint32_t* activations = rows == 1 ? in_rows : in_tiles.get();
  for_panels(linear, rows, [&](int panel, int row_block) {
    alignas(64) float totals[kRowsAtOnce * kPanel];
    const Tiling tiles(rows_of_block(rows, row_block), kFloatRows);
    const size_t row = size_t(row_block) * kRowsAtOnce;
    std::fill_n(totals, tiles.rows * kPanel, 0.0f);
    const auto* weights = static_cast<const uint8_t*>(linear.weights) + panel * steps * kStepBytes;
    const size_t most = tiles.count > 1 ? kBlockSteps : steps;
    for (size_t step = 0; step < steps; step += most) {
      const size_t some = std::min(most, steps - step), bytes = some * kStepBytes;
      const uint8_t* block = weights + step * kStepBytes;
      for (int i = 0; i < tiles.count; i++) {
        const int first = tiles.first(i), n = tiles.size(i);
        const uint32_t* x_tile = activations + (row + first) * steps + step * n;
        const auto multiply = [&](auto ahead) {
          float_tiles<Dot>(n, x_tile, block, int(some), ahead, totals + first * kPanel);
        };
        if (tiles.count == 1)
          multiply(Ahead<Level::kOnce>::of(block + bytes, bytes, i, tiles.count));
        else if (tiles.count == 2)
          multiply(Ahead<Level::kSecond>::of(block + bytes, bytes, i, tiles.count));
        else
          multiply(Ahead<Level::kFirst>::of(block + bytes, bytes, i, tiles.count));
      }
    }
    finish<Activation>(linear, panel * kPanel, totals, row, tiles.rows, output);
  });
}

// Codes lie by tiles: [inputs / 4, limbs, rows of the tile, 4].
template <class Activation, int kLimbs>
Integers round_activations(const Linear& linear, const typename Activation::Stored* x, int rows) {
  Integers out(linear, rows);
  out.codes.reset(new int8_t[size_t(rows) * kLimbs * out.inputs]);
  for_row_tiles(rows, int_rows(kLimbs), [&](int first, int n) {
    int8_t* tile = out.codes.get() + size_t(first) * kLimbs * out.inputs;
    for (int r = 0; r < n; r++)
      round_row<Activation, kLimbs>(linear, x, first + r, {tile + 4 * r, size_t(4 * kLimbs * n), size_t(4 * n)},
                                    out);
  });
  return out;
}

template <class Activation, int kBits, int kLimbs>
void int_linear(const Linear& linear, const void* x, int rows, const Output& output) {
  using Stored = typename Activation::Stored;
  const Integers codes = round_activations<Activation, kLimbs>(
      linear, static_cast<const Stored*>(x), rows);
  const size_t bytes = size_t(codes.inputs) * kBits / 8 * kPanel;
  for_panels(linear, rows, [&](int panel, int row_block) {
    alignas(64) float totals[int_rows(kLimbs) * kPanel];
    const Tiling tiles(rows_of_block(rows, row_block), int_rows(kLimbs));
    const int row = row_block * kRowsAtOnce;
    const auto* weights = static_cast<const uint8_t*>(linear.weights) + panel * bytes;
    const uint16_t* scales = linear.group_scales;
    if (scales) scales += size_t(panel) * linear.weight_groups * kPanel;
    for (int i = 0; i < tiles.count; i++) {
      const int first = row + tiles.first(i), n = tiles.size(i);
      int_tiles<kBits, kLimbs>(n, linear, codes, first, weights, scales,
                               Ahead<Level::kFirst>::of(weights + bytes, bytes, i, tiles.count), totals);
      finish<Activation>(linear, panel * kPanel, totals, first, n, output);
    }
  });
}

template <class Activation, int kBits>
void linear_of(const Linear& linear, const void* x, int rows, const Output& output) {
  switch (linear.limbs) {
    case 1: return int_linear<Activation, kBits, 1>(linear, x, rows, output);
    case 2: return int_linear<Activation, kBits, 2>(linear, x, rows, output);
    default: return int_linear<Activation, kBits, 3>(linear, x, rows, output);
  }
}

void product(const Linear& linear, const void* x, int rows, Type type, const Output& output) {
  if (linear.format == Format::kFloat32)
    return float_linear<Fp32, Float32Dot>(linear, x, rows, output);
  if (linear.format == Format::kBfloat16)
    return float_linear<Bf16, Bfloat16Dot>(linear, x, rows, output);
  const bool is_wide = type == Type::kFloat32;
  if (linear.format == Format::kInt8)
    return (is_wide ? linear_of<Fp32, 8> : linear_of<Bf16, 8>)(linear, x, rows, output);
  return (is_wide ? linear_of<Fp32, 4> : linear_of<Bf16, 4>)(linear, x, rows, output);
}

void linear(const Linear& linear, const void* x, int rows, Type type, const void* bias, void* y,
            Type y_type) {
  product(linear, x, rows, type, {bias, y, type == Type::kBfloat16 && y_type == Type::kFloat32});
}

void most_likely(const Linear& linear, const void* x, int rows, Type type, const MostLikely& most) {
  product(linear, x, rows, type, {nullptr, nullptr, false, &most});
}

extern const glm::LinearKernels linear_kernels;
const glm::LinearKernels linear_kernels{linear, most_likely};

}  // namespace GLM_ISA
