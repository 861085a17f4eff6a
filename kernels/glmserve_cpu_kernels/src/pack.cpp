#include "pack.h"

#include <algorithm>
#include <cstring>

#include "pool.h"

namespace glm {
namespace {

constexpr int kBytes = 4;  // of one output in one step

int step_inputs(Format format) {
  switch (format) {
    case Format::kFloat32: return 1;
    case Format::kBfloat16: return 2;
    case Format::kInt8: return 4;
    case Format::kInt4: return 8;
  }
  return 0;
}

int steps(Format format, int inputs, int group) {
  const bool is_float = format == Format::kFloat32 || format == Format::kBfloat16;
  const int padded = is_float ? inputs : (inputs + group - 1) / group * group;
  return padded / step_inputs(format);
}

// One output's part of a step. Codes are stored with an offset, so that they are unsigned.
void pack_step(Format format, const uint8_t* row, int inputs, int first, uint8_t* to) {
  switch (format) {
    case Format::kFloat32:
    case Format::kBfloat16:
      std::memcpy(to, row + size_t(first / step_inputs(format)) * kBytes, kBytes);
      break;
    case Format::kInt8:
      for (int i = 0; i < 4; i++) to[i] = (first + i < inputs ? row[first + i] : 0) ^ 0x80;
      break;
    case Format::kInt4: {
      uint8_t codes[8];
      for (int i = 0; i < 8; i++) {
        const int input = first + i;
        const uint8_t pair = input < inputs ? row[input / 2] : 0;
        codes[i] = ((input % 2 ? pair : pair >> 4) & 15) ^ 8;
      }
      for (int i = 0; i < 4; i++) to[i] = uint8_t(codes[i] | codes[i + 4] << 4);
    }
  }
}

size_t row_bytes(Format format, int inputs) {
  switch (format) {
    case Format::kFloat32: return size_t(inputs) * 4;
    case Format::kBfloat16: return size_t(inputs) * 2;
    case Format::kInt8: return size_t(inputs);
    case Format::kInt4: return size_t(inputs) / 2;
  }
  return 0;
}

}  // namespace

size_t packed_bytes(Format format, int outputs, int inputs, int group) {
  const size_t panels = (outputs + kPanel - 1) / kPanel;
  return panels * steps(format, inputs, group) * kPanel * kBytes;
}

void pack(Format format, const void* weight, int outputs, int inputs, int group, void* packed) {
  const int count = steps(format, inputs, group), per_step = step_inputs(format);
  const size_t stride = row_bytes(format, inputs);
  const auto* rows = static_cast<const uint8_t*>(weight);
  auto* to = static_cast<uint8_t*>(packed);
  run((outputs + kPanel - 1) / kPanel, [&](int panel) {
    uint8_t* step = to + size_t(panel) * count * kPanel * kBytes;
    for (int s = 0; s < count; s++)
      for (int i = 0; i < kPanel; i++, step += kBytes) {
        const int output = panel * kPanel + i;
        if (output < outputs)
          pack_step(format, rows + output * stride, inputs, s * per_step, step);
        else
          std::memset(step, 0, kBytes);  // its result is not written
      }
  });
}

}  // namespace glm
