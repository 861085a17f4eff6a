// Exchanges numbers with other processes of this machine, through memory that all of them have mapped.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glm {

// Bytes of the memory for so many ranks. It is zero at first.
size_t exchange_bytes(int ranks);

// The `round` of a rank starts at 0 and is kept by the caller. Copies `bytes` of `own` to all ranks, and
// theirs to `all`, one rank after the other. Every rank calls it equally often, with equally many bytes.
void exchange(void* shared, int rank, int ranks, uint32_t* round, const void* own, size_t bytes,
              void* all);

}  // namespace glm
