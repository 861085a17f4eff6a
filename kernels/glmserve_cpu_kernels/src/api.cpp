// The functions that Python calls. Pointers are of contiguous tensors with the shapes in the headers.

#include <cstring>
#include <memory>
#include <span>

#if defined(__aarch64__)
#include <sys/auxv.h>
#else
#include <cpuid.h>
#endif

#include "amx.h"
#include "attention.h"
#include "channel.h"
#include "elementwise.h"
#include "exchange.h"
#include "linear.h"
#include "lora.h"
#include "pack.h"
#include "huge_pages.h"
#include "pool.h"
#include "sampling.h"

#define GLM_DECLARE(name)                                    \
  namespace name {                                           \
  extern const glm::LinearKernels linear_kernels;            \
  extern const glm::AttentionKernels attention_kernels;      \
  extern const glm::ElementwiseKernels elementwise_kernels;  \
  extern const glm::SamplingKernels sampling_kernels;        \
  extern const glm::LoraKernels lora_kernels;                \
  }
#if defined(__aarch64__)
GLM_DECLARE(neon_bf16)
GLM_DECLARE(neon_dotprod)
GLM_DECLARE(neon)
#else
GLM_DECLARE(avx512_bf16)
GLM_DECLARE(avx512_vnni)
GLM_DECLARE(avx2)
namespace avx2_vnni {  // only products of integers differ from those of avx2
extern const glm::LinearKernels linear_kernels;
}
namespace amx {  // only products with weights differ from those of avx512_bf16
extern const glm::LinearKernels linear_kernels;
}
#endif

namespace {

struct InstructionSet {
  const char* name;
  bool supported;
  const glm::LinearKernels& linear;
  const glm::AttentionKernels& attention;
  const glm::ElementwiseKernels& elementwise;
  const glm::SamplingKernels& sampling;
  const glm::LoraKernels& lora;
};

#define GLM_OTHER_KERNELS(name)                                                             \
  name::attention_kernels, name::elementwise_kernels, name::sampling_kernels, \
      name::lora_kernels
#define GLM_KERNELS(name) name::linear_kernels, GLM_OTHER_KERNELS(name)

const char* amx_fault = nullptr;  // why AMX is not used though this machine has it

// The best one first.
#if defined(__aarch64__)
std::span<const InstructionSet> instruction_sets() {
  constexpr unsigned long kDotProd = 1 << 20;              // of AT_HWCAP, see Linux' asm/hwcap.h
  constexpr unsigned long kInt8 = 1 << 13, kBf16 = 1 << 14;  // of AT_HWCAP2
  const bool dotprod = getauxval(AT_HWCAP) & kDotProd;
  const unsigned long more = getauxval(AT_HWCAP2);
  const bool bf16 = dotprod && (more & kInt8) && (more & kBf16);
  static const InstructionSet all[] = {
      {"neon_bf16", bf16, GLM_KERNELS(neon_bf16)},
      {"neon_dotprod", dotprod, GLM_KERNELS(neon_dotprod)},
      {"neon", true, GLM_KERNELS(neon)},
  };
  return all;
}
#else
bool amx_agrees() {
  amx_fault = glm::amx_difference(amx::linear_kernels, avx512_bf16::linear_kernels);
  return !amx_fault;
}

bool has_avx_vnni() {  // __builtin_cpu_supports of clang 14 does not know it
  constexpr unsigned kAvxVnni = 1 << 4;  // in EAX of leaf 7, subleaf 1
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kAvxVnni);
}

std::span<const InstructionSet> instruction_sets() {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const bool vnni = avx2 && has_avx_vnni();
  static const bool amx = bf16 && glm::has_amx() && amx_agrees();
  static const InstructionSet all[] = {
      {"amx", amx, amx::linear_kernels, GLM_OTHER_KERNELS(avx512_bf16)},
      {"avx512_bf16", bf16, GLM_KERNELS(avx512_bf16)},
      {"avx512_vnni", avx512, GLM_KERNELS(avx512_vnni)},
      {"avx2_vnni", vnni, avx2_vnni::linear_kernels, GLM_OTHER_KERNELS(avx2)},
      {"avx2", avx2, GLM_KERNELS(avx2)},
  };
  return all;
}
#endif

const InstructionSet* in_use = nullptr;

// A call of a kernel with its arguments, each kind in order. As in tape.py.
enum Kernel : int32_t { kLinear, kRmsNorm, kSiluAndMul, kGelu, kRope, kWrite, kAttend };
struct Call {
  void* pointers[4];
  int32_t kind;
  int32_t ints[6];
  float number;
};

}  // namespace

