// Reads what tests/golden/tokenizer/make_golden.py wrote.
#ifndef NIBBLE_TESTS_ENGINE_TOKENIZER_GOLDEN_H_
#define NIBBLE_TESTS_ENGINE_TOKENIZER_GOLDEN_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/tokenizer/data.h"
#include "engine/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace nibble::engine {

// The bytes of tests/golden/tokenizer/`name`; the test fails if there is no such file.
std::string ReadGoldenText(const std::string& name);
nlohmann::json ReadGolden(const std::string& name);

TokenizerData DataFromJson(const nlohmann::json& data);
// The trained vocabulary in tiny-`name`.json.
std::unique_ptr<Tokenizer> TinyTokenizer(const std::string& name);

// Name -> text, the repeated ones and the excerpt included.
std::map<std::string, std::string> GoldenTexts();

// Compares `tokenizer` with every case of the golden file, plain and with control tokens read.
void ExpectEqualsReference(const Tokenizer& tokenizer, const nlohmann::json& cases);

// Compares what `source` makes of the conversations in `golden` (chat.json) with `rows`.
void ExpectRendersAsReference(const std::string& source, const nlohmann::json& rows, const nlohmann::json& golden,
                              const std::string& name);

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_TOKENIZER_GOLDEN_H_
