// Products of a few rows with one panel of 32 columns: the inner loop of all products.
//
// A panel is a sequence of steps; a step holds, for each column, four bytes: one float32, or two
// bfloat16. Activations come in the same units, the rows of a tile side by side: [steps, rows].
//
// Every sum is computed step by step in one total for any number of rows, so the bits of a row's result
// do not depend on the other rows.
#pragma once

#include "simd.h"

namespace GLM_ISA {

constexpr int kPanel = 32;
constexpr int kStepBytes = kPanel * 4;
constexpr int kVectors = kPanel / kLanes;  // of a panel
constexpr int kStepsAhead = 64;  // 16 take 1.1 times as long with one row, 1.4 times with twelve (Zen 5)

struct Float32Dot {
  static Floats dot(Floats total, Ints weights, Ints x) {
    return fma(floats_of(weights), floats_of(x), total);
  }
};
struct Bfloat16Dot {
  static Floats dot(Floats total, Ints weights, Ints x) { return dot_bf16(total, weights, x); }
};

// Of the caches. kOnce: the first, and none of the others, for what is read once; the code and the
// numbers that the next kernels need stay in these.
enum class Level { kOnce, kFirst, kSecond };

// Memory that is prefetched while a tile is computed: `stride` bytes with each step. The second level
// is for what is needed only after this tile: it takes more requests to memory at a time.
template <Level kInto>
struct Ahead {
  static constexpr int kLocality = kInto == Level::kOnce ? 0 : kInto == Level::kFirst ? 3 : 2;
  const uint8_t* at;
  int stride;

  // Of the `bytes` at `next`, the part that tile `index` of `tiles` is to fetch; all of them read the
  // same panel, the first from memory. A single one reads its own panel from a little further on.
  static Ahead of(const uint8_t* next, size_t bytes, int index, int tiles) {
    if (tiles == 1) return {next - bytes + kStepsAhead * kStepBytes, kStepBytes};
    return {next + bytes * index / tiles, kStepBytes / tiles};
  }
  void fetch(size_t step) const {
    for (int line = 0; line < kStepBytes / 64; line++)
      __builtin_prefetch(at + step * stride + line * 64, 0, kLocality);
  }
};

// totals [kTile, 32] += x . weights [steps, 32]; x in units of four bytes, [steps, kTile], or where rows
// lie kRowWords apart, [kTile, kRowWords].
template <class Dot, int kTile, int kRowWords = 0, Level kInto>
void float_tile(const uint32_t* x, const uint8_t* weights, int steps, Ahead<kInto> ahead,
                float* totals) {
  constexpr int kColumns = columns_at_once(kTile);
  constexpr int kRow = kRowWords ? kRowWords : 1, kStep = kRowWords ? 1 : kTile;
  for (int first = 0; first < kVectors; first += kColumns) {
    Floats total[kTile][kColumns];
    for (int r = 0; r < kTile; r++)
      for (int c = 0; c < kColumns; c++)
        total[r][c] = load(totals + r * kPanel + (first + c) * kLanes);
    const uint8_t* step = weights + first * sizeof(Ints);
    for (int s = 0; s < steps; s++, step += kStepBytes) {
      Ints w[kColumns];
      for (int c = 0; c < kColumns; c++) w[c] = load_ints(step + c * sizeof(Ints));
      ahead.fetch(s);
      for (int r = 0; r < kTile; r++) {
        Ints a = broadcast(x + s * kStep + r * kRow);
        for (int c = 0; c < kColumns; c++) total[r][c] = Dot::dot(total[r][c], w[c], a);
      }
    }
    for (int r = 0; r < kTile; r++)
      for (int c = 0; c < kColumns; c++)
        store(totals + r * kPanel + (first + c) * kLanes, total[r][c]);
  }
}

template <class Dot, int kRowWords = 0, int kMost = kFloatRows, Level kInto>
void float_tiles(int rows, const uint32_t* x, const uint8_t* weights, int steps, Ahead<kInto> ahead,
                 float* totals) {
  if constexpr (kMost > 1) {
    if (rows < kMost)
      return float_tiles<Dot, kRowWords, kMost - 1>(rows, x, weights, steps, ahead, totals);
  }
  float_tile<Dot, kMost, kRowWords>(x, weights, steps, ahead, totals);
}

// `rows` in nearly equal tiles of at most `most`.
struct Tiling {
  int rows, count;
  Tiling(int rows, int most) : rows(rows), count((rows + most - 1) / most) {}
  int first(int tile) const { return int(int64_t(rows) * tile / count); }
  int size(int tile) const { return first(tile + 1) - first(tile); }
};

}  // namespace GLM_ISA
