// Attention of new tokens to their sequences' K and V in the cache.
//
// A subblock has 32 token slots; a block of the cache is one subblock or several. The K of one head
// is a panel with slots as columns and steps along the head; the V is one panel for each 32 numbers of
// the head, with steps along the slots. So scores and results are the products of tiles.h, with
// nothing gathered or transposed.
//
// A tile is up to kFloatRows rows, each one query head of one token, of those heads that share K and
// V. For a row, subblocks are taken in order, in spans counted from the sequence's beginning. Each span
// has its own softmax (Milakov, Gimelshein 2018: online softmax), and spans are merged in order. So a
// row's result has the same bits for any cut of its sequence into steps, any other rows in the step,
// and any distribution of spans over threads.

#include "attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "functions.h"
#include "pool.h"
#include "tiles.h"

namespace GLM_ISA {

using glm::AttentionStep;
using glm::kSubblock;
using glm::KvCache;
using glm::Type;

constexpr int kSpanSubblocks = 16;
constexpr int kMostDim = 512;
// Weights are relative to a score that the largest one exceeds by no more than this. So they are e^8 at
// most, and what was added up is seldom scaled again: a prompt's attention takes 0.9 of its time.
constexpr float kSlack = 8;

struct Wide {  // float32: one number in a step
  using Activation = Fp32;
  using Dot = Float32Dot;
  static constexpr int kPerStep = 1;
};
struct Narrow {  // bfloat16: two
  using Activation = Bf16;
  using Dot = Bfloat16Dot;
  static constexpr int kPerStep = 2;
};

int padded(int dim) { return (dim + kPanel - 1) / kPanel * kPanel; }

// Where number d of the token in slot t lies within a subblock's K, or V, of one head.
template <class Form>
size_t key_index(int d, int t) {
  return (size_t(d / Form::kPerStep) * kSubblock + t) * Form::kPerStep + d % Form::kPerStep;
}
template <class Form>
size_t value_index(int d, int t) {
  const size_t panel = size_t(d / kPanel) * kSubblock * kPanel;
  return panel + (size_t(t / Form::kPerStep) * kPanel + d % kPanel) * Form::kPerStep +
         t % Form::kPerStep;
}

// --- writing ---------------------------------------------------------------------------------------

template <class Form, class Number>
void write_token(const KvCache& cache, int64_t slot, const typename Form::Activation::Stored* keys,
                 const typename Form::Activation::Stored* values) {
  using Activation = typename Form::Activation;
  const size_t numbers = size_t(padded(cache.dim)) * kSubblock;
  const int64_t subblock = slot / kSubblock;
  const int t = int(slot % kSubblock);
  for (int head = 0; head < cache.kv_heads; head++) {
    const size_t at = (size_t(subblock) * cache.kv_heads + head) * 2;
    for (int is_value = 0; is_value < 2; is_value++) {
      const auto* x = (is_value ? values : keys) + size_t(head) * cache.dim;
      Number* to = static_cast<Number*>(cache.numbers) + (at + is_value) * numbers;
      float inverse = 1;
      if constexpr (sizeof(Number) == 1) {
        float* scales = cache.scales + (at + is_value) * kSubblock;
        int32_t magnitude = 0;  // as integers, a NaN is the largest
        for (int d = 0; d < cache.dim; d++) {
          const float number = Activation::one(x[d]);
          magnitude = std::max(magnitude, __builtin_bit_cast(int32_t, number) & 0x7fffffff);
        }
        const float top = __builtin_bit_cast(float, magnitude);
        scales[t] = top / 127;
        inverse = 127 / top;
      }
      // Codes are 0 of what is nearly zero, or not finite: then the scale tells.
      const bool has_codes = inverse > 0 && inverse < INFINITY;
      for (int d = 0; d < cache.dim; d++) {
        const size_t index = is_value ? value_index<Form>(d, t) : key_index<Form>(d, t);
        if constexpr (sizeof(Number) == 1)
          to[index] = has_codes ? Number(std::nearbyint(Activation::one(x[d]) * inverse)) : Number(0);
        else
          to[index] = x[d];
      }
    }
  }
}

template <class Form, class Number>
void write_tokens(const KvCache& cache, const AttentionStep& step, const void* key_values,
                  int stride) {
  using Stored = typename Form::Activation::Stored;
  auto write_sequence = [&](int i) {
    for (int64_t token = step.query_start[i]; token < step.query_start[i + 1]; token++) {
      const Stored* k = static_cast<const Stored*>(key_values) + token * stride;
      write_token<Form, Number>(cache, step.slots[token], k, k + size_t(cache.kv_heads) * cache.dim);
    }
  };
  if (step.tokens < 16)
    for (int i = 0; i < step.sequences; i++) write_sequence(i);
  else
    glm::run(step.sequences, write_sequence);
}

// --- attending -------------------------------------------------------------------------------------

// Softmax-weighted sum of a tile's rows over some subblocks.
struct State {
  float reference[kFloatRows];                      // score of each row that weights are relative to
  alignas(64) float sums[kFloatRows * kLanes];      // of weights, lane by lane
  alignas(64) float totals[kMostDim * kFloatRows];  // of values, [dim / 32, rows, 32]

