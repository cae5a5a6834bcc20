// A codec put together from how it codes keys and how it codes values. A head's bytes are those of Keys, then of
// Values. Both have:
//
//   Bytes(head_dim)             of one head's page; explicit Keys(int head_dim)
//   Encode(raw, out)            raw: f16 keys [head_dim][32 tokens], or f16 values [32 tokens][head_dim]
//   Page, LoadPage(sealed, page) what kernels read of one head's page
//
// and of PageCodec's functions Keys Score, Values mix_floats, Mix and FinishMix; Score and Mix take at most
// kPagesAtOnce pages.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_KEYS_AND_VALUES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_KEYS_AND_VALUES_INL_H_
#undef NIBBLE_KVCACHE_CODECS_KEYS_AND_VALUES_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_KEYS_AND_VALUES_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kvcache/codecs/affine_codec.h"
#include "kvcache/codecs/lane_dots-inl.h"
#include "kvcache/codecs/value_mix-inl.h"
#include "kvcache/simd/prefetch.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using simd::PrefetchBytes;

template <typename Keys, typename Values>
class KeysAndValues final : public AffineCodec {
 public:
  explicit KeysAndValues(const CodecModel& model)
      : AffineCodec(model, Keys::Bytes(model.head_dim) + Values::Bytes(model.head_dim)),
        keys_(model.head_dim),
        values_(model.head_dim) {}

  void Encode(HeadId /*head*/, int64_t /*page_index*/, const uint16_t* raw, std::byte* out) const final {
    keys_.Encode(raw, reinterpret_cast<uint8_t*>(out));
    values_.Encode(raw + head_dim() * kPageTokens, reinterpret_cast<uint8_t*>(out) + key_bytes());
  }

  int64_t query_floats() const final { return head_dim(); }
  void PrepareQueries(HeadId /*head*/, const float* queries, int rows, float* prepared) const final {
    std::copy_n(queries, static_cast<int64_t>(rows) * head_dim(), prepared);
  }

  void Scores(HeadId /*head*/, const PageRun& run, const float* prepared, int rows, float* scores,
              int64_t score_stride) const final {
    typename Keys::Page keys[kPagesAtOnce];
    PrefetchKeys(run.pages.subspan(0, kPagesAtOnce));
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto pages = run.pages.subspan(first, kPagesAtOnce);
      PrefetchKeys(run.pages.subspan(first + pages.size(), kPagesAtOnce));
      for (size_t p = 0; p < pages.size(); ++p) {
        keys_.LoadPage(reinterpret_cast<const uint8_t*>(pages[p]), &keys[p]);
        PrefetchBytes(pages[p] + key_bytes(), Values::Bytes(head_dim()));  // for Mix
      }
      keys_.Score(keys, static_cast<int>(pages.size()), {prepared, scores + first * kPageTokens, score_stride}, rows);
    }
  }

  int64_t mix_floats() const final { return values_.mix_floats(); }

  void Mix(HeadId /*head*/, const PageRun& run, const float* weights, int64_t weight_stride, int rows,
           float* accumulators) const final {
    typename Values::Page values[kPagesAtOnce];
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto pages = run.pages.subspan(first, kPagesAtOnce);
      for (size_t p = 0; p < pages.size(); ++p) {
        values_.LoadPage(reinterpret_cast<const uint8_t*>(pages[p]) + key_bytes(), &values[p]);
      }
      if (first < run.ahead.pages.size()) PrefetchKeys(run.ahead.pages.subspan(first, kPagesAtOnce));
      const MixRows at = {weights + first * kPageTokens, weight_stride, accumulators, mix_floats()};
      values_.Mix(values, static_cast<int>(pages.size()), at, rows);
    }
  }

  void FinishMix(HeadId /*head*/, const float* accumulators, int rows, float* mixed) const final {
    values_.FinishMix(accumulators, rows, mixed);
  }

 private:
  int64_t key_bytes() const { return Keys::Bytes(head_dim()); }

  void PrefetchKeys(absl::Span<const std::byte* const> pages) const {
    for (const std::byte* page : pages) PrefetchBytes(page, key_bytes());
  }

  const Keys keys_;
  const Values values_;
};

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_KEYS_AND_VALUES_INL_H_
