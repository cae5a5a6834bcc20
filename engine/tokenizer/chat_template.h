// The model's own chat template: messages to the text it was trained on, and that text to ids.
//
// What a client wrote stays plain text: every stretch of the rendered text knows whether the template's author or a
// client wrote it, and only the author's words can name control tokens. Immutable after creation; any number of
// threads may use one ChatTemplate at a time.
#ifndef NIBBLE_ENGINE_TOKENIZER_CHAT_TEMPLATE_H_
#define NIBBLE_ENGINE_TOKENIZER_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tokenizer/tokenizer.h"

namespace nibble::engine {

struct ChatMessage {
  std::string role;  // "system", "user", "assistant" or "tool"; another is as untrusted as the content
  std::string content;
};

// A stretch of rendered text by one author.
struct Segment {
  std::string text;
  bool trusted = false;  // the template's own words: control tokens in them count
};

// What a template may print beside the messages, by the names templates use.
struct TemplateTokens {
  std::string bos, eos, unknown, pad;
};
TemplateTokens TokensForTemplate(const TokenizerData& data);

class ChatTemplate {
 public:
  virtual ~ChatTemplate() = default;

  // `source` is a Jinja template. UNIMPLEMENTED names a construct that is not supported and its line; INVALID_ARGUMENT
  // says what is wrong with the source.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Compile(std::string_view source, TemplateTokens tokens);
  // The template in the model file. NOT_FOUND if it has none.
  static absl::StatusOr<std::unique_ptr<ChatTemplate>> Compile(const TokenizerData& data);

  // Neighbouring segments differ in their mark. INVALID_ARGUMENT if the template refuses the messages, with its own
  // words and none of the client's; RESOURCE_EXHAUSTED beyond the limits of jinja/budget.h.
  virtual absl::StatusOr<std::vector<Segment>> Render(absl::Span<const ChatMessage> messages,
                                                      bool add_generation_prompt) const = 0;
};

// Ids of a rendered conversation. Control tokens are read from trusted segments only; the text between them is
// tokenized as one, whoever wrote it, as the reference does. Begins with one bos where the file asks for it, whether or
// not the template printed it; no eos.
std::vector<int32_t> EncodeSegments(const Tokenizer& tokenizer, absl::Span<const Segment> segments);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_CHAT_TEMPLATE_H_