  void clear(int rows, int dim) {
    std::fill_n(reference, rows, -INFINITY);
    std::fill_n(sums, rows * kLanes, 0.0f);
    std::fill_n(totals, size_t(rows) * dim, 0.0f);
  }

  Floats row_sums(int r) const { return load(sums + r * kLanes); }

  // What was added up relative to `reference[r]` counts for less.
  void rescale(int r, int rows, int dim, float now) {
    const float factor = now == reference[r] ? 1.0f : std::exp(reference[r] - now);
    reference[r] = now;
    if (factor == 1.0f) return;
    store(sums + r * kLanes, mul(row_sums(r), all(factor)));
    for (int panel = 0; panel < dim / kPanel; panel++)
      for (int i = 0; i < kPanel; i += kLanes) {
        float* p = totals + (size_t(panel) * rows + r) * kPanel + i;
        store(p, mul(load(p), all(factor)));
      }
  }

  void merge(const State& later, int rows, int dim) {
    for (int r = 0; r < rows; r++) {
      if (sum(later.row_sums(r)) == 0) continue;  // it saw nothing; a NaN it saw is in the sum
      const float top = std::max(reference[r], later.reference[r]);
      rescale(r, rows, dim, top);
      const Floats factor = all(std::exp(later.reference[r] - top));
      store(sums + r * kLanes, fma(later.row_sums(r), factor, row_sums(r)));
      for (int panel = 0; panel < dim / kPanel; panel++)
        for (int i = 0; i < kPanel; i += kLanes) {
          const size_t at = (size_t(panel) * rows + r) * kPanel + i;
          store(totals + at, fma(load(later.totals + at), factor, load(totals + at)));
        }
    }
  }
};

// Rows first..first+rows-1 of one sequence's queries with one K/V head, token by token.
struct Tile {
  int sequence, kv_head, first, rows;
};

template <class Form, class Number>
class Attention {
  using Activation = typename Form::Activation;
  using Dot = typename Form::Dot;
  using Stored = typename Activation::Stored;
  static constexpr bool kCodes = sizeof(Number) == 1;
  static constexpr int kSubblockSteps = kSubblock / Form::kPerStep;

 public:
  Attention(const KvCache& cache, const AttentionStep& step, const void* qkv, int heads, void* out)
      : cache_(cache),
        step_(step),
        qkv_(static_cast<const Stored*>(qkv)),
        out_(static_cast<Stored*>(out)),
        heads_(heads),
        queries_(heads - 2 * cache.kv_heads),
        group_(queries_ / cache.kv_heads),
        dim_(padded(cache.dim)),
        scale_(1 / std::sqrt(float(cache.dim))) {}

