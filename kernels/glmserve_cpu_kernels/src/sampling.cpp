// Chooses one token per row of logits: temperature, top_k, top_p, min_p, then a draw by the Gumbel-max
// trick, as in glmserve/ops/sampling/{draw,gumbel}.py. One thread computes a row.

#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "functions.h"
#include "pool.h"

namespace GLM_ISA {

using glm::Draw;

constexpr int kNoNumber = -1;
constexpr int kBlockBits = 8;
constexpr uint64_t kTokens = uint64_t(1) << 32;  // noise of tokens from here on, of blocks from 0 on
constexpr size_t kSortedAtOnce = 512;
constexpr int kPartsPerKept = 4;
constexpr float kLeast = 1e-37f;  // less than any weight but 0
constexpr double kRounding = 0.999;  // slack of a float32 weight against a float64 bound

// --- weights ---------------------------------------------------------------------------------------

// The largest, or a NaN if there is one.
float largest_of(const float* x, int count) {
  constexpr int32_t kMagnitude = 0x7fffffff, kInfinity = 0x7f800000;
  Floats top = all(-INFINITY);
  Ints magnitude = int_zeros();  // as integers, a NaN is larger than an infinity
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    top = max(load(x + i), top);
    magnitude = max(bit_and(bits_of(load(x + i)), all(kMagnitude)), magnitude);
  }
  float most = largest(top);
  int32_t most_magnitude = largest(magnitude);
  for (; i < count; i++) {
    most = std::max(most, x[i]);
    most_magnitude = std::max(most_magnitude, __builtin_bit_cast(int32_t, x[i]) & kMagnitude);
  }
  return most_magnitude > kInfinity ? NAN : most;
}

// exp((logit - top) / temperature), 0 for what is too small to count.
void weigh(const float* logits, int count, float top, float temperature, float* weights) {
  constexpr float kSmallest = -87.0f;
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Floats x = div(sub(load(logits + i), all(top)), all(temperature));
    store(weights + i, zero_below(exp(x), x, all(kSmallest)));
  }
  for (; i < count; i++) {
    const float x = (logits[i] - top) / temperature;
    weights[i] = x < kSmallest ? 0.0f : std::exp(x);
  }
}

double sum_of(const float* weights, int count) {
  double total = 0;
  for (int first = 0; first < count; first += 1024) {  // short runs in float32 are exact enough
    Floats some = zeros();
    const int last = std::min(count, first + 1024);
    int i = first;
    for (; i + kLanes <= last; i += kLanes) some = add(some, load(weights + i));
    total += double(sum(some));
    for (; i < last; i++) total += weights[i];
  }
  return total;
}

// --- which tokens remain ---------------------------------------------------------------------------

using Ids = std::vector<int32_t>;

struct MoreLikely {
  const float* weights;
  bool operator()(int32_t a, int32_t b) const {
    return weights[a] != weights[b] ? weights[a] > weights[b] : a < b;
  }
};

// Ids of weights that are at least `bound`, which is more than 0; ascending.
void find(const float* weights, int count, float bound, Ids& ids) {
  ids.clear();
  int i = 0;
  for (; i + kLanes <= count; i += kLanes)
    if (any_at_least(load(weights + i), all(bound)))
      for (int j = i; j < i + kLanes; j++)
        if (weights[j] >= bound) ids.push_back(j);
  for (; i < count; i++)
    if (weights[i] >= bound) ids.push_back(i);
}

// A weight that at least top_k of them reach, and not many more: cut into at least top_k parts, the
// top_k largest of their maxima are top_k entries.
float top_k_bound(const float* weights, int count, int top_k) {
  const int width = std::max(1, count / (kPartsPerKept * top_k));
  std::vector<float> maxima(count / width);
  for (size_t i = 0; i < maxima.size(); i++)
    maxima[i] = *std::max_element(weights + i * width, weights + (i + 1) * width);
  const auto last = maxima.begin() + top_k - 1;
  std::nth_element(maxima.begin(), last, maxima.end(), std::greater<>());
  return *last;
}

// The top_k most likely.
void keep_top_k(const float* weights, int count, int top_k, Ids& ids) {
  const float bound = top_k < count ? top_k_bound(weights, count, top_k) : 0.0f;
  find(weights, count, std::max(bound, kLeast), ids);
  if (size_t(top_k) >= ids.size()) return;
  std::nth_element(ids.begin(), ids.begin() + top_k, ids.end(), MoreLikely{weights});
  ids.resize(top_k);
}

