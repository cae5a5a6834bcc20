// Any bytes as the JSON files of a folder's tokenizer, one after the other with a zero byte between: tokenizer.json,
// tokenizer_config.json, generation_config.json, config.json. What is accepted must tokenize.
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "engine/weights/tokenizer_hf.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

constexpr int64_t kVocabSize = 16;

void Tokenize(TokenizerData data) {
  NIBBLE_CHECK(static_cast<int64_t>(data.tokens.size()) == kVocabSize && data.types.size() == data.tokens.size());
  const auto tokenizer = Tokenizer::Create(std::move(data));
  if (!tokenizer.ok()) return;
  for (const char* text : {"", "a b ab <eos>", " a\xE2\x96\x81\xFF\n"}) {
    const std::vector<int32_t> ids = (*tokenizer)->Encode(text, {.add_special = true, .parse_special = true});
    for (const int32_t id : ids) NIBBLE_CHECK(id >= 0 && id < kVocabSize);
    (*tokenizer)->Decode(ids, true);
  }
}

void Read(std::string_view text) {
  std::array<std::optional<JsonDocument>, 4> documents;
  for (std::optional<JsonDocument>& document : documents) {
    const size_t end = text.find('\0');
    const std::string_view part = text.substr(0, end);
    auto parsed = JsonDocument::Parse(part.empty() ? "{}" : part, "x.json");
    if (!parsed.ok()) return;
    document = *std::move(parsed);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  auto data = TokenizerFromHf({*documents[0], *documents[1], *documents[2], *documents[3]}, kVocabSize);
  if (data.ok()) Tokenize(*std::move(data));
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::Read({reinterpret_cast<const char*>(data), size});
  return 0;
}
