// The tiny models of tests/golden/logits, opened for a test of a tool.
#ifndef NIBBLE_TESTS_ENGINE_TOOLS_TINY_MODEL_H_
#define NIBBLE_TESTS_ENGINE_TOOLS_TINY_MODEL_H_

#include <string>

#include "engine/tools/opened_model.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {

inline std::string TinyModelPath(const std::string& name) {
  return std::string(NIBBLE_TESTS_DIR) + "/golden/logits/" + name + ".gguf";
}

inline OpenedModel OpenTinyModel(const std::string& name) {
  absl::StatusOr<OpenedModel> model = OpenModel(TinyModelPath(name));
  EXPECT_THAT(model, IsOk());
  return *std::move(model);
}

// Ids that read as nothing in particular, all of them text.
inline std::vector<int32_t> SomeIds(int64_t count) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(static_cast<int32_t>(5 + (i * i * 7 + i * 31) % 280));
  return ids;
}

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_TOOLS_TINY_MODEL_H_
