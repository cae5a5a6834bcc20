// A codec at work on one model: how a full page of raw f16 rows becomes its sealed bytes, once, and how attention reads
// those bytes. Nobody ever asks for decoded rows: attention asks for *scores* (query rows against the tokens of a run
// of pages) and for the *mix* of values by weights. So folded scales, transforms and look-ups all fit.
//
// One attention call per KV head and tile of query rows goes: PrepareQueries once; then for each run of sealed pages
// Scores, (softmax by the caller), Mix into accumulators of the codec's own space; FinishMix once, which brings those
// back to the space of values.
//
// Law 1: sealed bytes are a function of the raw page, layer, head and page index alone. A row's scores and accumulators
// are the same bits whatever rows the call holds and wherever at a span's end it is cut, on every instruction set. Long
// sums are int32 sums of integer products (exact in any order) or run in the order that the codec's file states; floats
// fuse multiply-add (kvcache/simd/vec16-inl.h).
//
// Thread: immutable after creation; all methods are const and may run on any number of threads.
#ifndef NIBBLE_KVCACHE_CODECS_PAGE_CODEC_H_
#define NIBBLE_KVCACHE_CODECS_PAGE_CODEC_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "kvcache/page.h"

namespace nibble::kv {

// One head of one layer.
struct HeadId {
  int layer = 0;
  int kv_head = 0;
};

// Pages whose keys are read next, of this head or another.
struct PagesAhead {
  HeadId head;
  absl::Span<const std::byte* const> pages;
};

// Consecutive pages of one sequence, as one head's sealed bytes.
struct PageRun {
  absl::Span<const std::byte* const> pages;
  int64_t first_index = 0;  // of pages[0] in the sequence: its first token is at position 32 * first_index
  // Memory is slower than what is done with a page: Mix asks it for these keys on its way, as Scores does for the
  // values.
  PagesAhead ahead = {};

  int64_t tokens() const { return static_cast<int64_t>(pages.size()) * kPageTokens; }
};

class PageCodec {
 public:
  virtual ~PageCodec() = default;

  // Of a sealed page, all layers and heads.
  virtual int64_t page_bytes() const = 0;
  // Of one head's bytes inside a page: ascending, layer after layer, inside a layer head after head, without gaps. (The
  // pool keeps the heads of a page apart, so their bytes start at no particular multiple.)
  virtual int64_t head_offset(HeadId head) const = 0;
  // What the codec itself holds in memory: codebooks, transforms, tables.
  virtual int64_t table_bytes() const = 0;

  // Encodes a full page: `raw` is the head's raw f16 form (raw_form.h), keys after RoPE.
  virtual void Encode(HeadId head, int64_t page_index, const uint16_t* raw, std::byte* out) const = 0;

  // What Scores takes as queries: [rows, query_floats()] made of [rows, head_dim] already scaled rows. Opaque, no
  // padding between rows; a query's own part depends on that query alone.
  virtual int64_t query_floats() const = 0;
  virtual void PrepareQueries(HeadId head, const float* queries, int rows, float* prepared) const = 0;

  // scores[r * score_stride + t] = query r . key t, t over the run's tokens.
  virtual void Scores(HeadId head, const PageRun& run, const float* prepared, int rows, float* scores,
                      int64_t score_stride) const = 0;

  // accumulators[r] += the mix of the run's values by weights[r * weight_stride + t] from 0 to 1, pages ascending.
  // Weights of tokens that a row does not see are 0; pages at either end of a run whose weights are all 0 change no bit
  // of that row. Where else a run ends may change bits, unless it is at a multiple of kSpanPages (calibration.h).
  // [rows, mix_floats()], no padding; zeros are the empty mix, and sums and multiples by a number are taken
  // elementwise.
  virtual int64_t mix_floats() const = 0;
  virtual void Mix(HeadId head, const PageRun& run, const float* weights, int64_t weight_stride, int rows,
                   float* accumulators) const = 0;
  // mixed[r] += what accumulators[r] stand for. mixed: [rows, head_dim].
  virtual void FinishMix(HeadId head, const float* accumulators, int rows, float* mixed) const = 0;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_PAGE_CODEC_H_
