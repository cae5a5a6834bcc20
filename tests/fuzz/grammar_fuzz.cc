// Any bytes as a constraint: compiling ends in a grammar or an error, and a grammar's masks agree with reading. The
// first byte chooses the notation; the choices of a list are divided by line feeds.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_split.h"
#include "engine/grammar/compiler.h"
#include "kvcache/base/check.h"

namespace nibble::engine::grammar {
namespace {

constexpr int32_t kEnd = 256;
constexpr int kTokens = 24;  // of an answer

std::shared_ptr<Vocabulary> MakeVocabulary() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(std::string(1, static_cast<char>(byte)));
  tokens.push_back("");
  for (const char* text : {"\",", "\":", "{\"", "true", "a\"", " \"", "}}", "ab", "aab", "\xC3\xA9", "1,", "\\u00"}) {
    tokens.push_back(text);
  }
  return std::make_shared<Vocabulary>(TokenTrie(tokens, static_cast<int64_t>(tokens.size())), size_t{1} << 20);
}

Constraint ConstraintOf(uint8_t kind, std::string_view source) {
  switch (kind % 4) {
    case 0:
      return {Notation::kJsonSchema, std::string(source), {}};
    case 1:
      return {Notation::kRegex, std::string(source), {}};
    case 2:
      return {Notation::kEbnf, std::string(source), {}};
    default:
      return {Notation::kChoice, "", absl::StrSplit(absl::string_view(source.data(), source.size()), '\n')};
  }
}

void Answer(const std::shared_ptr<const Grammar>& grammar, std::string_view choices) {
  Matcher matcher(grammar);
  const TokenTrie& trie = grammar->trie();
  std::vector<uint64_t> mask(trie.mask_words());
  for (int step = 0; step < kTokens && matcher.CanGoOn(); ++step) {
    if (!matcher.FillMask({kEnd}, absl::MakeSpan(mask))) return;
    const auto allows = [&](int32_t id) { return (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) != 0; };
    NIBBLE_CHECK(allows(kEnd) == matcher.CanEnd());
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < trie.vocab_size(); ++id) {
      if (id == kEnd) continue;
      if (allows(id)) ids.push_back(id);
      if (id % 8 != step % 8 && id < kEnd) continue;  // a share of the bytes each time
      Matcher copy = matcher;
      NIBBLE_CHECK(copy.Accept(id) == allows(id));
    }
    NIBBLE_CHECK(!ids.empty());
    const size_t choice =
        choices.empty() ? 0 : static_cast<uint8_t>(choices[static_cast<size_t>(step) % choices.size()]);
    NIBBLE_CHECK(matcher.Accept(ids[choice % ids.size()]));
  }
}

}  // namespace
}  // namespace nibble::engine::grammar

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace nibble::engine::grammar;  // NOLINT: the only user
  static const auto& vocabulary = *new std::shared_ptr<Vocabulary>(MakeVocabulary());
  if (size == 0) return 0;
  const std::string_view source(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto grammar = CompileConstraint(ConstraintOf(data[0], source), vocabulary);
  if (grammar.ok()) Answer(*grammar, source);
  return 0;
}
