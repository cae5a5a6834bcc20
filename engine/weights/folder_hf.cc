#include "engine/weights/folder_hf.h"

#include <filesystem>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/weights/config_hf.h"
#include "engine/weights/json_document.h"
#include "engine/weights/mapped_file.h"
#include "engine/weights/regular_file.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/shard_index.h"
#include "engine/weights/tensors_hf.h"
#include "engine/weights/tokenizer_hf.h"
#include "engine/weights/vocabulary.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";

using Mappings = std::vector<std::shared_ptr<const MappedFile>>;

class Folder {
 public:
  explicit Folder(std::filesystem::path path) : path_(std::move(path)) {}

  bool Has(const std::string& file) const {
    std::error_code error;
    return std::filesystem::exists(path_ / file, error);
  }
  std::string PathOf(const std::string& file) const { return (path_ / file).string(); }

  absl::StatusOr<std::string> Text(const std::string& file, uint64_t max_bytes) const {
    NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, ReadFile(PathOf(file), max_bytes));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  absl::StatusOr<JsonDocument> Json(const std::string& file, uint64_t max_bytes) const {
    NIBBLE_ASSIGN_OR_RETURN(const std::string text, Text(file, max_bytes));
    return JsonDocument::Parse(text, file);
  }

  // A file that need not be there: without it, an empty object.
  absl::StatusOr<JsonDocument> OptionalJson(const std::string& file, uint64_t max_bytes) const {
    return Has(file) ? Json(file, max_bytes) : JsonDocument::Parse("{}", file);
  }

 private:
  const std::filesystem::path path_;
};

absl::StatusOr<SafetensorsFile> MapShard(const Folder& folder, const std::string& file, Mappings* mappings) {
  NIBBLE_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> mapped, MappedFile::Open(folder.PathOf(file)));
  absl::StatusOr<SafetensorsFile> shard = SafetensorsFile::Parse(mapped->bytes());
  if (!shard.ok()) return absl::Status(shard.status().code(), file + ": " + std::string(shard.status().message()));
  mappings->push_back(mapped);
  return shard;
}

absl::StatusOr<std::vector<HfShard>> MapIndexed(const Folder& folder, Mappings* mappings) {
  NIBBLE_ASSIGN_OR_RETURN(const JsonDocument document, folder.Json(kIndexFile, kMaxShardIndexBytes));
  NIBBLE_ASSIGN_OR_RETURN(const ShardIndex index, ShardIndexFrom(document));
  std::vector<HfShard> shards;
  for (const auto& [file, names] : index) {
    NIBBLE_ASSIGN_OR_RETURN(SafetensorsFile shard, MapShard(folder, file, mappings));
    NIBBLE_RETURN_IF_ERROR(CheckShard(index, file, shard));
    shards.push_back({file, std::move(shard)});
  }
  return shards;
}

// Where both are there, the one file counts, as everywhere.
absl::StatusOr<std::vector<HfShard>> MapShards(const Folder& folder, Mappings* mappings) {
  if (folder.Has(kSingleFile)) {
    NIBBLE_ASSIGN_OR_RETURN(SafetensorsFile file, MapShard(folder, kSingleFile, mappings));
    std::vector<HfShard> shards;
    shards.push_back({kSingleFile, std::move(file)});
    return shards;
  }
  if (folder.Has(kIndexFile)) return MapIndexed(folder, mappings);
  return absl::NotFoundError("cannot open " + folder.PathOf(kSingleFile) + " or " + kIndexFile +
                             ": of checkpoints only safetensors files are read");
}

absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const Folder& folder, const ModelConfig& config) {
  const auto mappings = std::make_shared<Mappings>();
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<HfShard> shards, MapShards(folder, mappings.get()));
  return WeightsFromHf(config, shards, mappings);
}

absl::StatusOr<TokenizerData> OpenTokenizer(const Folder& folder, const JsonDocument& config, int64_t vocab_size) {
  NIBBLE_ASSIGN_OR_RETURN(const JsonDocument tokenizer, folder.Json("tokenizer.json", kMaxTokenizerBytes));
  NIBBLE_ASSIGN_OR_RETURN(const JsonDocument tokenizer_config,
                          folder.OptionalJson("tokenizer_config.json", kMaxTokenizerConfigBytes));
  NIBBLE_ASSIGN_OR_RETURN(const JsonDocument generation_config,
                          folder.OptionalJson("generation_config.json", kMaxConfigBytes));
  NIBBLE_ASSIGN_OR_RETURN(TokenizerData data,
                          TokenizerFromHf({tokenizer, tokenizer_config, generation_config, config}, vocab_size));
  constexpr char kTemplateFile[] = "chat_template.jinja";
  if (folder.Has(kTemplateFile)) {
    NIBBLE_ASSIGN_OR_RETURN(data.chat_template, folder.Text(kTemplateFile, kMaxChatTemplateBytes));
  }
  return data;
}

}  // namespace

absl::StatusOr<ModelFile> OpenModelFolder(const std::string& path) {
  const Folder folder(path);
  NIBBLE_ASSIGN_OR_RETURN(const JsonDocument config, folder.Json("config.json", kMaxConfigBytes));
  ModelFile model;
  NIBBLE_ASSIGN_OR_RETURN(model.config, ConfigFromHf(config));
  // The weights first: that the embedding has vocab_size rows bounds what the tokenizer takes.
  NIBBLE_ASSIGN_OR_RETURN(model.weights, OpenWeights(folder, model.config));
  NIBBLE_ASSIGN_OR_RETURN(model.tokenizer, OpenTokenizer(folder, config, model.config.vocab_size));
  return model;
}

}  // namespace nibble::engine
