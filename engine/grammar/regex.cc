#include "engine/grammar/regex.h"

#include <vector>

#include "engine/grammar/expression_parser.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

class Parser : private ExpressionParser {
 public:
  Parser(std::string_view source, Match match, Spelling spelling, Builder* builder)
      : ExpressionParser(source, builder), match_(match), spelling_(spelling) {}

  absl::StatusOr<ExprId> Parse() {
    NIBBLE_ASSIGN_OR_RETURN(const ExprId whole, ParseAlternatives(0));
    if (!reader_.AtEnd()) return reader_.Error("a ')' has no '('");
    return whole;
  }

 private:
  bool AtSequenceEnd() const { return reader_.AtEnd() || reader_.Peek() == '|' || reader_.Peek() == ')'; }

  absl::StatusOr<ExprId> ParseSequence(int depth) override {
    std::vector<ExprId> parts;
    const bool open_ends = depth == 0 && match_ == Match::kSomewhere;
    const bool at_begin = depth == 0 && reader_.Consume("^");
    if (open_ends && !at_begin) parts.push_back(Anything());
    bool at_end = false;
    while (!AtSequenceEnd() && !at_end) {
      if (depth == 0 && reader_.Consume("$")) {
        if (!AtSequenceEnd()) return reader_.Error("'$' is supported at the end alone");
        at_end = true;
        continue;
      }
      NIBBLE_ASSIGN_OR_RETURN(const ExprId atom, ParseAtom(depth));
      NIBBLE_ASSIGN_OR_RETURN(const ExprId part, ParseRepetition(atom));
      parts.push_back(part);
    }
    if (open_ends && !at_end) parts.push_back(Anything());
    return builder_.Concat(parts);
  }

  ExprId Anything() {
    if (anything_ < 0) anything_ = builder_.Repeat(OneOf(CharacterSet::All(), spelling_, &builder_), 0, kUnbounded);
    return anything_;
  }

  absl::StatusOr<ExprId> ParseAtom(int depth) {
    NIBBLE_RETURN_IF_ERROR(builder_.CheckSize());
    if (reader_.Consume("(")) {
      if (reader_.Consume("?")) NIBBLE_RETURN_IF_ERROR(ReadGroupKind());
      return ParseGroup(depth);
    }
    const size_t begin = reader_.position();
    NIBBLE_ASSIGN_OR_RETURN(const CharacterSet set, ReadSet());
    return OneOfRead(begin, set, spelling_);
  }

  // What '.' is not. A schema's patterns are ECMA-262's.
  CharacterSet LineEnds() const {
    if (spelling_ == Spelling::kPlain) return CharacterSet({{'\n', '\n'}});
    return CharacterSet({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
  }

  absl::StatusOr<CharacterSet> ReadSet() {
    if (reader_.Consume("[")) return reader_.ReadClass();
    if (reader_.Consume(".")) return LineEnds().Complement();
    if (reader_.Consume("\\")) return reader_.ReadEscape();
    switch (reader_.Peek()) {
      case '^':
        return reader_.Error("'^' is supported at the beginning alone");
      case '$':
        return reader_.Error("'$' is supported at the end alone");
      case '*':
      case '+':
      case '?':
      case '{':
        return reader_.Error("nothing to repeat");
      default:
        break;
    }
    NIBBLE_ASSIGN_OR_RETURN(const char32_t point, reader_.ReadCharacter());
    return CharacterSet({{point, point}});
  }

  absl::Status ReadGroupKind() {
    if (reader_.Consume(":")) return absl::OkStatus();
    reader_.Consume("P");
    const bool looks_around = reader_.Peek() != '<' || reader_.Peek(1) == '=' || reader_.Peek(1) == '!';
    if (looks_around) return reader_.Error("a group that is neither plain, (?:…) nor named is not supported");
    const size_t name_end = reader_.rest().find('>');
    if (name_end == std::string_view::npos) return reader_.Error("a '>' is missing");
    reader_.Skip(name_end + 1);
    return absl::OkStatus();
  }

  absl::StatusOr<ExprId> ParseRepetition(ExprId atom) {
    int64_t min = 1, max = 1;
    NIBBLE_ASSIGN_OR_RETURN(const bool repeats, ReadRepetition(&min, &max));
    if (!repeats) return atom;
    if (reader_.Peek() == '+') return reader_.Error("possessive repetition is not supported");
    reader_.Consume("?");  // a lazy repetition matches the same texts
    return builder_.Repeat(atom, min, max);
  }

  const Match match_;
  const Spelling spelling_;
  ExprId anything_ = -1;  // once it was asked for
};

}  // namespace

absl::StatusOr<ExprId> ParseRegex(std::string_view source, Match match, Spelling spelling, Builder* builder) {
  return Parser(source, match, spelling, builder).Parse();
}

}  // namespace nibble::engine::grammar
