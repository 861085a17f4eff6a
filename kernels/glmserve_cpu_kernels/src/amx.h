// Whether this machine's AMX can be used.
#pragma once

#include "linear.h"

namespace glm {

// Whether the CPU has AMX for bfloat16 and int8, and the system lets this process use it.
bool has_amx();

// Computes small products with both. Null if they agree: integers in every bit, bfloat16 up to the order
// of its sums, and a row alone as among others. Otherwise what differs.
const char* amx_difference(const LinearKernels& amx, const LinearKernels& reference);

}  // namespace glm
