// Any bytes as a model.safetensors.index.json. No file name that is accepted leaves the folder.
#include <cstdint>
#include <string_view>

#include "engine/weights/shard_index.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

void Read(std::string_view text) {
  const auto document = JsonDocument::Parse(text, "index.json");
  if (!document.ok()) return;
  const auto index = ShardIndexFrom(*document);
  if (!index.ok()) return;
  NIBBLE_CHECK(!index->empty() && index->size() <= kMaxShards);
  for (const auto& [file, tensors] : *index) {
    NIBBLE_CHECK(file.find('/') == std::string::npos && file.find('\0') == std::string::npos && file[0] != '.');
    NIBBLE_CHECK(!tensors.empty());
  }
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::Read({reinterpret_cast<const char*>(data), size});
  return 0;
}
