// Any bytes as a safetensors file, and as a quantized model in one. What is accepted must lie in the file, and be read
// again from what is written of it.
#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/weights/quantized_file.h"
#include "engine/weights/safetensors.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

std::string Rewrite(const SafetensorsFile& file) {
  return SerializeSafetensors(file.metadata(), {file.tensors().begin(), file.tensors().end()});
}

void CheckTensors(const SafetensorsFile& file, absl::Span<const std::byte> bytes) {
  for (const SafetensorsTensor& tensor : file.tensors()) {
    NIBBLE_CHECK(tensor.data.data() >= bytes.data() &&
                 tensor.data.data() + tensor.data.size() <= bytes.data() + bytes.size());
    uint64_t size = TraitsOf(tensor.type).bytes;
    for (const int64_t dim : tensor.shape) size *= static_cast<uint64_t>(dim);
    NIBBLE_CHECK(size == tensor.data.size());
    NIBBLE_CHECK(file.Find(tensor.name) == &tensor);
  }
}

void ParseModel(absl::Span<const std::byte> bytes) {
  const auto model = ParseQuantized(bytes, nullptr);
  if (!model.ok()) return;
  for (const Tensor& tensor : model->weights->tensors()) {
    NIBBLE_CHECK(static_cast<uint64_t>(tensor.rows() * tensor.row_bytes()) == tensor.data.size());
    std::vector<float> row(static_cast<size_t>(tensor.cols()));
    DecodeRow(tensor, tensor.rows() - 1, absl::MakeSpan(row));
  }
}

void ParseAll(absl::Span<const std::byte> bytes) {
  ParseModel(bytes);
  const auto file = SafetensorsFile::Parse(bytes);
  if (!file.ok()) return;
  CheckTensors(*file, bytes);
  const std::string written = Rewrite(*file);
  const auto again = SafetensorsFile::Parse({reinterpret_cast<const std::byte*>(written.data()), written.size()});
  NIBBLE_CHECK(again.ok() && Rewrite(*again) == written);
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::ParseAll({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