  void run() {
    const std::vector<Tile> tiles = make_tiles();
    int most = 1;
    for (int i = 0; i < step_.sequences; i++) most = std::max(most, spans(step_.contexts[i]));
    if (most > 1 && int(tiles.size()) < 4 * glm::threads()) return run_by_spans(tiles, most);
    const int num_tiles = int(tiles.size());
    glm::run(num_tiles, [&](int i) {
      const Tile& tile = tiles[i];
      // The tile that this thread probably takes next: its beginning is fetched at this one's end.
      const size_t next_tile = index(tiles[std::min(i + glm::threads(), num_tiles - 1)], 0);
      State whole, span;
      prepare(tile);
      const int count = spans(visible(tile));
      for (int s = 0; s < count; s++) {
        const size_t next = s + 1 < count ? index(tile, (s + 1) * kSpanSubblocks) : next_tile;
        attend_span(tile, s, next, s ? span : whole);
        if (s) whole.merge(span, tile.rows, dim_);
      }
      finish(tile, whole);
    });
  }

 private:
  // Few tiles with long contexts: spans are spread over threads, and merged afterwards.
  void run_by_spans(const std::vector<Tile>& tiles, int most) {
    static thread_local std::unique_ptr<State[]> kept;  // some megabytes, needed again in each layer
    static thread_local size_t room = 0;
    if (room < tiles.size() * most) kept.reset(new State[room = tiles.size() * most]);
    State* states = kept.get();
    const int count = int(tiles.size()) * most;
    glm::run(count, [&](int i) {
      const Tile& tile = tiles[i / most];
      if (i % most >= spans(visible(tile))) return;
      const int then = std::min(i + glm::threads(), count - 1);
      prepare(tile);
      attend_span(tile, i % most, index(tiles[then / most], then % most * kSpanSubblocks), states[i]);
    });
    for (size_t i = 0; i < tiles.size(); i++) {
      State& whole = states[i * most];
      for (int s = 1; s < spans(visible(tiles[i])); s++)
        whole.merge(states[i * most + s], tiles[i].rows, dim_);
      finish(tiles[i], whole);
    }
  }

  std::vector<Tile> make_tiles() const {
    std::vector<Tile> tiles;
    for (int i = 0; i < step_.sequences; i++) {
      const Tiling tiling(int(step_.query_start[i + 1] - step_.query_start[i]) * group_, kFloatRows);
      for (int head = 0; head < cache_.kv_heads; head++)
        for (int tile = 0; tile < tiling.count; tile++)
          tiles.push_back({i, head, tiling.first(tile), tiling.size(tile)});
    }
    return tiles;
  }

  static int spans(int64_t tokens) {
    return int((tokens + kSpanSubblocks * kSubblock - 1) / (kSpanSubblocks * kSubblock));
  }

  int64_t token(const Tile& tile, int r) const {
    return step_.query_start[tile.sequence] + (tile.first + r) / group_;
  }
  size_t query_head(const Tile& tile, int r) const {
    return size_t(tile.kv_head) * group_ + (tile.first + r) % group_;
  }

  // Tokens that the tile's last row attends to: no row sees more.
  int64_t visible(const Tile& tile) const {
    int64_t last = 0;
    for (int r = 0; r < tile.rows; r++) last = std::max(last, step_.last_visible[token(tile, r)]);
    return last + 1;
  }

  // The tile's queries, the rows of a step side by side; and what each row sees.
  void prepare(const Tile& tile) const {
    alignas(64) uint32_t words[kMostDim];
    std::memset(words, 0, sizeof words);
    Scratch& s = scratch();
    s.least_visible = INT64_MAX;
    for (int r = 0; r < tile.rows; r++) {
      s.visible[r] = step_.last_visible[token(tile, r)] + 1;
      s.least_visible = std::min(s.least_visible, s.visible[r]);
      const size_t at = (size_t(token(tile, r)) * heads_ + query_head(tile, r)) * cache_.dim;
      std::memcpy(words, qkv_ + at, sizeof(Stored) * cache_.dim);
      put_words(words, dim_ / Form::kPerStep, r, tile.rows, s.queries);
    }
  }

  // Where K of a tile's subblock lies, counted from the sequence's beginning; its V is behind it.
  size_t index(const Tile& tile, int i) const {
    const int64_t* table = step_.block_tables + size_t(tile.sequence) * step_.table_stride;
    const int64_t block = table[i / step_.subblocks_per_block];
    const int64_t subblock = block * step_.subblocks_per_block + i % step_.subblocks_per_block;
    return (size_t(subblock) * cache_.kv_heads + tile.kv_head) * 2;
  }

