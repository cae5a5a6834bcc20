// `nibble delta compress` and `nibble delta verify`: deltas of fine-tunes (engine/adapters), made and checked.
#ifndef NIBBLE_ENGINE_TOOLS_DELTA_H_
#define NIBBLE_ENGINE_TOOLS_DELTA_H_

#include <cstdint>
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/adapters/delta_file.h"
#include "engine/tools/chunks.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

// What the tensors of one kind ("attn_q.weight", of all layers) take.
struct DeltaPart {
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;        // signs or codes, and scales
  double worst_left = 0.0;  // largest ResidualShare; 0 without a fine-tune to hold against
};

// By kind. `tuned` may be nullptr. REQUIRES: CheckDelta is OK; `tuned` has the base's tensors and shapes.
std::map<std::string, DeltaPart> PartsOf(const DeltaFile& delta, const WeightSource& base, const WeightSource* tuned);
void PrintParts(const std::map<std::string, DeltaPart>& parts, std::ostream& out);

// How far base + delta is from the fine-tune on a text, all in f32: KL(tuned || base + delta) by token, in nats, the
// share of positions with the same most likely token, and the perplexity of each.
struct DeltaFidelity {
  double kl_divergence = 0.0;
  double top1 = 0.0;
  double perplexity = 0.0, tuned_perplexity = 0.0;
  int64_t tokens = 0;
};

// Scores the second half of each chunk. INVALID_ARGUMENT for a text that fills no chunk.
absl::StatusOr<DeltaFidelity> CompareDelta(const OpenedModel& base, const OpenedModel& tuned, const DeltaFile& delta,
                                           absl::Span<const int32_t> ids, const ChunkOptions& chunks,
                                           const std::function<void(int64_t done, int64_t all)>& progress);

// The command's own run: the first positional is compress or verify.
absl::Status RunDelta(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_DELTA_H_
