#include "engine/sampling/vocab_passes.h"

#include <algorithm>
#include <limits>

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/sampling/vocab_passes.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/vec16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace engine {
namespace HWY_NAMESPACE {
namespace {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

constexpr float kLowest = -std::numeric_limits<float>::infinity();

// Calls body(sixteen logits, id of the first); the last vector is filled up with `fill`.
template <typename Body>
HWY_INLINE void ForEachVector(absl::Span<const float> logits, float fill, const Body& body) {
  const int64_t size = static_cast<int64_t>(logits.size());
  int64_t id = 0;
  for (; id + 16 <= size; id += 16) body(Load(logits.data() + id), id);
  if (id == size) return;
  HWY_ALIGN float tail[16];
  std::fill(std::copy(logits.data() + id, logits.data() + size, tail), tail + 16, fill);
  body(Load(tail), id);
}

bool AllFinite(absl::Span<const float> logits) {
  V16 zeros = Zero();  // x - x is 0 or NaN, and NaN stays
  ForEachVector(logits, 0.0f, [&](V16 x, int64_t) { zeros = Add(zeros, Sub(x, x)); });
  return SumLanes(zeros) == 0.0f;
}

float MaxOf(absl::Span<const float> logits) {
  V16 max = Set(kLowest);
  ForEachVector(logits, kLowest, [&](V16 x, int64_t) { max = Max(max, x); });
  return MaxLanes16(max);
}

HWY_INLINE bool AnyAtLeast(V16 x, V16 threshold) {
  bool any = false;
  NIBBLE_PARTS any |= !hn::AllFalse(F(), hn::Ge(x.v[i], threshold.v[i]));
  return any;
}

// The id of the first logit >= value, or size. For value = max that is the first maximum.
int64_t FirstAtLeast(absl::Span<const float> logits, int64_t from, float value) {
  const int64_t size = static_cast<int64_t>(logits.size());
  const V16 threshold = Set(value);
  int64_t id = from;
  while (id + 16 <= size && !AnyAtLeast(Load(logits.data() + id), threshold)) id += 16;
  while (id < size && !(logits[id] >= value)) ++id;
  return id;
}

int64_t FirstEqual(absl::Span<const float> logits, float value) {
  const int64_t size = static_cast<int64_t>(logits.size());
  int64_t id = FirstAtLeast(logits, 0, value);
  while (id < size && logits[id] != value) id = FirstAtLeast(logits, id + 1, value);
  return id < size ? id : -1;
}

void Collect(absl::Span<const float> logits, float threshold, std::vector<Candidate>* out) {
  const int64_t size = static_cast<int64_t>(logits.size());
  const V16 vector_threshold = Set(threshold);
  ForEachVector(logits, kLowest, [&](V16 x, int64_t first) {
    if (!AnyAtLeast(x, vector_threshold)) return;
    const int64_t last = std::min(first + 16, size);
    for (int64_t id = first; id < last; ++id) {
      if (logits[id] >= threshold) out->push_back({static_cast<int32_t>(id), logits[id], 0.0f});
    }
  });
}

void ExpSums(absl::Span<const float> logits, float max, float scale, float* sums) {
  const V16 vector_max = Set(max), vector_scale = Set(scale);
  for (size_t first = 0; first < logits.size(); first += kVocabBlock) {
    V16 sum = Zero();
    ForEachVector(logits.subspan(first, kVocabBlock), kLowest,
                  [&](V16 x, int64_t) { sum = Add(sum, Exp(Mul(Sub(x, vector_max), vector_scale))); });
    *sums++ = SumLanes(sum);
  }
}

void Exponentials(absl::Span<const float> logits, float max, float scale, float* out) {
  const V16 vector_max = Set(max), vector_scale = Set(scale);
  const int64_t size = static_cast<int64_t>(logits.size());
  ForEachVector(logits, max, [&](V16 x, int64_t first) {
    HWY_ALIGN float values[16];
    Store(Exp(Mul(Sub(x, vector_max), vector_scale)), values);
    std::copy_n(values, std::min<int64_t>(16, size - first), out + first);
  });
}

const VocabPasses& Passes() {
  static constexpr VocabPasses kPasses = {AllFinite, MaxOf, FirstEqual, Collect, ExpSums, Exponentials};
  return kPasses;
}

}  // namespace

}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

const VocabPasses& VocabPassesFor(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Passes()); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
