// A tokenizer that went through the files of a Hugging Face folder.
#ifndef NIBBLE_TESTS_ENGINE_TOKENIZER_THROUGH_JSON_H_
#define NIBBLE_TESTS_ENGINE_TOKENIZER_THROUGH_JSON_H_

#include <memory>
#include <utility>

#include "engine/tokenizer/tokenizer.h"
#include "engine/weights/tokenizer_hf.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/hf_folder.h"

namespace nibble::engine {

// Of `data`, written as tokenizer.json and read again.
inline std::unique_ptr<Tokenizer> ThroughJson(const TokenizerData& data) {
  const auto file = JsonDocument::Parse(HfTokenizerFrom(data).dump(), "tokenizer.json");
  const auto nothing = JsonDocument::Parse("{}", "config.json");
  EXPECT_THAT(file, IsOk());
  auto read = TokenizerFromHf({*file, *nothing, *nothing, *nothing}, static_cast<int64_t>(data.tokens.size()));
  EXPECT_THAT(read, IsOk());
  EXPECT_EQ(read->tokens.size(), data.tokens.size());
  auto tokenizer = Tokenizer::Create(*std::move(read));
  EXPECT_THAT(tokenizer, IsOk());
  return *std::move(tokenizer);
}

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_TOKENIZER_THROUGH_JSON_H_
