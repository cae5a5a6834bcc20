// `nibble tokenize`: the ids of a text, as a model's tokenizer gives them.
#ifndef NIBBLE_ENGINE_TOOLS_TOKENIZE_COMMAND_H_
#define NIBBLE_ENGINE_TOOLS_TOKENIZE_COMMAND_H_

#include <string>
#include <vector>

#include "absl/status/status.h"

namespace nibble::engine {

// Text from --text or --file (exactly one), ids on stdout in one line or as {"ids": […]} in --json.
absl::Status RunTokenize(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_TOKENIZE_COMMAND_H_
