// `nibble generate`: one prompt, one answer, no daemon.
#ifndef NIBBLE_ENGINE_TOOLS_GENERATE_H_
#define NIBBLE_ENGINE_TOOLS_GENERATE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/sampling/params.h"
#include "engine/tools/flags.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

struct GenerateOptions {
  RunMode mode;
  int64_t max_tokens = 256;
  SamplingParams sampling;
};

struct Generated {
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> ids;  // without the one that ended it
  std::string text;
  std::string finish_reason;  // "stop" or "length", as the daemon says it
};

// `emit` gets the text piece by piece, whole characters only. INVALID_ARGUMENT if the prompt is empty or leaves no room
// in the model's context; INTERNAL if a logit is not finite.
absl::StatusOr<Generated> Generate(const OpenedModel& model, absl::Span<const int32_t> prompt,
                                   const GenerateOptions& options, const std::function<void(const std::string&)>& emit);

// The command's own run.
absl::Status RunGenerate(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_GENERATE_H_
