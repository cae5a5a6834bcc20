#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/weights/safetensors.h"

namespace nibble::engine {
namespace {

using Json = nlohmann::ordered_json;

// Never throws, and is as short as it can be.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

void AddEntry(const std::string& name, const Json& value, std::string* object) {
  *object += (object->size() > 1 ? "," : "") + Dump(name) + ":" + Dump(value);
}

std::string HeaderOf(const SafetensorsMetadata& metadata, absl::Span<const SafetensorsTensor> tensors) {
  std::string header = "{";
  if (!metadata.empty()) AddEntry("__metadata__", metadata, &header);
  uint64_t begin = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    const uint64_t end = begin + tensor.data.size();
    const std::string type(TraitsOf(tensor.type).name);
    AddEntry(tensor.name, {{"dtype", type}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}}, &header);
    begin = end;
  }
  header += "}";
  return header.append((8 - header.size() % 8) % 8, ' ');
}

}  // namespace

std::string SerializeSafetensors(const SafetensorsMetadata& metadata, std::vector<SafetensorsTensor> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    const uint64_t a_bytes = TraitsOf(a.type).bytes, b_bytes = TraitsOf(b.type).bytes;
    return a_bytes != b_bytes ? a_bytes > b_bytes : a.name < b.name;
  });
  const std::string header = HeaderOf(metadata, tensors);
  const uint64_t length = header.size();
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  file += header;
  for (const SafetensorsTensor& tensor : tensors) {
    file.append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
  }
  return file;
}

}  // namespace nibble::engine
