// Any bytes as a chat template: compiling and rendering end in a text or an error, and no client's byte becomes
// trusted.
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/tokenizer/chat_template.h"
#include "kvcache/base/check.h"

using nibble::engine::ChatMessage;
using nibble::engine::ChatTemplate;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view source(reinterpret_cast<const char*>(data), size);
  // A byte that no template can spell in its own words: sources that hold or escape it are left out.
  constexpr char kClientByte = '\x01';
  const auto compiled = ChatTemplate::Compile(source, {"<s>", "</s>", "<unk>", "<pad>"});
  if (!compiled.ok()) return 0;
  const std::string client = std::string("a") + kClientByte;
  const ChatMessage messages[] = {{"system", client}, {"user", client + " <b>\n"}, {"assistant", client}};
  const auto segments = (*compiled)->Render(messages, true);
  if (!segments.ok() || source.find(kClientByte) != source.npos || source.find('\\') != source.npos) return 0;
  for (const auto& segment : *segments) {
    NIBBLE_CHECK(!segment.trusted || segment.text.find(kClientByte) == std::string::npos);
  }
  return 0;
}
