// Chooses tokens from logits. See sampling.cpp.
#pragma once

#include <cstdint>

namespace glm {

// How to choose one token; no effect where a field is at its neutral value.
struct Draw {
  uint64_t noise_key;
  double top_p;       // 1
  float temperature;  // > 0
  float min_p;        // 0
  int32_t top_k;      // 0
  int32_t unused;
};

struct SamplingKernels {
  // For each of `count` rows of `vocab` logits: an id, or -1 where the logits hold a NaN or +inf, or
  // nothing but -inf.
  void (*draw)(const float* const* rows, int count, int vocab, const Draw* how, int32_t* ids);
};

}  // namespace glm