// The fewest most likely of `ids` that have `goal` of the weight. Quickselect by weight: what lies
// above a pivot is either kept completely or contains all that is kept; a small rest is sorted.
void keep_top_p(const float* weights, double goal, Ids& ids) {
  auto first = ids.begin(), last = ids.end();  // before `first`: kept
  double before = 0;
  while (size_t(last - first) > kSortedAtOnce) {
    double mean = 0;
    for (auto i = first; i < last; i++) mean += weights[*i];
    mean /= double(last - first);
    const auto middle = std::partition(first, last, [&](int32_t id) { return weights[id] > mean; });
    if (middle == first || middle == last) break;  // all are equal, up to rounding
    double above = 0;
    for (auto i = first; i < middle; i++) above += weights[*i];
    if (before + above >= goal) {
      last = middle;
    } else {
      first = middle;
      before += above;
    }
  }
  std::sort(first, last, MoreLikely{weights});
  do before += weights[*first++];
  while (first < last && before < goal);
  ids.erase(first, ids.end());
}

// The ids that top_k and then top_p keep, ascending.
void keep(const float* weights, int count, const Draw& how, Ids& ids) {
  double total = 0;
  if (how.top_k > 0) {
    keep_top_k(weights, count, how.top_k, ids);
    for (const int32_t id : ids) total += weights[id];
  } else {
    total = sum_of(weights, count);
    // n entries of less than 1/n of what is not kept are all among that.
    const double least = (1 - how.top_p) * total / count * kRounding;
    find(weights, count, std::max(float(least), kLeast), ids);
  }
  if (how.top_p < 1) keep_top_p(weights, how.top_p * total, ids);
  std::sort(ids.begin(), ids.end());
}

// --- the draw --------------------------------------------------------------------------------------

// A standard Gumbel number from SplitMix64 at key + index * gamma.
double gumbel(uint64_t index, uint64_t key) {
  uint64_t z = index * 0x9E3779B97F4A7C15u + key;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  const double uniform = (double(z >> 12) + 0.5) * 0x1p-52;
  return -std::log(-std::log(uniform));
}

// The position of the largest log(weight) + noise.
template <class Weight, class Index>
size_t draw_one(size_t count, uint64_t key, Weight weight, Index index) {
  double best = -INFINITY;
  size_t place = 0;
  for (size_t i = 0; i < count; i++) {
    if (!(weight(i) > 0)) continue;
    const double score = std::log(weight(i)) + gumbel(index(i), key);
    if (score > best) best = score, place = i;
  }
  return place;
}

// First a block of neighbouring ids by the sum of its weights, then one of them: the same odds as
// drawing among all, for some 500 hashes. `count` weights; their ids ascend.
template <class Id, class Sum>
int32_t draw_among(const float* weights, int count, Id id, Sum sum, uint64_t key) {
  std::vector<int> starts;
  for (int i = 0; i < count;) {
    starts.push_back(i);
    for (const int block = id(i) >> kBlockBits; i < count && id(i) >> kBlockBits == block;) i++;
  }
  starts.push_back(count);
  const size_t block = draw_one(
      starts.size() - 1, key, [&](size_t i) { return sum(starts[i], starts[i + 1]); },
      [&](size_t i) { return uint64_t(id(starts[i]) >> kBlockBits); });
  const int first = starts[block];
  return id(first + int(draw_one(
                        starts[block + 1] - first, key,
                        [&](size_t i) { return double(weights[id(first + int(i))]); },
                        [&](size_t i) { return uint64_t(id(first + int(i))) + kTokens; })));
}

int32_t draw_row(const float* logits, int vocab, const Draw& how) {
  static thread_local std::vector<float> memory;
  static thread_local Ids ids;
  const float top = largest_of(logits, vocab);
  if (!std::isfinite(top)) return kNoNumber;
  memory.resize(vocab);
  float* weights = memory.data();
  weigh(logits, vocab, top, how.temperature, weights);
  if (how.top_k <= 0 && how.top_p >= 1) {
    if (how.min_p > 0)
      for (int i = 0; i < vocab; i++) weights[i] = weights[i] < how.min_p ? 0.0f : weights[i];
    return draw_among(
        weights, vocab, [](int i) { return i; },
        [&](int first, int last) { return sum_of(weights + first, last - first); }, how.noise_key);
  }
  keep(weights, vocab, how, ids);
  std::erase_if(ids, [&](int32_t id) { return weights[id] < how.min_p; });
  const auto sum = [&](int first, int last) {
    double total = 0;
    for (int i = first; i < last; i++) total += weights[ids[i]];
    return total;
  };
  return draw_among(weights, int(ids.size()), [&](int i) { return ids[i]; }, sum, how.noise_key);
}

void draw(const float* const* rows, int count, int vocab, const Draw* how, int32_t* ids) {
  glm::run(count, [&](int i) { ids[i] = draw_row(rows[i], vocab, how[i]); });
}

extern const glm::SamplingKernels sampling_kernels;
const glm::SamplingKernels sampling_kernels{draw};

}  // namespace GLM_ISA
