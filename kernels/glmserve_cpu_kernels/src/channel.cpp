#include "channel.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "counter.h"

namespace glm {
namespace {

constexpr size_t kPiece = 1 << 18;
// 32 MiB in all: 512 tokens of hidden size 4096 in float32, twice, fit two times. Only pages that are
// used take memory.
constexpr uint32_t kPieces = 128;

struct Ends {
  Counter sent, received;
};

char* place_of(void* shared, uint32_t piece) {
  return static_cast<char*>(shared) + sizeof(Ends) + size_t(piece % kPieces) * kPiece;
}

}  // namespace

size_t channel_bytes() { return sizeof(Ends) + kPieces * kPiece; }

void channel_send(void* shared, const void* data, size_t bytes) {
  auto* ends = static_cast<Ends*>(shared);
  for (size_t done = 0; done < bytes; done += kPiece) {
    const uint32_t piece = ends->sent.value.load(std::memory_order_relaxed);
    ends->received.wait_for(piece + 1 - kPieces);
    std::memcpy(place_of(shared, piece), static_cast<const char*>(data) + done,
                std::min(kPiece, bytes - done));
    ends->sent.show(piece + 1);
  }
}

void channel_receive(void* shared, void* data, size_t bytes) {
  auto* ends = static_cast<Ends*>(shared);
  for (size_t done = 0; done < bytes; done += kPiece) {
    const uint32_t piece = ends->received.value.load(std::memory_order_relaxed);
    ends->sent.wait_for(piece + 1);
    std::memcpy(static_cast<char*>(data) + done, place_of(shared, piece),
                std::min(kPiece, bytes - done));
    ends->received.show(piece + 1);
  }
}

}  // namespace glm