  // Prefetches the subblock at index `next` while it attends to the last one.
  void attend_span(const Tile& tile, int span, size_t next, State& state) const {
    state.clear(tile.rows, dim_);
    const int first = span * kSpanSubblocks;
    const int64_t visible_subblocks = (visible(tile) + kSubblock - 1) / kSubblock;
    const int last = int(std::min<int64_t>(first + kSpanSubblocks, visible_subblocks));
    for (int i = first; i < last; i++) {
      const size_t behind = i + 1 < last ? index(tile, i + 1) : next;
      attend_subblock(tile, i * kSubblock, index(tile, i), behind, state);
    }
  }

  // Attends to the subblock with K at index `at` of the cache and V behind it; prefetches `next`.
  void attend_subblock(const Tile& tile, int64_t position, size_t at, size_t next, State& state) const {
    const float* scales = kCodes ? cache_.scales + at * kSubblock : nullptr;
    Scratch& s = scratch();
    std::memset(s.scores, 0, sizeof(float) * tile.rows * kSubblock);
    const int steps = dim_ / Form::kPerStep;
    const uint8_t* keys = panels(at);
    float_tiles<Dot>(tile.rows, s.queries, keys, steps, ahead(next, 0), s.scores);
    weigh(tile, position, scales, state);
    const uint8_t* values = panels(at + 1);
    if (!kCodes && is_edge(position) && !is_finite(values))
      return add_row_by_row(tile, position, values, state);
    for (int panel = 0; panel < dim_ / kPanel; panel++) {
      const uint8_t* at_panel = values + size_t(panel) * kSubblockSteps * kStepBytes;
      float_tiles<Dot, kSubblockSteps>(tile.rows, s.weights, at_panel, kSubblockSteps,
                       ahead(next + 1, size_t(panel) * kSubblockSteps * kStepBytes),
                       state.totals + size_t(panel) * tile.rows * kPanel);
    }
  }

  // Fetches K or V at `index`, from `offset` bytes on as they are when they are no codes. Into the second
  // level, 16 sequences of 1,024 tokens take 1.15 times as long (Zen 5).
  Ahead<Level::kFirst> ahead(size_t index, size_t offset) const {
    constexpr int kRatio = sizeof(Stored) / sizeof(Number);
    const auto* numbers = static_cast<const Number*>(cache_.numbers) + index * dim_ * kSubblock;
    return {reinterpret_cast<const uint8_t*>(numbers) + offset / kRatio, kStepBytes / kRatio};
  }

  // Whether some row does not see all of the subblock at `position`.
  static bool is_edge(int64_t position) {
    return scratch().least_visible - position < kSubblock;
  }

  bool is_finite(const uint8_t* panels) const {
    using Bits = std::conditional_t<sizeof(Stored) == 2, uint16_t, uint32_t>;
    constexpr Bits kInfinity = sizeof(Stored) == 2 ? 0x7f80 : 0x7f800000;
    constexpr Bits kMagnitude = Bits(~Bits(0)) >> 1;
    const auto* numbers = reinterpret_cast<const Bits*>(panels);
    Bits most = 0;
    for (int i = 0; i < dim_ * kSubblock; i++) most = std::max(most, Bits(numbers[i] & kMagnitude));
    return most < kInfinity;
  }

  // Values that a row does not see have a weight of zero, but zero times NaN is NaN: an earlier
  // sequence may have left one in the block, or a token of this step that other rows do see.
  void add_row_by_row(const Tile& tile, int64_t position, const uint8_t* panels, State& state) const {
    Scratch& s = scratch();
    for (int r = 0; r < tile.rows; r++) {
      std::memcpy(s.panels, panels, size_t(dim_) * kSubblock * sizeof(Stored));
      auto* values = reinterpret_cast<Stored*>(s.panels);
      for (int t = int(std::max<int64_t>(seen(r, position), 0)); t < kSubblock; t++)
        for (int d = 0; d < dim_; d++) values[value_index<Form>(d, t)] = 0;
      for (int panel = 0; panel < dim_ / kPanel; panel++) {
        const uint8_t* at_panel = s.panels + size_t(panel) * kSubblockSteps * kStepBytes;
        float_tile<Dot, 1>(s.weights + r * kSubblockSteps, at_panel, kSubblockSteps,
                           Ahead<Level::kFirst>{at_panel, kStepBytes},
                           state.totals + (size_t(panel) * tile.rows + r) * kPanel);
      }
    }
  }

