// Template source to tokens: text between tags, and the words inside them, with Jinja's whitespace control
// (trim_blocks and lstrip_blocks on, as chat templates are written for).
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_LEXER_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nibble::engine::jinja {

struct Token {
  enum class Kind {
    kText,
    kBlockBegin,
    kBlockEnd,
    kPrintBegin,
    kPrintEnd,
    kName,
    kString,
    kInteger,
    kFloat,
    kOperator,
    kEnd
  };
  Kind kind = Kind::kEnd;
  int line = 1;      // of the source, from 1
  std::string text;  // the text, name, decoded string, digits or operator
};

// Ends with one kEnd token. INVALID_ARGUMENT for a source that is not Jinja; the message names the line.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

// "line N of the chat template: …": how every complaint about a template begins.
absl::Status ErrorAt(absl::StatusCode code, int line, std::string_view message);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_LEXER_H_
