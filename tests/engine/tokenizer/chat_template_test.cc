#include "engine/tokenizer/chat_template.h"

#include "gtest/gtest.h"
#include "tests/engine/tokenizer/golden.h"

namespace nibble::engine {
namespace {



TEST(ChatTemplate, RendersAsJinja2Does) {
  const nlohmann::json golden = ReadGolden("chat");
  for (const auto& [name, rows] : golden["templates"].items()) {
    ExpectRendersAsReference(ReadGoldenText("templates/" + name + ".jinja"), rows, golden, name);
  }
}

}  // namespace
}  // namespace nibble::engine
