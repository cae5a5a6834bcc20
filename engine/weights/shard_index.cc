#include "engine/weights/shard_index.h"

#include <string_view>

#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

bool IsPlainShardName(std::string_view name) {
  return name.size() <= kMaxShardNameBytes && name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

absl::StatusOr<ShardIndex> ShardIndexFrom(const JsonDocument& index) {
  const JsonValue map = index["weight_map"];
  NIBBLE_RETURN_IF_ERROR(map.Require());
  NIBBLE_RETURN_IF_ERROR(map.CheckObject());
  ShardIndex shards;
  for (const auto& [tensor, file] : map.json().items()) {
    const std::string* const name = file.get_ptr<const std::string*>();
    if (name == nullptr || !IsPlainShardName(*name)) {
      return map.Error("the file of " + Quoted(tensor) + " is no name of a .safetensors file in this folder");
    }
    shards[*name].insert(tensor);
    if (shards.size() > kMaxShards) return map.Error("names more than " + std::to_string(kMaxShards) + " files");
  }
  if (shards.empty()) return map.Error("is empty");
  return shards;
}

absl::Status CheckShard(const ShardIndex& index, const std::string& file, const SafetensorsFile& shard) {
  const std::set<std::string>& names = index.at(file);
  for (const SafetensorsTensor& tensor : shard.tensors()) {
    if (names.contains(tensor.name)) continue;
    return FormatError(file + ": tensor " + Quoted(tensor.name), tensor.header_offset, "is not in the index");
  }
  for (const std::string& name : names) {
    if (shard.Find(name) != nullptr) continue;
    return absl::FailedPreconditionError(file + ": tensor " + Quoted(name) + " of the index is missing");
  }
  return absl::OkStatus();
}

}  // namespace nibble::engine
