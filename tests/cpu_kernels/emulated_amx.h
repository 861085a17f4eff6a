// AMX's instructions in plain C++, for CPUs without them: Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2. Tiles are those that the kernels configure: 16 rows of 64 bytes.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated {

struct Tile {
  uint8_t rows[16][64];
};
struct Registers {
  bool configured = false;
  Tile tiles[8];
};
inline thread_local Registers registers;

inline void configure(const void* config) {
  const auto* bytes = static_cast<const uint8_t*>(config);
  if (bytes[0] != 1 || bytes[1] != 0) std::abort();
  for (int i = 0; i < 8; i++) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, bytes + 16 + 2 * i, sizeof row_bytes);
    if (row_bytes != 64 || bytes[48 + i] != 16) std::abort();
  }
  std::memset(registers.tiles, 0, sizeof registers.tiles);
  registers.configured = true;
}
inline void release() { registers.configured = false; }
inline Tile& tile(int index) {
  if (!registers.configured) std::abort();  // an invalid instruction
  return registers.tiles[index];
}

inline void load(int to, const void* from, size_t stride) {
  for (int row = 0; row < 16; row++)
    std::memcpy(tile(to).rows[row], static_cast<const uint8_t*>(from) + row * stride, 64);
}
inline void store(int from, void* to, size_t stride) {
  for (int row = 0; row < 16; row++)
    std::memcpy(static_cast<uint8_t*>(to) + row * stride, tile(from).rows[row], 64);
}
inline void zero(int index) { std::memset(&tile(index), 0, sizeof(Tile)); }

template <class Number>
Number get(const Tile& tile, int row, int column) {
  Number number;
  std::memcpy(&number, tile.rows[row] + column * sizeof number, sizeof number);
  return number;
}
template <class Number>
void put(Tile& tile, int row, int column, Number number) {
  std::memcpy(tile.rows[row] + column * sizeof number, &number, sizeof number);
}

inline float without_denormal(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
inline float wide(uint16_t x) {
  return without_denormal(__builtin_bit_cast(float, static_cast<uint32_t>(x) << 16));
}

inline void multiply_bfloat16(int to, int left, int right) {
  const Tile &a = tile(left), &b = tile(right);
  for (int row = 0; row < 16; row++)
    for (int column = 0; column < 16; column++) {
      float sums[2] = {0, 0};
      for (int step = 0; step < 16; step++)
        for (int odd = 0; odd < 2; odd++)
          sums[odd] = without_denormal(std::fma(wide(get<uint16_t>(a, row, 2 * step + odd)),
                                                wide(get<uint16_t>(b, step, 2 * column + odd)), sums[odd]));
      const float both = without_denormal(sums[0] + sums[1]);
      put(tile(to), row, column, without_denormal(get<float>(tile(to), row, column) + both));
    }
}

// Signed times unsigned codes.
inline void multiply_int8(int to, int left, int right) {
  const Tile &a = tile(left), &b = tile(right);
  for (int row = 0; row < 16; row++)
    for (int column = 0; column < 16; column++) {
      int32_t sum = get<int32_t>(tile(to), row, column);
      for (int step = 0; step < 16; step++)
        for (int i = 0; i < 4; i++)
          sum += get<int8_t>(a, row, 4 * step + i) * get<uint8_t>(b, step, 4 * column + i);
#ifdef GLM_WRONG_AMX
      sum += row == 5 && column == 3;
#endif
      put(tile(to), row, column, sum);
    }
}

}  // namespace emulated

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbsud
#define _tile_loadconfig emulated::configure
#define _tile_release emulated::release
#define _tile_loadd emulated::load
#define _tile_stored emulated::store
#define _tile_zero emulated::zero
#define _tile_dpbf16ps emulated::multiply_bfloat16
#define _tile_dpbsud emulated::multiply_int8
