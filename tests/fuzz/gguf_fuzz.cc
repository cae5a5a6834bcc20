// Any bytes as a GGUF file: container, configuration, tokenizer and tensors. What is accepted must lie in the file.
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/config_gguf.h"
#include "engine/weights/gguf.h"
#include "engine/weights/model_file.h"
#include "engine/weights/tokenizer_gguf.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

void CheckInside(absl::Span<const std::byte> part, absl::Span<const std::byte> file) {
  NIBBLE_CHECK(part.data() >= file.data() && part.data() + part.size() <= file.data() + file.size());
}

void DecodeFirstBlock(const GgufTensor& tensor) {
  std::vector<float> block(static_cast<size_t>(tensor.traits->block_elements));
  tensor.traits->decode(tensor.data.data(), absl::MakeSpan(block));
}

void ParseAll(absl::Span<const std::byte> bytes) {
  const auto file = GgufFile::Parse(bytes);
  if (!file.ok()) return;
  for (const GgufValue& value : file->metadata()) CheckInside(value.payload, bytes);
  for (const GgufTensor& tensor : file->tensors()) {
    CheckInside(tensor.data, bytes);
    DecodeFirstBlock(tensor);
  }
  // Each apart, so that a fault in the one does not hide the other.
  ConfigFromGguf(*file).status().IgnoreError();
  const GgufValue* tokens = file->Find("tokenizer.ggml.tokens");
  if (tokens != nullptr) TokenizerFromGguf(*file, static_cast<int64_t>(tokens->count)).status().IgnoreError();
  ParseModelFile(bytes, nullptr).status().IgnoreError();
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::ParseAll({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
