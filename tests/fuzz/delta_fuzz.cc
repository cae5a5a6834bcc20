// Any bytes as a delta file. What is accepted is written again as it was read.
#include <cstdint>
#include <string>

#include "absl/types/span.h"
#include "engine/adapters/delta_file.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

void Parse(absl::Span<const std::byte> bytes) {
  const auto delta = ParseDelta(bytes, [] {});
  if (!delta.ok()) return;
  const std::string written = SerializeDelta(*delta);
  const auto again = ParseDelta({reinterpret_cast<const std::byte*>(written.data()), written.size()}, [] {});
  NIBBLE_CHECK(again.ok() && SerializeDelta(*again) == written);
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::Parse({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
