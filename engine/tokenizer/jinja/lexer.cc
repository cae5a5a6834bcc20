#include "engine/tokenizer/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/utf8.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using Kind = Token::Kind;

// Longest first where one begins another.
constexpr std::array<std::string_view, 25> kOperators = {"**", "//", "==", "!=", "<=", ">=", "+", "-", "*",
                                                         "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                                         "]",  "{",  "}",  ",",  ".",  ":",  "|"};

bool IsNameByte(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// As Jinja reads sources: every line ends in \n, and one at the very end does not count.
std::string NormalizeNewlines(std::string_view source) {
  std::string result;
  result.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    result.push_back(source[i] == '\r' ? '\n' : source[i]);
  }
  if (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), rest_(source_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (!rest_.empty()) {
      const size_t open = FindTag();
      AddText(rest_.substr(0, open), open < rest_.size());
      if (open == rest_.size()) break;
      Skip(open);
      NIBBLE_RETURN_IF_ERROR(rest_[1] == '#' ? ReadComment() : ReadTag());
    }
    Add(Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void Add(Kind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  // Line numbers follow what is skipped.
  void Skip(size_t count) {
    line_ += static_cast<int>(std::count(rest_.begin(), rest_.begin() + static_cast<ptrdiff_t>(count), '\n'));
    rest_.remove_prefix(count);
  }

  absl::Status Error(std::string_view message) const {
    return ErrorAt(absl::StatusCode::kInvalidArgument, line_, message);
  }

  size_t FindTag() const {
    for (size_t i = 0; i + 1 < rest_.size(); ++i) {
      if (rest_[i] == '{' && (rest_[i + 1] == '{' || rest_[i + 1] == '%' || rest_[i + 1] == '#')) return i;
    }
    return rest_.size();
  }

  // Text before a tag; the tag's own first characters say how much whitespace it takes away.
  void AddText(std::string_view text, bool before_tag) {
    if (strip_next_) {
      const size_t kept = std::min(text.find_first_not_of(" \t\n\v\f"), text.size());
      text.remove_prefix(kept);
    } else if (trim_newline_ && !text.empty() && text[0] == '\n') {
      text.remove_prefix(1);
    }
    const bool at_line_start = !strip_next_ && TextFollowsLineStart(text);
    strip_next_ = trim_newline_ = false;
    if (before_tag) text = StripBefore(text, at_line_start);
    if (!text.empty()) Add(Kind::kText, std::string(text));
  }

  // Whether `text`, if it is all blanks, stands at the start of a line.
  bool TextFollowsLineStart(std::string_view text) const {
    const size_t offset = static_cast<size_t>(text.data() - source_.data());
    return offset == 0 || source_[offset - 1] == '\n';
  }

  std::string_view StripBefore(std::string_view text, bool at_line_start) const {
    const char* tag = text.data() + text.size();
    const char* end = source_.data() + source_.size();
    const char mark = tag + 2 < end ? tag[2] : ' ';
    if (mark == '-') return text.substr(0, text.find_last_not_of(" \t\n\v\f") + 1);
    if (mark == '+' || tag[1] == '{') return text;
    const size_t kept = text.find_last_not_of(" \t\v\f") + 1;
    const bool alone = kept > 0 ? text[kept - 1] == '\n' : at_line_start;
    return alone ? text.substr(0, kept) : text;
  }

  absl::Status ReadComment() {
    const size_t end = rest_.find("#}", 2);
    if (end == rest_.npos) return Error("comment is not closed");
    strip_next_ = end > 2 && rest_[end - 1] == '-';
    trim_newline_ = true;
    Skip(end + 2);
    return absl::OkStatus();
  }

  absl::Status ReadTag() {
    const bool block = rest_[1] == '%';
    Add(block ? Kind::kBlockBegin : Kind::kPrintBegin, "");
    Skip(2);
    if (!rest_.empty() && (rest_[0] == '-' || rest_[0] == '+')) Skip(1);
    depth_ = 0;
    while (true) {
      SkipBlanks();
      if (rest_.empty()) return Error("tag is not closed");
      if (CloseTag(block)) return absl::OkStatus();
      NIBBLE_RETURN_IF_ERROR(ReadWord());
    }
  }

  void SkipBlanks() { Skip(std::min(rest_.find_first_not_of(" \t\n\v\f"), rest_.size())); }

  // Inside brackets "}}" closes dictionaries, not the tag.
  bool CloseTag(bool block) {
    if (depth_ > 0) return false;
    const std::string_view close = block ? "%}" : "}}";
    const bool marked = rest_[0] == '-' || (rest_[0] == '+' && block);
    if (rest_.substr(marked ? 1 : 0, 2) != close) return false;
    strip_next_ = rest_[0] == '-';
    trim_newline_ = block && !marked;
    Skip(marked ? 3 : 2);
    Add(block ? Kind::kBlockEnd : Kind::kPrintEnd, "");
    return true;
  }

  absl::Status ReadWord() {
    const char c = rest_[0];
    if (c == '"' || c == '\'') return ReadString();
    if (IsDigit(c)) return ReadNumber();
    if (IsNameByte(c)) {
      const auto end = std::find_if_not(rest_.begin(), rest_.end(), IsNameByte);
      const auto length = static_cast<size_t>(end - rest_.begin());
      Add(Kind::kName, std::string(rest_.substr(0, length)));
      Skip(length);
      return absl::OkStatus();
    }
    for (std::string_view op : kOperators) {
      if (rest_.substr(0, op.size()) != op) continue;
      depth_ += op == "(" || op == "[" || op == "{" ? 1 : op == ")" || op == "]" || op == "}" ? -1 : 0;
      Add(Kind::kOperator, std::string(op));
      Skip(op.size());
      return absl::OkStatus();
    }
    return Error("unexpected character in a tag");
  }

  // Length of the run of digits (and underscores) at `i`.
  size_t Digits(size_t i) const {
    size_t end = i;
    while (end < rest_.size() && (IsDigit(rest_[end]) || (end > i && rest_[end] == '_'))) ++end;
    return end - i;
  }

  absl::Status ReadNumber() {
    size_t end = Digits(0);
    Kind kind = Kind::kInteger;
    if (end < rest_.size() && rest_[end] == '.' && Digits(end + 1) > 0) {
      end += 1 + Digits(end + 1);
      kind = Kind::kFloat;
    }
    if (end < rest_.size() && (rest_[end] == 'e' || rest_[end] == 'E')) {
      const size_t sign = end + 1 < rest_.size() && (rest_[end + 1] == '+' || rest_[end + 1] == '-') ? 1 : 0;
      if (const size_t digits = Digits(end + 1 + sign); digits > 0) {
        end += 1 + sign + digits;
        kind = Kind::kFloat;
      }
    }
    std::string text(rest_.substr(0, end));
    std::erase(text, '_');
    Add(kind, std::move(text));
    Skip(end);
    return absl::OkStatus();
  }

  absl::Status ReadString() {
    const char quote = rest_[0];
    std::string text;
    size_t i = 1;
    while (i < rest_.size() && rest_[i] != quote) {
      if (rest_[i] != '\\') {
        text.push_back(rest_[i++]);
      } else if (i + 1 == rest_.size()) {
        break;
      } else {
        i += ReadEscape(rest_.substr(i + 1), text) + 1;
      }
    }
    if (i >= rest_.size()) return Error("string is not closed");
    Add(Kind::kString, std::move(text));
    Skip(i + 1);
    return absl::OkStatus();
  }

  // Decodes what follows a backslash, appends it, and returns how many characters that took.
  static size_t ReadEscape(std::string_view rest, std::string& text) {
    static constexpr std::string_view kNames = "ntr\\'\"abfv";
    static constexpr std::string_view kBytes = "\n\t\r\\'\"\a\b\f\v";
    if (const size_t at = kNames.find(rest[0]); at != kNames.npos) {
      text.push_back(kBytes[at]);
      return 1;
    }
    if (rest[0] == '\n') return 1;
    const size_t digits = rest[0] == 'x' ? 2 : rest[0] == 'u' ? 4 : rest[0] == 'U' ? 8 : 0;
    if (const size_t used = ReadCodePoint(rest.substr(1), digits, text); used > 0) return used + 1;
    text.push_back('\\');
    text.push_back(rest[0]);
    return 1;
  }

  static size_t ReadCodePoint(std::string_view rest, size_t digits, std::string& text) {
    const std::string hex(rest.substr(0, digits));
    const bool all_hex = std::all_of(hex.begin(), hex.end(), [](unsigned char c) { return absl::ascii_isxdigit(c); });
    if (digits == 0 || hex.size() < digits || !all_hex) return 0;
    const uint64_t character = std::stoull(hex, nullptr, 16);
    if (character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) return 0;
    AppendCharacter(static_cast<char32_t>(character), text);
    return digits;
  }

  const std::string source_;
  std::string_view rest_;
  std::vector<Token> tokens_;
  int line_ = 1;
  int depth_ = 0;              // of brackets inside the tag
  bool strip_next_ = false;    // the tag just closed takes all whitespace after it
  bool trim_newline_ = false;  // the block just closed takes one newline after it
};

}  // namespace

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) { return Lexer(NormalizeNewlines(source)).Run(); }

absl::Status ErrorAt(absl::StatusCode code, int line, std::string_view message) {
  return absl::Status(code, absl::StrCat("line ", line, " of the chat template: ", std::string(message)));
}

}  // namespace nibble::engine::jinja
