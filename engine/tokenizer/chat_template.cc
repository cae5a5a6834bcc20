#include "engine/tokenizer/chat_template.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "engine/tokenizer/jinja/interpreter.h"
#include "engine/tokenizer/jinja/parser.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

using jinja::Text;
using jinja::Value;

// Fixed words may become part of a control token ("<|" + role + "|>"): they cannot smuggle anything.
bool IsKnownRole(std::string_view role) {
  static constexpr std::array<std::string_view, 4> kRoles = {"system", "user", "assistant", "tool"};
  return std::find(kRoles.begin(), kRoles.end(), role) != kRoles.end();
}

Value MessageValue(const ChatMessage& message) {
  const auto key = [](const char* name) { return std::make_shared<const Text>(name, true); };
  return Value::MakeDict({{key("role"), Value(Text(message.role, IsKnownRole(message.role)))},
                          {key("content"), Value(Text(message.content, false))}});
}

class JinjaChatTemplate : public ChatTemplate {
 public:
  JinjaChatTemplate(jinja::Block block, TemplateTokens tokens) : block_(std::move(block)), tokens_(std::move(tokens)) {}

  absl::StatusOr<std::vector<Segment>> Render(absl::Span<const ChatMessage> messages,
                                              bool add_generation_prompt) const override {
    std::vector<Value> values;
    for (const ChatMessage& message : messages) values.push_back(MessageValue(message));
    const std::map<std::string, Value> variables = {
        {"messages", Value::MakeList(std::move(values))},
        {"add_generation_prompt", Value(add_generation_prompt)},
        {"bos_token", jinja::TrustedText(tokens_.bos)},
        {"eos_token", jinja::TrustedText(tokens_.eos)},
        {"unk_token", jinja::TrustedText(tokens_.unknown)},
        {"pad_token", jinja::TrustedText(tokens_.pad)},
        // Templates tell "no tools" from "tools unknown": the reference passes none.
        {"tools", Value(jinja::None())},
        {"documents", Value(jinja::None())},
    };
    NIBBLE_ASSIGN_OR_RETURN(const Text text, jinja::Render(block_, variables));
    return SegmentsOf(text);
  }

 private:
  static std::vector<Segment> SegmentsOf(const Text& text) {
    std::vector<Segment> segments;
    size_t begin = 0;
    for (const Text::Run& run : text.runs()) {
      segments.push_back({text.bytes().substr(begin, run.end - begin), run.trusted});
      begin = run.end;
    }
    return segments;
  }

  const jinja::Block block_;
  const TemplateTokens tokens_;
};

std::vector<Segment> JoinNeighbours(absl::Span<const Segment> segments) {
  std::vector<Segment> joined;
  for (const Segment& segment : segments) {
    if (!joined.empty() && joined.back().trusted == segment.trusted) {
      joined.back().text += segment.text;
    } else if (!segment.text.empty()) {
      joined.push_back(segment);
    }
  }
  return joined;
}

// Gathers plain text and gives it to the tokenizer when a control token parts it.
class SegmentEncoder {
 public:
  explicit SegmentEncoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Add(const Segment& segment) {
    const std::string_view text = segment.text;
    size_t position = 0;
    if (segment.trusted) {
      for (const SpecialMatch& match : tokenizer_.FindSpecial(text)) {
        plain_ += text.substr(position, match.begin - position);
        Flush();
        ids_.push_back(match.id);
        position = match.end;
      }
    }
    plain_ += text.substr(position);
  }

  std::vector<int32_t> Finish() {
    Flush();
    return std::move(ids_);
  }

 private:
  void Flush() {
    const std::vector<int32_t> ids = tokenizer_.Encode(plain_, {.add_special = false, .parse_special = false});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    plain_.clear();
  }

  const Tokenizer& tokenizer_;
  std::string plain_;
  std::vector<int32_t> ids_;
};

}  // namespace

TemplateTokens TokensForTemplate(const TokenizerData& data) {
  const auto text = [&](int32_t id) { return id < 0 ? std::string() : data.tokens[static_cast<size_t>(id)]; };
  return {text(data.bos), text(data.eos), text(data.unknown), text(data.pad)};
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Compile(std::string_view source, TemplateTokens tokens) {
  NIBBLE_ASSIGN_OR_RETURN(jinja::Block block, jinja::Parse(source));
  return std::make_unique<JinjaChatTemplate>(std::move(block), std::move(tokens));
}

absl::StatusOr<std::unique_ptr<ChatTemplate>> ChatTemplate::Compile(const TokenizerData& data) {
  if (data.chat_template.empty()) return absl::NotFoundError("the model file has no chat template");
  return Compile(data.chat_template, TokensForTemplate(data));
}

std::vector<int32_t> EncodeSegments(const Tokenizer& tokenizer, absl::Span<const Segment> segments) {
  SegmentEncoder encoder(tokenizer);
  for (const Segment& segment : JoinNeighbours(segments)) encoder.Add(segment);
  std::vector<int32_t> ids = encoder.Finish();
  const int32_t bos = tokenizer.data().bos;
  const bool lacks_bos = tokenizer.data().add_bos && bos >= 0 && (ids.empty() || ids[0] != bos);
  if (lacks_bos) ids.insert(ids.begin(), bos);
  return ids;
}

}  // namespace nibble::engine