extern "C" {

// Selects the instruction set `name`, or the best one for null. Its name; null if the CPU lacks it.
const char* glm_use(const char* name) {
  for (const InstructionSet& set : instruction_sets())
    if (set.supported && (!name || !std::strcmp(name, set.name))) {
      in_use = &set;
      return set.name;
    }
  return nullptr;
}

// After glm_use: why AMX is not used though this machine has it, or null.
const char* glm_amx_fault() { return amx_fault; }

void glm_set_threads(int count) { glm::set_threads(count); }

size_t glm_exchange_bytes(int ranks) { return glm::exchange_bytes(ranks); }

void glm_exchange(void* shared, int rank, int ranks, uint32_t* round, const void* own, size_t bytes,
                  void* all) {
  glm::exchange(shared, rank, ranks, round, own, bytes, all);
}

size_t glm_channel_bytes() { return glm::channel_bytes(); }

void glm_channel_send(void* shared, const void* data, size_t bytes) {
  glm::channel_send(shared, data, bytes);
}

void glm_channel_receive(void* shared, void* data, size_t bytes) {
  glm::channel_receive(shared, data, bytes);
}

void glm_ask_for_large_pages(void* start, size_t bytes) { glm::ask_for_huge_pages(start, bytes); }

size_t glm_packed_bytes(int32_t format, int outputs, int inputs, int group) {
  return glm::packed_bytes(glm::Format(format), outputs, inputs, group);
}

void glm_pack(int32_t format, const void* weight, int outputs, int inputs, int group, void* packed) {
  glm::pack(glm::Format(format), weight, outputs, inputs, group, packed);
}

void glm_linear(const glm::Linear* linear, const void* x, int rows, int32_t type, const void* bias,
                void* y, int32_t y_type) {
  in_use->linear.linear(*linear, x, rows, glm::Type(type), bias, y, glm::Type(y_type));
}

// The most likely of the allowed outputs of each row, and its value: a NaN if the row holds one or allows
// nothing.
void glm_most_likely(const glm::Linear* linear, const void* x, int rows, int32_t type,
                     const uint32_t* allowed, int32_t* indices, float* values) {
  const std::unique_ptr<std::atomic<glm::Ranked>[]> best(new std::atomic<glm::Ranked>[rows]);
  for (int r = 0; r < rows; r++) best[r] = glm::kNoOutput;
  in_use->linear.most_likely(*linear, x, rows, glm::Type(type), {allowed, best.get()});
  for (int r = 0; r < rows; r++) {
    indices[r] = glm::index_of(best[r]);
    values[r] = glm::number_of(best[r]);
  }
}

void glm_rms_norm(int32_t type, const void* x, void* residual, const void* weight, float eps,
                  int tokens, int size, void* out) {
  in_use->elementwise.rms_norm(glm::Type(type), x, residual, weight, eps, tokens, size, out);
}

void glm_silu_and_mul(int32_t type, const void* x, int tokens, int size, void* out) {
  in_use->elementwise.silu_and_mul(glm::Type(type), x, tokens, size, out);
}

void glm_gelu(int32_t type, const void* x, int tokens, int size, void* out) {
  in_use->elementwise.gelu(glm::Type(type), x, tokens, size, out);
}

void glm_rope(int32_t type, void* x, const float* rows, int tokens, int heads, int dim, int stride,
              int pairs) {
  in_use->elementwise.rope(glm::Type(type), x, rows, tokens, heads, dim, stride, pairs);
}

void glm_write(const glm::KvCache* cache, const glm::AttentionStep* step, const void* key_values,
               int stride) {
  in_use->attention.write(*cache, *step, key_values, stride);
}

void glm_attend(const glm::KvCache* cache, const glm::AttentionStep* step, const void* qkv,
                int heads, void* out) {
  in_use->attention.attend(*cache, *step, qkv, heads, out);
}

// Calls one kernel after the other.
void glm_replay(const Call* calls, int count) {
  for (const Call* call = calls; call < calls + count; call++) {
    void* const* p = call->pointers;
    const int32_t* i = call->ints;
    switch (call->kind) {
      case kLinear:
        glm_linear(static_cast<const glm::Linear*>(p[0]), p[1], i[0], i[1], p[2], p[3], i[2]);
        break;
      case kRmsNorm: glm_rms_norm(i[0], p[0], p[1], p[2], call->number, i[1], i[2], p[3]); break;
      case kSiluAndMul: glm_silu_and_mul(i[0], p[0], i[1], i[2], p[1]); break;
      case kGelu: glm_gelu(i[0], p[0], i[1], i[2], p[1]); break;
      case kRope:
        glm_rope(i[0], p[0], static_cast<const float*>(p[1]), i[1], i[2], i[3], i[4], i[5]);
        break;
      case kWrite:
        glm_write(static_cast<const glm::KvCache*>(p[0]),
                  static_cast<const glm::AttentionStep*>(p[1]), p[2], i[0]);
        break;
      case kAttend:
        glm_attend(static_cast<const glm::KvCache*>(p[0]),
                   static_cast<const glm::AttentionStep*>(p[1]), p[2], i[0], p[3]);
        break;
    }
  }
}

void glm_add_lora(const glm::LoraAdapter* slots, const glm::LoraRows* rows, int32_t type, const void* x,
                  int inputs, int outputs, void* y) {
  in_use->lora.add(slots, *rows, glm::Type(type), x, inputs, outputs, y);
}

void glm_draw(const float* const* rows, int count, int vocab, const glm::Draw* how, int32_t* ids) {
  in_use->sampling.draw(rows, count, vocab, how, ids);
}

}  // extern "C"
