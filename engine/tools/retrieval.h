// Whether a model still finds what its cache keeps: a needle is put into a long text and asked for at its end.
// Perplexity hides damage that this shows. Two kinds, after passkey retrieval (Mohtashami and Jaggi, "Landmark
// Attention", 2023) and the key-value lists of Liu et al., "Lost in the Middle" (2023).
#ifndef NIBBLE_ENGINE_TOOLS_RETRIEVAL_H_
#define NIBBLE_ENGINE_TOOLS_RETRIEVAL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tools/flags.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

struct RetrievalOptions {
  std::vector<int64_t> lengths;  // tokens of a prompt, at most
  int trials = 8;                // at each of five depths, per kind and length
  std::vector<RunMode> modes;
};

struct RetrievalRow {
  RunMode mode;
  std::string kind;  // "passkey": five digits in prose; "key-value": one of many pairs
  int64_t length = 0;
  int found = 0;
  int trials = 0;
  std::vector<int> found_at;  // by depth: 10, 30, 50, 70 and 90 % of the text
};

// `filler`: prose that surrounds the passkeys. All modes get the same prompts. INVALID_ARGUMENT for a length that the
// model or the filler does not have, or that no needle fits.
absl::StatusOr<std::vector<RetrievalRow>> RunRetrieval(const OpenedModel& model, const std::string& filler,
                                                       const RetrievalOptions& options,
                                                       const std::function<void(int64_t done, int64_t all)>& progress);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_RETRIEVAL_H_