  // How many slots from `position` on row r attends to; may be negative, or more than kSubblock.
  static int64_t seen(int r, int64_t position) { return scratch().visible[r] - position; }

  // Scores to weights, relative to each row's reference.
  void weigh(const Tile& tile, int64_t position, const float* scales, State& state) const {
    const int64_t hidden = step_.hidden ? step_.hidden[tile.sequence] - position : 0;
    if (!is_edge(position) && hidden <= 0) return weigh_whole(tile, scales, state);
    for (int r = 0; r < tile.rows; r++) {
      const int first = int(std::clamp<int64_t>(hidden, 0, kSubblock));
      const int last = int(std::clamp<int64_t>(seen(r, position), 0, kSubblock));
      if (first < last)
        weigh_slots(tile, r, first, last, scales, state);
      else
        std::memset(weights(r), 0, sizeof(Stored) * kSubblock);
    }
  }

  // For rows that see the whole subblock; each gets the bits that weigh_slots gives. The second loop calls
  // nothing, so its constants stay in registers.
  void weigh_whole(const Tile& tile, const float* scales, State& state) const {
    float* scores = scratch().scores;
    const Floats scale = all(scale_);
    for (int r = 0; r < tile.rows; r++) {
      if (kCodes) multiply(scores + r * kSubblock, scales);
      raise_reference(tile, r, mul(largest_score(r), scale), state);
    }
    for (int r = 0; r < tile.rows; r++) {
      const Floats shift = all(-state.reference[r]);
      Floats sums = state.row_sums(r);
      for (int i = 0; i < kSubblock; i += kLanes) {
        Floats weight = exp(fma(load(scores + r * kSubblock + i), scale, shift));
        sums = add(sums, weight);
        if (kCodes) weight = mul(weight, load(scales + kSubblock + i));
        Activation::store(weights(r) + i, weight);
      }
      store(state.sums + r * kLanes, sums);
    }
  }

  // For row r, which sees the slots from `first` to `last`. The others have weight 0.
  void weigh_slots(const Tile& tile, int r, int first, int last, const float* scales,
                   State& state) const {
    float* scores = scratch().scores + r * kSubblock;
    const auto hide = [&](float value) {
      std::fill_n(scores, first, value);
      std::fill(scores + last, scores + kSubblock, value);
    };
    if (kCodes) multiply(scores, scales);
    hide(-INFINITY);
    const Floats scale = all(scale_);
    raise_reference(tile, r, mul(largest_score(r), scale), state);
    const Floats shift = all(-state.reference[r]);
    for (int i = 0; i < kSubblock; i += kLanes)
      store(scores + i, exp(fma(load(scores + i), scale, shift)));
    hide(0);
    Floats sums = state.row_sums(r);
    for (int i = 0; i < kSubblock; i += kLanes) sums = add(sums, load(scores + i));
    store(state.sums + r * kLanes, sums);
    if (kCodes) {
      multiply(scores, scales + kSubblock);
      hide(0);  // an unseen slot's scale may be NaN
    }
    for (int i = 0; i < kSubblock; i += kLanes) Activation::store(weights(r) + i, load(scores + i));
  }

  // Lane by lane.
  static Floats largest_score(int r) {
    const float* scores = scratch().scores + r * kSubblock;
    Floats top = load(scores);
    for (int i = kLanes; i < kSubblock; i += kLanes) top = max(top, load(scores + i));
    return top;
  }

