// Products of a few rows with one panel of 32 columns, the inner loop of everything.
//
// A panel is a sequence of steps; a step holds, for each column, four bytes: one float32, or two
// bfloat16. Activations come in the same units, the rows of a tile side by side: [steps, rows].
//
// Every sum is carried out step by step in one total, however many rows there are, so a row's result
// is the same bits in any company.
#pragma once

#include "simd.h"

namespace GLM_ISA {

constexpr int kPanel = 32;
constexpr int kStepBytes = kPanel * 4;
constexpr int kVectors = kPanel / kLanes;  // of a panel
constexpr int kPrefetchSteps = 16;

struct Float32Dot {
  static Floats dot(Floats total, Ints weights, Ints x) {
    return fma(floats_of(weights), floats_of(x), total);
  }
};
struct Bfloat16Dot {
  static Floats dot(Floats total, Ints weights, Ints x) { return dot_bf16(total, weights, x); }
};

// totals [kTile, 32] += x [steps, kTile] . weights [steps, 32]; x in units of four bytes.
template <class Dot, bool kAhead, int kTile>
void float_tile(const uint32_t* x, const uint8_t* weights, int steps, float* totals) {
  constexpr int kColumns = columns_at_once(kTile);
  for (int first = 0; first < kVectors; first += kColumns) {
    Floats total[kTile][kColumns];
    for (int r = 0; r < kTile; r++)
      for (int c = 0; c < kColumns; c++)
        total[r][c] = load(totals + r * kPanel + (first + c) * kLanes);
    const uint8_t* step = weights + first * sizeof(Ints);
    for (int s = 0; s < steps; s++, step += kStepBytes) {
      Ints w[kColumns];
      for (int c = 0; c < kColumns; c++) w[c] = load_ints(step + c * sizeof(Ints));
      if (kAhead)
        for (int c = 0; c < kColumns; c++)
          _mm_prefetch(step + kPrefetchSteps * kStepBytes + c * sizeof(Ints), _MM_HINT_T0);
      for (int r = 0; r < kTile; r++) {
        Ints a = broadcast(x + s * kTile + r);
        for (int c = 0; c < kColumns; c++) total[r][c] = Dot::dot(total[r][c], w[c], a);
      }
    }
    for (int r = 0; r < kTile; r++)
      for (int c = 0; c < kColumns; c++)
        store(totals + r * kPanel + (first + c) * kLanes, total[r][c]);
  }
}

template <class Dot, bool kAhead, int kMost = kFloatRows>
void float_tiles(int rows, const uint32_t* x, const uint8_t* weights, int steps, float* totals) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return float_tiles<Dot, kAhead, kMost - 1>(rows, x, weights, steps, totals);
  }
  float_tile<Dot, kAhead, kMost>(x, weights, steps, totals);
}

// Cuts `rows` into nearly equal parts of at most `most`.
template <class Work>
void in_tiles(int rows, int most, Work work) {
  const int parts = (rows + most - 1) / most;
  for (int i = 0, first = 0; i < parts; i++) {
    const int last = int(int64_t(rows) * (i + 1) / parts);
    work(first, last - first);
    first = last;
  }
}

}  // namespace GLM_ISA
