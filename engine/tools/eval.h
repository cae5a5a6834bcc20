// Perplexity of a text under several ways to run one model, and how far each is from the reference.
#ifndef NIBBLE_ENGINE_TOOLS_EVAL_H_
#define NIBBLE_ENGINE_TOOLS_EVAL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tools/chunks.h"
#include "engine/tools/flags.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

struct EvalOptions {
  ChunkOptions chunks;
  bool second_half = true;  // score the positions from context / 2 on; otherwise all
  std::vector<RunMode> modes;
  const OpenedModel* base = nullptr;  // whose f32 values are the reference; nullptr: the model's own
};

struct EvalRow {
  RunMode mode;
  double kv_bits = 0.0;  // per element of the cache, with all parameters
  double perplexity = 0.0;
  double kl_divergence = 0.0;  // against the base in ReferenceMode() on the same tokens
  double top1 = 0.0;
  std::string logits_sha256;  // of the scored logits, in order
  int64_t tokens = 0;         // scored
  double seconds = 0.0;       // in this mode's engine
};

// Told after every step: steps done, steps in all.
using Progress = std::function<void(int64_t done, int64_t all)>;

// Runs all modes and the reference side by side over the same tokens, so that only one step's logits are in memory.
// One row per mode, in order. INVALID_ARGUMENT for a text that is too short, a context that the model does not have, a
// mode that cannot be run or a base with other tokens; INTERNAL if a logit is not finite.
absl::StatusOr<std::vector<EvalRow>> Evaluate(const OpenedModel& model, absl::Span<const int32_t> ids,
                                              const EvalOptions& options, const Progress& progress);

// {"model": …, "rows": […]}, and "base" unless its path is empty.
std::string EvalJson(const std::string& model_path, const std::string& base_path, absl::Span<const EvalRow> rows);

// The command's own run: flags to options, rows to a table and JSON.
absl::Status RunEval(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_EVAL_H_