  // A NaN in `top` may get lost here, but not in the weights.
  void raise_reference(const Tile& tile, int r, Floats top, State& state) const {
    if (any_at_least(top, all(state.reference[r] + kSlack)))
      state.rescale(r, tile.rows, dim_, std::max(state.reference[r], largest(top)));
  }

  static void multiply(float* scores, const float* scales) {
    for (int i = 0; i < kSubblock; i += kLanes)
      store(scores + i, mul(load(scores + i), load(scales + i)));
  }

  static Stored* weights(int r) {
    return reinterpret_cast<Stored*>(scratch().weights + r * kSubblockSteps);
  }

  // Row r of the activations of a tile.
  static void put_words(const uint32_t* words, int steps, int r, int rows, uint32_t* to) {
    for (int s = 0; s < steps; s++) to[size_t(s) * rows + r] = words[s];
  }

  // A subblock's K (or V, with an odd `index`) as panels; codes are converted to activations.
  const uint8_t* panels(size_t index) const {
    const size_t count = size_t(dim_) * kSubblock;
    const auto* numbers = static_cast<const Number*>(cache_.numbers) + index * count;
    if constexpr (kCodes) {
      auto* to = reinterpret_cast<Stored*>(scratch().panels);
      for (size_t i = 0; i < count; i += kLanes) Activation::store(to + i, load_codes(numbers + i));
      return scratch().panels;
    } else {
      return reinterpret_cast<const uint8_t*>(numbers);
    }
  }

  void finish(const Tile& tile, const State& state) const {
    for (int r = 0; r < tile.rows; r++) {
      Stored* to = out_ + (size_t(token(tile, r)) * queries_ + query_head(tile, r)) * cache_.dim;
      const float inverse = 1 / sum(state.row_sums(r));
      alignas(64) Stored row[kMostDim];
      for (int d = 0; d < dim_; d += kLanes) {
        const size_t at = (size_t(d / kPanel) * tile.rows + r) * kPanel + d % kPanel;
        Activation::store(row + d, mul(load(state.totals + at), all(inverse)));
      }
      std::memcpy(to, row, sizeof(Stored) * cache_.dim);
    }
  }

  struct Scratch {
    alignas(64) uint32_t queries[kMostDim * kFloatRows];
    alignas(64) float scores[kFloatRows * kSubblock];
    alignas(64) uint32_t weights[kFloatRows * kSubblock];
    alignas(64) uint8_t panels[kMostDim * kSubblock * sizeof(Stored)];
    int64_t visible[kFloatRows];  // tokens that each row attends to
    int64_t least_visible;
  };
  static Scratch& scratch() {
    static thread_local std::unique_ptr<Scratch> one(new Scratch);
    return *one;
  }

  const KvCache& cache_;
  const AttentionStep& step_;
  const Stored* qkv_;
  Stored* out_;
  const int heads_, queries_, group_, dim_;
  const float scale_;
};

template <class Form, class Number>
void attend_tokens(const KvCache& cache, const AttentionStep& step, const void* qkv, int heads,
                   void* out) {
  Attention<Form, Number>(cache, step, qkv, heads, out).run();
}

// --- by type ---------------------------------------------------------------------------------------

void write(const KvCache& cache, const AttentionStep& step, const void* key_values, int stride) {
  if (cache.type == Type::kFloat32)
    return (cache.is_int8 ? write_tokens<Wide, int8_t> : write_tokens<Wide, float>)(
        cache, step, key_values, stride);
  (cache.is_int8 ? write_tokens<Narrow, int8_t> : write_tokens<Narrow, uint16_t>)(
      cache, step, key_values, stride);
}

void attend(const KvCache& cache, const AttentionStep& step, const void* qkv, int heads, void* out) {
  if (cache.type == Type::kFloat32)
    return (cache.is_int8 ? attend_tokens<Wide, int8_t> : attend_tokens<Wide, float>)(
        cache, step, qkv, heads, out);
  (cache.is_int8 ? attend_tokens<Narrow, int8_t> : attend_tokens<Narrow, uint16_t>)(
      cache, step, qkv, heads, out);
}

extern const glm::AttentionKernels attention_kernels;
const glm::AttentionKernels attention_kernels{write, attend};

}  // namespace GLM_ISA
