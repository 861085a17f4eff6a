// Products with packed weights by AMX: one instruction multiplies 16 rows by 16 outputs.
//
// Sixteen steps of a panel (see linear.cpp) are two tiles of weights as they lie. Activations lie row by
// row, padded with zeros to whole tiles.
//
// AMX adds up the bfloat16 products of 16 steps in another order than AVX-512 does, so all numbers of
// rows use it: a row's bits do not depend on the batch. A single row costs the time of 16, which is less
// than reading the weights takes. Sums of integers are exact, so few rows may use AVX-512, whose results
// have the same bits.
//
// Never measured on a CPU with AMX: the sizes below follow from 48 KiB and 2 MiB of cache and 16 cycles
// for each product of two tiles (Intel 64 and IA-32 Architectures Optimization Reference Manual, chapter 20).

#include <algorithm>
#include <cstring>
#include <memory>

#include "integers.h"
#include "panels.h"

namespace avx512_bf16 {
extern const glm::LinearKernels linear_kernels;
}

namespace GLM_ISA {

using glm::Format;
using glm::Type;

constexpr int kTileRows = 16, kTileSteps = 16, kTileRowBytes = 64;
constexpr int kBlockSteps = 256;     // of a panel that stay in the first-level cache
constexpr int kFewestIntRows = 16;   // fewer are bound by memory in any case
constexpr int kHalf = kPanel / 2;    // outputs of one tile

// The calling thread's tiles, all of the largest size. They are given up at the end: the system need not
// save them when it switches threads.
class Tiles {
 public:
  Tiles() {
    Config config{};
    config.palette = 1;
    std::fill_n(config.row_bytes, 8, uint16_t(kTileRowBytes));
    std::fill_n(config.rows, 8, uint8_t(kTileRows));
    _tile_loadconfig(&config);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  struct Config {  // as the instruction wants it
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
};

// The compiler does not know that loading a tile reads memory.
inline void memory_is_written() { asm volatile("" ::: "memory"); }

int tiles_of(int rows) { return (rows + kTileRows - 1) / kTileRows; }

// Bytes from one row of activations to the next: at a power of two, rows would evict each other.
size_t padded(size_t row_bytes) {
  return (row_bytes + kTileRowBytes - 1) / kTileRowBytes * kTileRowBytes + kTileRowBytes;
}

std::unique_ptr<uint8_t[]> padded_rows(const uint8_t* x, int rows, size_t row_bytes) {
  const size_t stride = padded(row_bytes);
  std::unique_ptr<uint8_t[]> out(new uint8_t[tiles_of(rows) * kTileRows * stride]);
  glm::run(tiles_of(rows), [&](int tile) {
    uint8_t* to = out.get() + tile * kTileRows * stride;
    std::memset(to, 0, kTileRows * stride);
    for (int row = tile * kTileRows; row < std::min(rows, (tile + 1) * kTileRows); row++, to += stride)
      std::memcpy(to, x + row * row_bytes, row_bytes);
  });
  return out;
}

// --- bfloat16 --------------------------------------------------------------------------------------

// totals [16 kTiles, 32] += x [16 kTiles, rows `stride` bytes apart] . weights, `count` times 16 steps.
template <int kTiles>
void float_block(const uint8_t* x, size_t stride, const uint8_t* weights, int count,
                 Ahead<Level::kSecond> ahead, float* totals) {
  constexpr int kRowBytes = kPanel * sizeof(float);
  float* second = totals + kTileRows * kPanel;
  memory_is_written();
  _tile_loadd(0, totals, kRowBytes);
  _tile_loadd(1, totals + kHalf, kRowBytes);
  if (kTiles == 2) {
    _tile_loadd(2, second, kRowBytes);
    _tile_loadd(3, second + kHalf, kRowBytes);
  }
  for (int i = 0; i < count; i++, x += kTileRowBytes, weights += kTileSteps * kStepBytes) {
    for (int s = 0; s < kTileSteps; s++) ahead.fetch(i * kTileSteps + s);
    _tile_loadd(4, x, stride);
    _tile_loadd(6, weights, kStepBytes);
    _tile_loadd(7, weights + kStepBytes / 2, kStepBytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if (kTiles == 2) {
      _tile_loadd(5, x + kTileRows * stride, stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, totals, kRowBytes);
  _tile_stored(1, totals + kHalf, kRowBytes);
  if (kTiles == 2) {
    _tile_stored(2, second, kRowBytes);
    _tile_stored(3, second + kHalf, kRowBytes);
  }
}

// A block's steps for all `tiles` of rows, two at a time. Of what comes behind the block, each pair
// prefetches its part.
void float_blocks(const uint8_t* x, size_t stride, int tiles, const uint8_t* weights, int count,
                  float* totals) {
  const size_t bytes = size_t(count) * kTileSteps * kStepBytes;
  const int pairs = (tiles + 1) / 2;
  for (int pair = 0; pair < pairs; pair++) {
    const auto ahead = Ahead<Level::kSecond>::of(weights + bytes, bytes, pair, pairs);
    const auto multiply = 2 * pair + 1 < tiles ? float_block<2> : float_block<1>;
    multiply(x + 2 * pair * kTileRows * stride, stride, weights, count, ahead,
             totals + 2 * pair * kTileRows * kPanel);
  }
}

void bfloat16_linear(const Linear& linear, const void* x, int rows, const Output& output) {
  const size_t row_bytes = size_t(linear.inputs) * sizeof(Bf16::Stored), stride = padded(row_bytes);
  const auto in_rows = padded_rows(static_cast<const uint8_t*>(x), rows, row_bytes);
  const int steps = linear.inputs / 2, whole = steps / kTileSteps * kTileSteps;
  for_panels(linear, rows, [&](int panel, int row_block) {
    const Tiles configured;
    alignas(64) float totals[kRowsAtOnce * kPanel];
    alignas(64) uint8_t rest[kTileSteps * kStepBytes];
    const int count = rows_of_block(rows, row_block), tiles = tiles_of(count);
    const size_t row = size_t(row_block) * kRowsAtOnce;
    const uint8_t* from = in_rows.get() + row * stride;
    const auto* weights = static_cast<const uint8_t*>(linear.weights) +
                          size_t(panel) * steps * kStepBytes;
    std::fill_n(totals, tiles * kTileRows * kPanel, 0.0f);
    for (int step = 0; step < whole; step += kBlockSteps)
      float_blocks(from + step * sizeof(uint32_t), stride, tiles, weights + size_t(step) * kStepBytes,
                   std::min(kBlockSteps, whole - step) / kTileSteps, totals);
    if (whole < steps) {
      const size_t bytes = size_t(steps - whole) * kStepBytes;
      std::memcpy(rest, weights + size_t(whole) * kStepBytes, bytes);
      std::memset(rest + bytes, 0, sizeof rest - bytes);
      float_blocks(from + whole * sizeof(uint32_t), stride, tiles, rest, 1, totals);
    }
    finish<Bf16>(linear, panel * kPanel, totals, row, count, output);
  });
}

// --- integers --------------------------------------------------------------------------------------

// Codes lie row by row, [limbs, inputs] of each, padded to whole tiles.
template <class Activation, int kLimbs>
Integers rounded_rows(const Linear& linear, const typename Activation::Stored* x, int rows) {
  Integers out(linear, rows);
  const size_t stride = padded(size_t(kLimbs) * out.inputs);
  out.codes.reset(new int8_t[tiles_of(rows) * kTileRows * stride]());
  glm::run(tiles_of(rows), [&](int tile) {
    for (int row = tile * kTileRows; row < std::min(rows, (tile + 1) * kTileRows); row++)
      round_row<Activation, kLimbs>(linear, x, row, {out.codes.get() + row * stride, 4, size_t(out.inputs)},
                                    out);
  });
  return out;
}

// A group of weights [steps, 32, 4] as codes of 8 bits: as they are, or those of 4 bits in `space`.
template <int kBits>
const uint8_t* codes_of_8_bits(const uint8_t* weights, int group, uint8_t* space) {
  if (kBits == 8) return weights;
  const Ints low = all(0x0f0f0f0f);
  for (int step = 0; step < group / 8; step++, weights += kStepBytes, space += 2 * kStepBytes)
    for (int at = 0; at < kStepBytes; at += sizeof(Ints)) {
      const Ints pairs = load_ints(weights + at);
      store_ints(space + at, bit_and(pairs, low));
      store_ints(space + kStepBytes + at, bit_and(shift_right<4>(pairs), low));
    }
  return space - size_t(group / 4) * kStepBytes;
}

// exact [16, 32] = codes [16, group] . weights [group / 4, 32, 4].
void int_tile(const int8_t* codes, size_t stride, const uint8_t* weights, int group, int32_t* exact) {
  constexpr int kRowBytes = kPanel * sizeof(int32_t);
  memory_is_written();
  _tile_zero(0);
  _tile_zero(1);
  for (int input = 0; input < group; input += kTileRowBytes, weights += kTileSteps * kStepBytes) {
    _tile_loadd(4, codes + input, stride);
    _tile_loadd(6, weights, kStepBytes);
    _tile_loadd(7, weights + kStepBytes / 2, kStepBytes);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
  }
  _tile_stored(0, exact, kRowBytes);
  _tile_stored(1, exact + kHalf, kRowBytes);
}

// totals [rows, 32] += a group's products; the arithmetic of linear.cpp, so its bits.
template <int kBits, int kLimbs>
void add_group(const Integers& x, int row, int rows, int group, const int32_t* exact,
               const uint16_t* scales, float* totals) {
  for (int r = 0; r < rows; r++) {
    const size_t at = size_t(row + r) * x.groups + group;
    for (int lane = 0; lane < kPanel; lane += kLanes) {
      const auto of_limb = [&](int l) {
        const Ints products = load_ints(exact + (l * kTileRows + r) * kPanel + lane);
        return add(products, all(x.offsets[at * kLimbs + l]));
      };
      Floats product = joined<kLimbs>(of_limb);
      if (scales) product = mul(product, load_half(scales + lane));
      float* total = totals + r * kPanel + lane;
      store(total, fma(product, all(x.scales[at]), load(total)));
    }
  }
}

template <class Activation, int kBits, int kLimbs>
void int_linear(const Linear& linear, const void* x, int rows, const Output& output) {
  const Integers codes = rounded_rows<Activation, kLimbs>(
      linear, static_cast<const typename Activation::Stored*>(x), rows);
  const size_t stride = padded(size_t(kLimbs) * codes.inputs);
  const size_t group_bytes = size_t(linear.group) * kBits / 8 * kPanel;
  const int groups_per_scale = codes.groups / linear.weight_groups;
  for_panels(linear, rows, [&](int panel, int row_block) {
    const Tiles configured;
    alignas(64) float totals[kRowsAtOnce * kPanel];
    alignas(64) int32_t exact[kLimbs * kTileRows * kPanel];
    alignas(64) uint8_t space[kMostGroup * kPanel];
    const int count = rows_of_block(rows, row_block), first = row_block * kRowsAtOnce;
    const auto* weights = static_cast<const uint8_t*>(linear.weights) +
                          size_t(panel) * codes.groups * group_bytes;
    std::fill_n(totals, count * kPanel, 0.0f);
    for (int g = 0; g < codes.groups; g++, weights += group_bytes) {
      const uint8_t* of_group = codes_of_8_bits<kBits>(weights, linear.group, space);
      const uint16_t* scales = linear.group_scales;
      if (scales) scales += (size_t(panel) * linear.weight_groups + g / groups_per_scale) * kPanel;
      for (int row = 0; row < count; row += kTileRows) {
        for (int l = 0; l < kLimbs; l++)
          int_tile(codes.codes.get() + (first + row) * stride + l * codes.inputs + g * linear.group, stride,
                   of_group, linear.group, exact + l * kTileRows * kPanel);
        add_group<kBits, kLimbs>(codes, first + row, std::min(kTileRows, count - row), g, exact, scales,
                                 totals + row * kPanel);
      }
    }
    finish<Activation>(linear, panel * kPanel, totals, first, count, output);
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

bool has_tiles(const Linear& linear, int rows) {
  if (linear.format == Format::kBfloat16) return true;
  return linear.format != Format::kFloat32 && rows >= kFewestIntRows && linear.group % kTileRowBytes == 0;
}

// With tiles.
void product(const Linear& linear, const void* x, int rows, Type type, const Output& output) {
  if (linear.format == Format::kBfloat16) return bfloat16_linear(linear, x, rows, output);
  const bool is_wide = type == Type::kFloat32;
  if (linear.format == Format::kInt8)
    return (is_wide ? linear_of<Fp32, 8> : linear_of<Bf16, 8>)(linear, x, rows, output);
  return (is_wide ? linear_of<Fp32, 4> : linear_of<Bf16, 4>)(linear, x, rows, output);
}

void linear(const Linear& linear, const void* x, int rows, Type type, const void* bias, void* y,
            Type y_type) {
  if (!has_tiles(linear, rows))
    return avx512_bf16::linear_kernels.linear(linear, x, rows, type, bias, y, y_type);
  product(linear, x, rows, type, {bias, y, type == Type::kBfloat16 && y_type == Type::kFloat32});
}

void most_likely(const Linear& linear, const void* x, int rows, Type type, const MostLikely& most) {
  if (!has_tiles(linear, rows))
    return avx512_bf16::linear_kernels.most_likely(linear, x, rows, type, most);
  product(linear, x, rows, type, {nullptr, nullptr, false, &most});
}

extern const glm::LinearKernels linear_kernels;
const glm::LinearKernels linear_kernels{linear, most_likely};

}  // namespace GLM_ISA
