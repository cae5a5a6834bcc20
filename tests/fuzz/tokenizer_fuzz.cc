// Any bytes through each style of tokenizer and back: nothing is lost, and no control token appears unasked.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

// The 256 bytes by their byte-level spelling, and a few merges.
TokenizerData ByteLevelData(const char* pre) {
  TokenizerData data;
  data.pre = pre;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte != 0xAD);
    const int point = printable ? byte : next++;
    data.tokens.push_back(
        point < 0x80 ? std::string(1, static_cast<char>(point))
                     : std::string{static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 0x3F))});
  }
  for (const char* merge : {"t h", "th e", "a a", "aa aa", "\xC4\xA0 a", "\xC3\xA3 \xC4\xA3"}) {
    data.merges.push_back(merge);
    data.tokens.push_back(data.merges.back());
    data.tokens.back().erase(data.tokens.back().find(' '), 1);
  }
  data.types.assign(data.tokens.size(), TokenType::kNormal);
  data.tokens.push_back("<|end|>");
  data.types.push_back(TokenType::kControl);
  return data;
}

std::vector<std::unique_ptr<Tokenizer>> MakeTokenizers() {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* pre : {"gpt-2", "smollm", "qwen2", "llama-bpe"}) {
    auto tokenizer = Tokenizer::Create(ByteLevelData(pre));
    NIBBLE_CHECK(tokenizer.ok());
    tokenizers.push_back(*std::move(tokenizer));
  }
  return tokenizers;
}

void RoundTrip(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> plain = tokenizer.Encode(text, {.add_special = false, .parse_special = false});
  NIBBLE_CHECK(tokenizer.Decode(plain, false) == text);
  const std::vector<int32_t> special = tokenizer.Encode(text, {.add_special = false, .parse_special = true});
  NIBBLE_CHECK(tokenizer.Decode(special, true) == text);
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto& tokenizers = *new auto(nibble::engine::MakeTokenizers());
  for (const auto& tokenizer : tokenizers) {
    nibble::engine::RoundTrip(*tokenizer, {reinterpret_cast<const char*>(data), size});
  }
  return 0;
}
