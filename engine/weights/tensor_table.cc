#include "engine/weights/tensor_table.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <vector>

#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// A tensor outside the table whose name starts so takes part in the computation: ignoring it would change the answer.
constexpr std::string_view kComputedPrefixes[] = {"blk.", "rope_", "output", "token_"};

// By Extent.
using Extents = std::array<int64_t, 8>;

Extents ExtentsOf(const ModelConfig& config) {
  return {0,
          config.vocab_size,
          config.hidden_size,
          config.intermediate_size,
          config.num_heads * config.head_dim,
          config.num_kv_heads * config.head_dim,
          config.head_dim,
          config.rope_dims / 2};
}

// Holds every tensor of the file against the table.
class TensorCheck {
 public:
  TensorCheck(const GgufFile& file, const ModelConfig& config, unsigned architecture)
      : file_(file), config_(config), architecture_(architecture), known_(file.tensors().size()) {}

  absl::Status Run() {
    for (const TensorRule& rule : kTensorTable) {
      if ((rule.architectures & architecture_) != 0) NIBBLE_RETURN_IF_ERROR(CheckRule(rule));
    }
    return CheckUnknown();
  }

 private:
  absl::Status CheckRule(const TensorRule& rule) {
    if (!rule.per_layer) return CheckOne(rule, std::string(rule.name));
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      NIBBLE_RETURN_IF_ERROR(CheckOne(rule, "blk." + std::to_string(layer) + "." + std::string(rule.name)));
    }
    return absl::OkStatus();
  }

  absl::Status CheckOne(const TensorRule& rule, const std::string& name) {
    const GgufTensor* tensor = file_.FindTensor(name);
    if (tensor == nullptr && !rule.required) return absl::OkStatus();
    if (tensor == nullptr) return FormatError("tensor " + Quoted(name), file_.tensor_table_offset(), "is missing");
    known_[static_cast<size_t>(tensor - file_.tensors().data())] = true;
    const std::vector<int64_t> shape = ShapeOf(rule, config_);
    if (tensor->shape == shape) return absl::OkStatus();
    return FormatError("tensor " + Quoted(name), tensor->entry_offset,
                       "has shape " + ShapeText(tensor->shape) + ", not " + ShapeText(shape));
  }

  absl::Status CheckUnknown() const {
    for (size_t i = 0; i < known_.size(); ++i) {
      const GgufTensor& tensor = file_.tensors()[i];
      const auto starts = [&](std::string_view prefix) { return tensor.name.starts_with(prefix); };
      if (known_[i] || std::none_of(std::begin(kComputedPrefixes), std::end(kComputedPrefixes), starts)) continue;
      return FormatError("tensor " + Quoted(tensor.name), tensor.entry_offset,
                         "is not known to architecture " + config_.architecture);
    }
    return absl::OkStatus();
  }

  const GgufFile& file_;
  const ModelConfig& config_;
  const unsigned architecture_;
  std::vector<bool> known_;  // by index of file_.tensors()
};

}  // namespace

std::vector<int64_t> ShapeOf(const TensorRule& rule, const ModelConfig& config) {
  const Extents extents = ExtentsOf(config);
  std::vector<int64_t> shape = {extents[static_cast<size_t>(rule.outer)]};
  if (rule.inner != Extent::kNone) shape.push_back(extents[static_cast<size_t>(rule.inner)]);
  return shape;
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t dim : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

absl::Status CheckTensors(const GgufFile& file, const ModelConfig& config, unsigned architecture) {
  return TensorCheck(file, config, architecture).Run();
}

}  // namespace nibble::engine
