#include "engine/tokenizer/jinja/json.h"

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

std::string Escape(char byte) {
  switch (byte) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    default:
      break;
  }
  if (static_cast<unsigned char>(byte) >= 0x20) return std::string(1, byte);
  char escaped[7];
  std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned>(byte));
  return escaped;
}

class Writer {
 public:
  explicit Writer(int64_t indent) : indent_(indent) {}

  absl::Status Write(const Value& value) {
    if (value.text() != nullptr) return WriteString(*value.text());
    if (value.list() != nullptr) return WriteList(*value.list());
    if (value.dict() != nullptr) return WriteDict(*value.dict());
    if (value.is_none()) return Add("null");
    if (value.is_bool()) return Add(value.Truth() ? "true" : "false");
    if (value.is_number()) return Add(value.ToText().bytes());
    return absl::InvalidArgumentError(absl::StrCat("tojson of a value of type ", std::string(value.TypeName())));
  }

  Text out;

 private:
  absl::Status Add(std::string_view text) {
    out.Append(text, true);
    return absl::OkStatus();
  }

  absl::Status WriteString(const Text& text) {
    Add("\"").IgnoreError();
    size_t begin = 0;
    for (const Text::Run& run : text.runs()) {
      for (; begin < run.end; ++begin) out.Append(Escape(text.bytes()[begin]), run.trusted);
    }
    return Add("\"");
  }

  // Before each element and before the closing bracket.
  void Break(bool first, bool close) {
    if (!first && !close) out.Append(indent_ < 0 ? ", " : ",", true);
    if (indent_ < 0) return;
    out.Append("\n" + std::string(static_cast<size_t>(indent_ * level_), ' '), true);
  }

  absl::Status WriteList(const List& list) {
    if (list.items.empty()) return Add("[]");
    Add("[").IgnoreError();
    ++level_;
    for (size_t i = 0; i < list.items.size(); ++i) {
      Break(i == 0, false);
      NIBBLE_RETURN_IF_ERROR(Write(list.items[i]));
    }
    --level_;
    Break(false, true);
    return Add("]");
  }

  absl::Status WriteDict(const Dict& dict) {
    if (dict.items.empty()) return Add("{}");
    Add("{").IgnoreError();
    ++level_;
    for (size_t i = 0; i < dict.items.size(); ++i) {
      Break(i == 0, false);
      NIBBLE_RETURN_IF_ERROR(WriteString(*dict.items[i].first));
      Add(": ").IgnoreError();
      NIBBLE_RETURN_IF_ERROR(Write(dict.items[i].second));
    }
    --level_;
    Break(false, true);
    return Add("}");
  }

  const int64_t indent_;
  int64_t level_ = 0;
};

}  // namespace

absl::StatusOr<Value> ToJson(const Value& value, int64_t indent, Budget& budget) {
  if (indent > 16) return absl::InvalidArgumentError("tojson indents by more than 16");
  const size_t line_bytes = indent < 0 ? 2 : static_cast<size_t>(indent) * kMaxValueDepth;
  NIBBLE_RETURN_IF_ERROR(budget.Charge(value.weight() * (6 + line_bytes)));
  Writer writer(indent);
  NIBBLE_RETURN_IF_ERROR(writer.Write(value));
  return Value(std::move(writer.out));
}

}  // namespace nibble::engine::jinja
