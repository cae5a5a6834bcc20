#include "engine/weights/tensors_hf.h"

#include <deque>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "engine/weights/architecture.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/tensor_table.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

struct Located {
  const HfShard* shard = nullptr;
  const SafetensorsTensor* tensor = nullptr;
};

absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

absl::Status TensorError(const Located& at, std::string_view what) {
  return FormatError(at.shard->file + ": tensor " + Quoted(at.tensor->name), at.tensor->header_offset, what);
}

std::optional<Encoding> EncodingOf(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kF32:
      return Encoding::kF32;
    case SafetensorsType::kF16:
      return Encoding::kF16;
    case SafetensorsType::kBF16:
      return Encoding::kBF16;
    default:
      return std::nullopt;
  }
}

// What the source owns besides the shards' bytes.
struct Storage {
  std::shared_ptr<const void> shards;
  std::deque<std::vector<float>> vectors;
};

class Reader {
 public:
  Reader(const ModelConfig& config, std::shared_ptr<const void> owner)
      : config_(config),
        architecture_(FindArchitecture(config.architecture)->bit),
        storage_(std::make_shared<Storage>(Storage{std::move(owner), {}})) {}

  absl::StatusOr<std::unique_ptr<WeightSource>> Read(absl::Span<const HfShard> shards) {
    NIBBLE_RETURN_IF_ERROR(Index(shards));
    for (const TensorRule& rule : kTensorTable) {
      if ((rule.architectures & architecture_) != 0 && !rule.hf_name.empty()) NIBBLE_RETURN_IF_ERROR(AddRule(rule));
    }
    NIBBLE_RETURN_IF_ERROR(CheckRest(shards));
    return MakeWeightSource(std::move(tensors_), std::move(storage_));
  }

 private:
  absl::Status Index(absl::Span<const HfShard> shards) {
    for (const HfShard& shard : shards) {
      for (const SafetensorsTensor& tensor : shard.tensors.tensors()) {
        const auto [entry, is_new] = by_name_.try_emplace(View(tensor.name), Located{&shard, &tensor});
        if (!is_new) return TensorError({&shard, &tensor}, "is in " + entry->second.shard->file + " too");
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddRule(const TensorRule& rule) {
    const std::string name(rule.name), hf_name(rule.hf_name);
    if (!rule.per_layer) return AddOne(rule, name, hf_name);
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      const std::string number = std::to_string(layer);
      NIBBLE_RETURN_IF_ERROR(AddOne(rule, "blk." + number + "." + name, "model.layers." + number + "." + hf_name));
    }
    return absl::OkStatus();
  }

  absl::Status AddOne(const TensorRule& rule, const std::string& name, const std::string& hf_name) {
    known_.insert(hf_name);
    // Only the head is not required; a checkpoint may have one although it is tied, and then it does not count.
    if (!rule.required && config_.tied_embeddings) return absl::OkStatus();
    const auto found = by_name_.find(hf_name);
    if (found == by_name_.end()) return absl::FailedPreconditionError("tensor " + Quoted(hf_name) + " is missing");
    const Located& at = found->second;
    const std::optional<Encoding> encoding = EncodingOf(at.tensor->type);
    if (!encoding.has_value()) {
      return TensorError(at, "has the dtype " + std::string(TraitsOf(at.tensor->type).name) + ", not BF16, F16 or F32");
    }
    Tensor tensor{name, *encoding, ShapeOf(rule, config_), at.tensor->data};
    if (at.tensor->shape != tensor.shape) {
      return TensorError(at, "has shape " + ShapeText(at.tensor->shape) + ", not " + ShapeText(tensor.shape));
    }
    const bool rotates = rule.name == "attn_q.weight" || rule.name == "attn_k.weight";
    if (rotates && config_.rope_interleaved) tensor.halved_rows = config_.head_dim;
    if (rule.inner == Extent::kNone) KeepAsFloats(&tensor);
    tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  void KeepAsFloats(Tensor* vector) {
    std::vector<float>& values = storage_->vectors.emplace_back(static_cast<size_t>(vector->cols()));
    DecodeRow(*vector, 0, absl::MakeSpan(values));
    if (architecture_ == kGemma3) {  // which has no vectors but norms
      for (float& value : values) value += 1.0f;
    }
    vector->encoding = Encoding::kF32;
    vector->data = {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float)};
  }

  // Tables of rotation that old versions of transformers stored are what rope_theta says.
  absl::Status CheckRest(absl::Span<const HfShard> shards) const {
    for (const HfShard& shard : shards) {
      for (const SafetensorsTensor& tensor : shard.tensors.tensors()) {
        if (known_.contains(tensor.name) || tensor.name.ends_with(".rotary_emb.inv_freq")) continue;
        return TensorError({&shard, &tensor}, "is not known to architecture " + config_.architecture);
      }
    }
    return absl::OkStatus();
  }

  const ModelConfig& config_;
  const unsigned architecture_;
  std::shared_ptr<Storage> storage_;
  absl::flat_hash_map<absl::string_view, Located> by_name_;
  absl::flat_hash_set<std::string> known_;  // names that the table has for this model
  std::vector<Tensor> tensors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightSource>> WeightsFromHf(const ModelConfig& config, absl::Span<const HfShard> shards,
                                                            std::shared_ptr<const void> owner) {
  return Reader(config, std::move(owner)).Read(shards);
}

}  // namespace nibble::engine
