#include "engine/grammar/ebnf.h"

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/grammar/expression_parser.h"
#include "engine/tokenizer/utf8.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

bool IsNameCharacter(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-'; }

class Parser : private ExpressionParser {
 public:
  Parser(std::string_view source, Builder* builder) : ExpressionParser(source, builder) {}

  absl::StatusOr<RuleId> Parse() {
    for (SkipSpace(); !reader_.AtEnd(); SkipSpace()) NIBBLE_RETURN_IF_ERROR(ParseRule());
    for (const auto& [name, rule] : rules_) {
      if (!defined_.contains(rule)) return absl::InvalidArgumentError(absl::StrCat("no rule '", name, "'"));
    }
    const auto root = rules_.find("root");
    if (root == rules_.end()) return absl::InvalidArgumentError("no rule 'root'");
    return root->second;
  }

 private:
  void SkipSpace() {
    while (!reader_.AtEnd()) {
      if (reader_.Peek() == '#') {
        while (!reader_.AtEnd() && reader_.Peek() != '\n') reader_.Skip(1);
      } else if (absl::ascii_isspace(static_cast<unsigned char>(reader_.Peek()))) {
        reader_.Skip(1);
      } else {
        return;
      }
    }
  }

  std::string_view ReadName() {
    const std::string_view rest = reader_.rest();
    size_t size = 0;
    while (size < rest.size() && IsNameCharacter(rest[size])) ++size;
    reader_.Skip(size);
    return rest.substr(0, size);
  }

  RuleId RuleNamed(std::string_view name) {
    const auto [rule, is_new] = rules_.try_emplace(std::string(name), -1);
    if (is_new) rule->second = builder_.AddRule(std::string(name));
    return rule->second;
  }

  absl::Status ParseRule() {
    const std::string_view name = ReadName();
    if (name.empty()) return reader_.Error("the name of a rule is missing");
    SkipSpace();
    if (!reader_.Consume("::=")) return reader_.Error("'::=' is missing");
    const RuleId rule = RuleNamed(name);
    if (!defined_.insert(rule).second) return reader_.Error(absl::StrCat("a second rule '", std::string(name), "'"));
    NIBBLE_ASSIGN_OR_RETURN(const ExprId body, ParseAlternatives(0));
    builder_.SetBody(rule, body);
    return absl::OkStatus();
  }

  absl::StatusOr<ExprId> ParseSequence(int depth) override {
    std::vector<ExprId> parts;
    for (SkipSpace(); !AtSequenceEnd(); SkipSpace()) {
      NIBBLE_ASSIGN_OR_RETURN(const ExprId atom, ParseAtom(depth));
      NIBBLE_ASSIGN_OR_RETURN(const ExprId part, ParseRepetition(atom));
      parts.push_back(part);
    }
    return builder_.Concat(parts);
  }

  // Also where the next rule begins.
  bool AtSequenceEnd() const {
    if (reader_.AtEnd() || reader_.Peek() == '|' || reader_.Peek() == ')') return true;
    const std::string_view rest = reader_.rest();
    size_t i = 0;
    while (i < rest.size() && IsNameCharacter(rest[i])) ++i;
    if (i == 0) return false;
    while (i < rest.size() && absl::ascii_isspace(static_cast<unsigned char>(rest[i]))) ++i;
    return rest.substr(i).starts_with("::=");
  }

  absl::StatusOr<ExprId> ParseAtom(int depth) {
    NIBBLE_RETURN_IF_ERROR(builder_.CheckSize());
    if (reader_.Consume("(")) return ParseGroup(depth);
    if (reader_.Peek() == '.' || reader_.Peek() == '[') return ParseSet();
    if (reader_.Peek() == '"' || reader_.Peek() == '\'') return ParseLiteral();
    const std::string_view name = ReadName();
    if (name.empty()) return reader_.Error("not understood");
    return builder_.Call(RuleNamed(name));
  }

  absl::StatusOr<ExprId> ParseSet() {
    const size_t begin = reader_.position();
    CharacterSet set = CharacterSet::All();
    if (!reader_.Consume(".")) {
      reader_.Skip(1);
      NIBBLE_ASSIGN_OR_RETURN(set, reader_.ReadClass());
    }
    return OneOfRead(begin, set, Spelling::kPlain);
  }

  absl::StatusOr<ExprId> ParseLiteral() {
    const std::string_view quote = reader_.rest().substr(0, 1);
    reader_.Skip(1);
    std::string literal;
    while (!reader_.Consume(quote)) {
      CharacterSet set;
      if (reader_.Consume("\\")) {
        NIBBLE_ASSIGN_OR_RETURN(set, reader_.ReadEscape());
      } else {
        NIBBLE_ASSIGN_OR_RETURN(const char32_t point, reader_.ReadCharacter());
        set.Add(point, point);
      }
      const CharacterSet::Range range = set.ranges()[0];
      if (set.ranges().size() > 1 || range.low != range.high)
        return reader_.Error("a class is not supported in a literal");
      AppendCharacter(range.low, literal);
    }
    return builder_.Literal(literal);
  }

  absl::StatusOr<ExprId> ParseRepetition(ExprId atom) {
    SkipSpace();
    int64_t min = 1, max = 1;
    NIBBLE_ASSIGN_OR_RETURN(const bool repeats, ReadRepetition(&min, &max));
    return repeats ? builder_.Repeat(atom, min, max) : atom;
  }

  absl::flat_hash_map<std::string, RuleId> rules_;
  absl::flat_hash_set<RuleId> defined_;
};

}  // namespace

absl::StatusOr<RuleId> ParseEbnf(std::string_view source, Builder* builder) { return Parser(source, builder).Parse(); }

}  // namespace nibble::engine::grammar
