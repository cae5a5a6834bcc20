// Statistics for the KV cache of a whole model, collected while the model reads: for every layer, KV head, keys and
// values what quant/calibration keeps of them.
//
// Weights of tokens and metrics are those of attention_sensitivity.h, added up over the query heads of a group. Where
// the output of attention is normed before it is added to the stream (gemma3), the norm counts as part of the output
// projection.
#ifndef NIBBLE_ENGINE_TOOLS_KV_COLLECTOR_H_
#define NIBBLE_ENGINE_TOOLS_KV_COLLECTOR_H_

#include <cstdint>
#include <vector>

#include "engine/backends/cpu/worker_pool.h"
#include "engine/models/attention_observer.h"
#include "engine/quant/calibration/attention_sensitivity.h"
#include "engine/quant/calibration/span_frame.h"
#include "engine/quant/calibration/vector_statistics.h"
#include "engine/weights/model_file.h"

namespace nibble::engine {

struct KvCollectorOptions {
  SealedRule rule;
  int query_stride = 8;      // every so many queries are looked at
  int64_t sample_bytes = 0;  // of vectors, in all
  int64_t sequences = 1;     // that will be shown
  int64_t context = 0;       // tokens of the longest
  uint64_t seed = 0;
  simd::Isa isa = simd::Isa::kScalar;
};

// Thread: the observer's.
class KvCollector : public AttentionObserver {
 public:
  // `file` and `pool` must outlive it.
  KvCollector(const ModelFile& file, const KvCollectorOptions& options, WorkerPool& pool);

  // REQUIRES: one sequence from position 0 to its end, in one step.
  void OnAttention(const ObservedAttention& attention) override;

  const KvStatistics& statistics() const { return statistics_; }

 private:
  struct Projection;

  Projection LoadProjection(int layer) const;
  std::vector<float> Shares(const ObservedAttention& attention, const Projection& projection) const;
  void AddHead(const ObservedAttention& attention, const KvBlocks& blocks, const Projection& projection,
               absl::Span<const QueryHeadSensitivity> group, int kv_head);
  uint64_t SeedOf(int layer, int part) const;

  const ModelFile& file_;
  const KvCollectorOptions options_;
  WorkerPool& pool_;
  std::vector<SpanFrame> frames_;    // of the model's ropes
  std::vector<int> frame_of_layer_;  // [layers]
  int64_t keep_ = 0;                 // vectors of a head and sequence
  int64_t calls_ = 0;
  KvStatistics statistics_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_KV_COLLECTOR_H_
