#include "tests/engine/weights/gguf_builder.h"

#include <algorithm>

#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

uint64_t AlignedUp(uint64_t value, uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

}  // namespace

GgufBuilder& GgufBuilder::SetRaw(std::string_view key, uint32_t type, std::string payload) {
  for (Entry& entry : metadata_) {
    if (entry.key != key) continue;
    entry.type = type;
    entry.payload = std::move(payload);
    return *this;
  }
  return Append(key, type, std::move(payload));
}

GgufBuilder& GgufBuilder::Append(std::string_view key, uint32_t type, std::string payload) {
  metadata_.push_back({std::string(key), type, std::move(payload)});
  return *this;
}

GgufBuilder& GgufBuilder::Remove(std::string_view key) {
  NIBBLE_CHECK(std::erase_if(metadata_, [&](const Entry& entry) { return entry.key == key; }) == 1);
  return *this;
}

GgufBuilder& GgufBuilder::AddF32(std::string_view name, const std::vector<int64_t>& shape,
                                 absl::Span<const float> values) {
  return AddRaw(name, shape, 0, std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
}

GgufBuilder& GgufBuilder::AddRaw(std::string_view name, const std::vector<int64_t>& shape, uint32_t gguf_type,
                                 std::string data) {
  TensorEntry entry;
  entry.name = name;
  entry.dims.assign(shape.rbegin(), shape.rend());
  entry.n_dims = static_cast<uint32_t>(shape.size());
  entry.type = gguf_type;
  entry.data = std::move(data);
  tensors_.push_back(std::move(entry));
  return *this;
}

GgufBuilder::TensorEntry& GgufBuilder::tensor(std::string_view name) {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.name == name; });
  NIBBLE_CHECK(found != tensors_.end());
  return *found;
}

GgufBuilder& GgufBuilder::RemoveTensor(std::string_view name) {
  NIBBLE_CHECK(std::erase_if(tensors_, [&](const TensorEntry& entry) { return entry.name == name; }) == 1);
  return *this;
}

std::string GgufBuilder::Header() const {
  std::string bytes = Encode(magic) + Encode(version) + Encode(tensors_.size() + tensor_count_error) +
                      Encode(metadata_.size() + metadata_count_error);
  for (const Entry& entry : metadata_) bytes += Encode(entry.key) + Encode(entry.type) + entry.payload;
  uint64_t offset = 0;
  for (const TensorEntry& entry : tensors_) {
    bytes += Encode(entry.name) + Encode(entry.n_dims);
    for (uint64_t dim : entry.dims) bytes += Encode(dim);
    bytes += Encode(entry.type) + Encode(offset + static_cast<uint64_t>(entry.offset_error));
    offset += AlignedUp(entry.data.size(), alignment);
  }
  return bytes;
}

std::string GgufBuilder::Build() const {
  std::string bytes = Header();
  for (const TensorEntry& entry : tensors_) {
    bytes.resize(AlignedUp(bytes.size(), alignment));
    bytes += entry.data;
  }
  return bytes;
}

}  // namespace nibble::engine
