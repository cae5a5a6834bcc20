#include "engine/tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/tokenizer/utf8.h"
#include "kvcache/base/check.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace nibble::engine {
namespace {

// Classes that expressions name as <S> and <N>, to stand inside brackets.
// <S> is Unicode's White_Space: PCRE2's own \s has U+180E besides, which Unicode took out and the references lack.
constexpr std::string_view kSpaces =
    R"(\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
// <N> adds what Unicode 15, the references' version, counts as numbers and Debian 12's PCRE2 (Unicode 14) does not.
constexpr std::string_view kNumbers = R"(\p{N}\x{1d2c0}-\x{1d2d3})";

// The reference parts digits by Unicode 17.
constexpr std::string_view kEachNumber =
    R"([<N>\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11de0}-\x{11de9}\x{11f50}-\x{11f59})"
    R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{16ff4}-\x{16ff6}\x{1ccf0}-\x{1ccf9}\x{1e4f0}-\x{1e4f9})"
    R"(\x{1e5f1}-\x{1e5fa}])";
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?[<N>]+| ?[^<S>\p{L}<N>]+|[<S>]+(?![^<S>])|[<S>]+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}<N>]?\p{L}+|[<N>]| ?[^<S>\p{L}<N>]+[\r\n]*)"
    R"(|[<S>]*[\r\n]+|[<S>]+(?![^<S>])|[<S>]+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}<N>]?\p{L}+|[<N>]{1,3}| ?[^<S>\p{L}<N>]+[\r\n]*)"
    R"(|[<S>]*[\r\n]+|[<S>]+(?![^<S>])|[<S>]+)";

struct Scheme {
  std::string_view name;
  std::vector<std::string_view> steps;
  bool whole_words_first = false;
};

const std::vector<Scheme>& Schemes() {
  static const auto& schemes = *new std::vector<Scheme>{
      {"gpt-2", {kGpt2}},
      {"smollm", {kEachNumber, kGpt2}},
      {"qwen2", {kQwen2}},
      {"llama-bpe", {kLlama3}, true},
  };
  return schemes;
}

absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }

std::string ExpandClasses(std::string_view expression) {
  return absl::StrReplaceAll(ToAbsl(expression), {{"<S>", ToAbsl(kSpaces)}, {"<N>", ToAbsl(kNumbers)}});
}

}  // namespace

class PreTokenizer::Scratch {
 public:
  Scratch() : data_(pcre2_match_data_create(1, nullptr)) { NIBBLE_CHECK(data_ != nullptr); }
  ~Scratch() { pcre2_match_data_free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  pcre2_match_data* data() { return data_; }

 private:
  pcre2_match_data* data_;
};

class PreTokenizer::Expression {
 public:
  explicit Expression(std::string_view named) {
    const std::string source = ExpandClasses(named);
    int error = 0;
    size_t offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                          PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    NIBBLE_CHECK(code_ != nullptr);
    // Where the system forbids it, matching is interpreted: slower, the same result.
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
  }
  ~Expression() { pcre2_code_free(code_); }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  // The next match at or after `start`, as [begin, end); false if there is none. REQUIRES: `text` is UTF-8.
  bool Find(std::string_view text, size_t start, Scratch& scratch, size_t& begin, size_t& end) const {
    const int found = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), start,
                                  PCRE2_NO_UTF_CHECK, scratch.data(), nullptr);
    // Besides "no match" only PCRE2's own limits can end here; either way the rest stays one piece.
    if (found < 0) return false;
    const size_t* bounds = pcre2_get_ovector_pointer(scratch.data());
    begin = bounds[0];
    end = bounds[1];
    return end > begin;
  }

 private:
  pcre2_code* code_;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<std::unique_ptr<PreTokenizer>> PreTokenizer::Create(std::string_view name) {
  for (const Scheme& scheme : Schemes()) {
    if (scheme.name != name) continue;
    std::unique_ptr<PreTokenizer> result(new PreTokenizer);
    for (std::string_view step : scheme.steps) result->steps_.push_back(std::make_unique<Expression>(step));
    result->whole_words_first_ = scheme.whole_words_first;
    return result;
  }
  return absl::UnimplementedError(absl::StrCat("pre-tokenizer \"", std::string(name), "\" is not supported"));
}

void PreTokenizer::SplitFrom(size_t step, std::string_view text, Scratch& scratch,
                             absl::FunctionRef<void(std::string_view)> emit) const {
  if (step == steps_.size()) {
    emit(text);
    return;
  }
  size_t position = 0, begin = 0, end = 0;
  while (position < text.size() && steps_[step]->Find(text, position, scratch, begin, end)) {
    if (begin > position) SplitFrom(step + 1, text.substr(position, begin - position), scratch, emit);
    SplitFrom(step + 1, text.substr(begin, end - begin), scratch, emit);
    position = end;
  }
  if (position < text.size()) SplitFrom(step + 1, text.substr(position), scratch, emit);
}

void PreTokenizer::Split(std::string_view text, absl::FunctionRef<void(std::string_view)> emit) const {
  Scratch scratch;
  while (!text.empty()) {
    const size_t valid = ValidPrefixLength(text);
    if (valid > 0) SplitFrom(0, text.substr(0, valid), scratch, emit);
    if (valid < text.size()) emit(text.substr(valid, 1));
    text.remove_prefix(std::min(valid + 1, text.size()));
  }
}

}  // namespace nibble::engine
