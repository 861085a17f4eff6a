// Packs weights into the layout of linear.cpp.
#pragma once

#include "linear.h"

namespace glm {

// Bytes of a packed weight; `inputs` of integers are padded to whole groups.
size_t packed_bytes(Format format, int outputs, int inputs, int group);

// weight: [outputs, inputs] float32, bfloat16 or int8; or [outputs, inputs / 2] bytes, two codes of
// 4 bits each, the even input in the high half.
void pack(Format format, const void* weight, int outputs, int inputs, int group, void* packed);

}  // namespace glm
