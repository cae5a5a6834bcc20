#include "engine/grammar/compiler.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/grammar/builder.h"
#include "engine/grammar/characters.h"
#include "engine/grammar/ebnf.h"
#include "engine/grammar/json_schema.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/regex.h"
#include "engine/tokenizer/utf8.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

constexpr size_t kMaxMessageBytes = 400;  // names out of a schema may be long

// Equal keys mean equal constraints: every part is preceded by its length.
std::string KeyOf(const Constraint& constraint) {
  std::string key =
      absl::StrCat(static_cast<int>(constraint.notation), ":", constraint.source.size(), ":", constraint.source);
  for (const std::string& choice : constraint.choices) absl::StrAppend(&key, choice.size(), ":", choice);
  return key;
}

absl::Status CheckSize(const Constraint& constraint) {
  size_t bytes = constraint.source.size();
  for (const std::string& choice : constraint.choices) bytes += choice.size() + 1;
  if (bytes > kMaxSourceBytes)
    return absl::InvalidArgumentError(absl::StrCat("longer than ", kMaxSourceBytes, " bytes"));
  return absl::OkStatus();
}

absl::StatusOr<RuleId> ParseChoices(const std::vector<std::string>& choices, Builder* builder) {
  if (choices.empty()) return absl::InvalidArgumentError("lists nothing");
  std::vector<ExprId> alternatives;
  for (const std::string& choice : choices) {
    if (choice.empty()) return absl::InvalidArgumentError("lists an empty text");
    alternatives.push_back(builder->Literal(choice));
  }
  const RuleId root = builder->AddRule("root");
  builder->SetBody(root, builder->Alternate(alternatives));
  return root;
}

absl::StatusOr<RuleId> ParseWholeRegex(const std::string& source, Builder* builder) {
  if (source.empty()) return absl::InvalidArgumentError("is empty");
  NIBBLE_ASSIGN_OR_RETURN(const ExprId body, ParseRegex(source, Match::kWhole, Spelling::kPlain, builder));
  const RuleId root = builder->AddRule("root");
  builder->SetBody(root, body);
  return root;
}

absl::StatusOr<RuleId> Parse(const Constraint& constraint, Builder* builder) {
  switch (constraint.notation) {
    case Notation::kJsonSchema:
      return ParseJsonSchema(constraint.source, builder);
    case Notation::kRegex:
      return ParseWholeRegex(constraint.source, builder);
    case Notation::kChoice:
      return ParseChoices(constraint.choices, builder);
    case Notation::kEbnf:
      break;
  }
  return ParseEbnf(constraint.source, builder);
}

absl::StatusOr<std::shared_ptr<const Grammar>> CompileWithin(const Constraint& constraint,
                                                             std::shared_ptr<Vocabulary> vocabulary) {
  NIBBLE_RETURN_IF_ERROR(CheckSize(constraint));
  Builder builder;
  NIBBLE_ASSIGN_OR_RETURN(const RuleId root, Parse(constraint, &builder));
  NIBBLE_RETURN_IF_ERROR(builder.CheckSize());
  return Grammar::Compile(builder, root, std::move(vocabulary));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Grammar>> CompileConstraint(const Constraint& constraint,
                                                                 std::shared_ptr<Vocabulary> vocabulary) {
  absl::StatusOr<std::shared_ptr<const Grammar>> grammar = CompileWithin(constraint, std::move(vocabulary));
  if (grammar.ok() || grammar.status().message().size() <= kMaxMessageBytes) return grammar;
  const std::string_view message(grammar.status().message().data(), kMaxMessageBytes);
  return absl::InvalidArgumentError(absl::StrCat(std::string(message.substr(0, ValidPrefixLength(message))), "…"));
}

Compiler::Compiler(const Tokenizer& tokenizer, int64_t vocab_size, CacheSizes sizes)
    : tokenizer_(tokenizer), vocab_size_(vocab_size), sizes_(sizes), grammars_(sizes.grammar_bytes) {}

std::shared_ptr<Vocabulary> Compiler::GetVocabulary() {
  MutexLock lock(&mu_);
  if (vocabulary_ == nullptr) {
    vocabulary_ = std::make_shared<Vocabulary>(TokenTrie(tokenizer_, vocab_size_), sizes_.mask_bytes);
  }
  return vocabulary_;
}

absl::StatusOr<std::shared_ptr<const Grammar>> Compiler::Compile(const Constraint& constraint) {
  NIBBLE_RETURN_IF_ERROR(CheckSize(constraint));
  const std::string key = KeyOf(constraint);
  if (std::shared_ptr<const Grammar> known = grammars_.Find(key)) return known;
  NIBBLE_ASSIGN_OR_RETURN(std::shared_ptr<const Grammar> grammar, CompileConstraint(constraint, GetVocabulary()));
  const size_t bytes = grammar->bytes() + 2 * key.size();
  return grammars_.Insert(key, std::move(grammar), bytes);
}

size_t Compiler::cached_bytes() const {
  MutexLock lock(&mu_);
  return grammars_.bytes() + (vocabulary_ == nullptr ? 0 : vocabulary_->masks.bytes());
}

}  // namespace nibble::engine::grammar
