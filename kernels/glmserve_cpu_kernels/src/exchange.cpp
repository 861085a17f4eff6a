#include "exchange.h"

#include <algorithm>
#include <cstring>

#include "counter.h"

namespace glm {
namespace {

constexpr size_t kPiece = 1 << 18;  // bytes that a rank shows at a time

// Two places, used in turn. When a rank shows round n + 2, it has seen all ranks show n + 1, and they
// show that after they have read n.
char* place_of(void* shared, int ranks, uint32_t round, int rank) {
  char* places = static_cast<char*>(shared) + sizeof(Counter) * size_t(ranks);
  return places + (size_t(round % 2) * size_t(ranks) + size_t(rank)) * kPiece;
}

}  // namespace

size_t exchange_bytes(int ranks) { return size_t(ranks) * (sizeof(Counter) + 2 * kPiece); }

void exchange(void* shared, int rank, int ranks, uint32_t* round, const void* own, size_t bytes,
              void* all) {
  auto* shown = static_cast<Counter*>(shared);  // the last round that a rank has shown its piece of
  for (size_t done = 0; done < bytes; done += kPiece) {
    const size_t count = std::min(kPiece, bytes - done);
    const uint32_t now = ++*round;
    std::memcpy(place_of(shared, ranks, now, rank), static_cast<const char*>(own) + done, count);
    shown[rank].show(now);
    for (int other = 0; other < ranks; other++) {
      shown[other].wait_for(now);
      std::memcpy(static_cast<char*>(all) + size_t(other) * bytes + done,
                  place_of(shared, ranks, now, other), count);
    }
  }
}

}  // namespace glm
