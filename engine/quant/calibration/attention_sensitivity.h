// How much a model's output depends on each cached key and value, from a forward pass alone.
//
// Query i of a head attends with probabilities p_it and yields o_i. An error e of value t moves the attention's output
// by p_it e, one of key t by p_it (v_t - o_i) scale (q_i . e); G, the Gram matrix of the head's slice of the output
// projection, turns a move m into the energy m G m that enters the residual stream, and its share is that over the
// stream's own energy. Summed over the queries that read the token sealed:
//   value t: w_t e G e,   w_t = sum_i p_it^2 / |x_i|^2
//   key t:   sum_i scale^2 p_it^2 (v_t - o_i) G (v_t - o_i) / |x_i|^2 (q_i . e)^2
// so the metric of keys is the second moment of the queries under those weights, in the frame of the key's span. The
// slope of a softcap is left out.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_ATTENTION_SENSITIVITY_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_ATTENTION_SENSITIVITY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/quant/calibration/span_frame.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

// f32 rows of one head, `stride` floats apart.
struct HeadRows {
  const float* data = nullptr;
  int64_t stride = 0;
  const float* row(int64_t i) const { return data + i * stride; }
};

// Which pages a query reads sealed: those from the sinks on that lie more than the window before its own.
struct SealedRule {
  int window_pages = 1;
  int sink_pages = 1;
};

// One KV head of a sequence that starts at position 0.
struct KvHeadTrace {
  int64_t tokens = 0;
  int head_dim = 0;
  HeadRows keys, values;  // keys after RoPE
};

// One of its query heads.
struct QueryHeadTrace {
  HeadRows queries;                // after RoPE
  HeadRows outputs;                // of attention
  absl::Span<const float> gram;    // [head_dim, head_dim]
  absl::Span<const float> shares;  // [tokens]: 1 / |x_i|^2
  float scale = 1.0f;
  float softcap = 0.0f;  // 0: none
  int64_t window = 0;    // tokens; 0: all
};

struct QueryHeadSensitivity {
  std::vector<float> value_weights;  // [tokens]: w_t, without G
  // [tokens]: the energy per unit of squared error in an average direction.
  std::vector<float> key_weights;
  std::vector<double> key_metric;  // [head_dim, head_dim], trace / head_dim = the sum of key_weights
};

// The keys and values of a KV head laid out for scoring, once for all its query heads. Thread: immutable.
class KvBlocks {
 public:
  explicit KvBlocks(const KvHeadTrace& trace);
  const KvHeadTrace& trace() const { return trace_; }
  int64_t pages() const { return pages_; }
  // Channel-major blocks of 32 tokens: [pages][head_dim][32], zeros past the end.
  const float* keys(int64_t page) const { return keys_.data() + page * trace_.head_dim * kv::kPageTokens; }
  const float* values(int64_t page) const { return values_.data() + page * trace_.head_dim * kv::kPageTokens; }

 private:
  const KvHeadTrace trace_;
  const int64_t pages_;
  std::vector<float> keys_, values_;
};

// Looks at every `query_stride`-th query (a divisor of 32); weights are scaled up by it. Which queries, and which
// pages' frames each is counted in, follows from `seed`. `frame` holds the sequence's pages.
QueryHeadSensitivity MeasureQueryHead(const KvBlocks& blocks, const QueryHeadTrace& trace, const SpanFrame& frame,
                                      const SealedRule& rule, int query_stride, uint64_t seed, simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_ATTENTION_SENSITIVITY_H_
