#include "kvcache/codecs/raw_form.h"

#include <algorithm>

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/raw_form.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/vec16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {
namespace {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

// How an element lies in a page.
HWY_INLINE V16 LoadElements(const uint16_t* p) { return LoadHalf(p); }
HWY_INLINE V16 LoadElements(const float* p) { return Load(p); }
HWY_INLINE void StoreElements(V16 a, uint16_t* p) { StoreHalf(a, p); }
HWY_INLINE void StoreElements(V16 a, float* p) { Store(a, p); }

template <typename Element>
HWY_INLINE const Element* Keys(const std::byte* page) {
  return reinterpret_cast<const Element*>(page);
}
template <typename Element>
HWY_INLINE const Element* Values(const std::byte* page, int head_dim) {
  return Keys<Element>(page) + static_cast<int64_t>(head_dim) * kPageTokens;
}

// `kRows` queries against the page: each key channel is loaded once for all of them.
template <typename Element, int kRows>
void ScoreRows(const RawScoresArgs& a, int first_row) {
  const Element* keys = Keys<Element>(a.page);
  const float* queries = a.queries + first_row * a.query_stride;
  V16 low[kRows], high[kRows];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) low[r] = high[r] = Zero();
  for (int d = 0; d < a.head_dim; ++d) {
    const V16 key_low = LoadElements(keys + d * kPageTokens);
    const V16 key_high = LoadElements(keys + d * kPageTokens + 16);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const V16 q = Set(queries[r * a.query_stride + d]);
      low[r] = Fma(q, key_low, low[r]);
      high[r] = Fma(q, key_high, high[r]);
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    float* out = a.scores + (first_row + r) * a.score_stride;
    Store(low[r], out);
    Store(high[r], out + 16);
  }
}

// `kRows` weighted sums over 16 * kChunks channels starting at `channel`.
template <typename Element, int kRows, int kChunks>
void MixBlock(const RawMixArgs& a, int first_row, int channel) {
  const Element* values = Values<Element>(a.page, a.head_dim) + channel;
  const float* weights = a.weights + first_row * a.weight_stride;
  float* mixed = a.mixed + first_row * a.mixed_stride + channel;
  V16 sum[kRows][kChunks];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int c = 0; c < kChunks; ++c) sum[r][c] = Load(mixed + r * a.mixed_stride + 16 * c);
  }
  for (int t = a.first; t < a.last; ++t) {
    V16 value[kChunks];
    NIBBLE_UNROLL for (int c = 0; c < kChunks; ++c) value[c] = LoadElements(values + t * a.head_dim + 16 * c);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const V16 w = Set(weights[r * a.weight_stride + t]);
      NIBBLE_UNROLL for (int c = 0; c < kChunks; ++c) sum[r][c] = Fma(w, value[c], sum[r][c]);
    }
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int c = 0; c < kChunks; ++c) Store(sum[r][c], mixed + r * a.mixed_stride + 16 * c);
  }
}

template <typename Element, int kRows>
void MixRows(const RawMixArgs& a, int first_row) {
  int channel = 0;
  for (; channel + 32 <= a.head_dim; channel += 32) MixBlock<Element, kRows, 2>(a, first_row, channel);
  if (channel < a.head_dim) MixBlock<Element, kRows, 1>(a, first_row, channel);
}

template <typename Element>
void Scores(const RawScoresArgs& a) {
  int row = 0;
  for (; row + 6 <= a.rows; row += 6) ScoreRows<Element, 6>(a, row);
  for (; row + 3 <= a.rows; row += 3) ScoreRows<Element, 3>(a, row);
  for (; row < a.rows; ++row) ScoreRows<Element, 1>(a, row);
}

template <typename Element>
void Mix(const RawMixArgs& a) {
  int row = 0;
  for (; row + 6 <= a.rows; row += 6) MixRows<Element, 6>(a, row);
  for (; row + 3 <= a.rows; row += 3) MixRows<Element, 3>(a, row);
  for (; row < a.rows; ++row) MixRows<Element, 1>(a, row);
}

template <typename Element>
void StoreRow(std::byte* page, int head_dim, int slot, const float* key, const float* value) {
  auto* keys = reinterpret_cast<Element*>(page);
  Element* values = keys + static_cast<int64_t>(head_dim) * kPageTokens + static_cast<int64_t>(slot) * head_dim;
  for (int d = 0; d < head_dim; d += 16) {
    HWY_ALIGN Element column[16];
    StoreElements(Load(key + d), column);
    for (int i = 0; i < 16; ++i) keys[(d + i) * kPageTokens + slot] = column[i];
    StoreElements(Load(value + d), values + d);
  }
}

template <typename Element>
const RawForm& Form() {
  static constexpr RawForm kForm = {sizeof(Element), StoreRow<Element>, Scores<Element>, Mix<Element>};
  return kForm;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::kv {

const RawForm& RawFormF16(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Form<uint16_t>()); }
const RawForm& RawFormF32(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Form<float>()); }

}  // namespace nibble::kv
#endif  // HWY_ONCE
