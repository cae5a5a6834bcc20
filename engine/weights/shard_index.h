// model.safetensors.index.json of a Hugging Face folder: which file holds which tensor.
#ifndef NIBBLE_ENGINE_WEIGHTS_SHARD_INDEX_H_
#define NIBBLE_ENGINE_WEIGHTS_SHARD_INDEX_H_

#include <cstddef>
#include <map>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "engine/weights/json_document.h"
#include "engine/weights/safetensors.h"

namespace nibble::engine {

inline constexpr size_t kMaxShards = 1024;
inline constexpr size_t kMaxShardNameBytes = 255;

// File name -> names of its tensors.
using ShardIndex = std::map<std::string, std::set<std::string>>;

// FAILED_PRECONDITION for: no weight_map, or an empty one; a file name that is not that of a safetensors file in the
// same folder; too many files.
absl::StatusOr<ShardIndex> ShardIndexFrom(const JsonDocument& index);

// FAILED_PRECONDITION where `file` does not hold exactly the tensors that the index says. REQUIRES: the index has it.
absl::Status CheckShard(const ShardIndex& index, const std::string& file, const SafetensorsFile& shard);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_SHARD_INDEX_H_
