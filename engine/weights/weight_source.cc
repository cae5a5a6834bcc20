#include "engine/weights/weight_source.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace nibble::engine {
namespace {

class ListedTensors : public WeightSource {
 public:
  ListedTensors(std::vector<Tensor> tensors, std::shared_ptr<const void> owner)
      : owner_(std::move(owner)), tensors_(std::move(tensors)) {
    for (const Tensor& tensor : tensors_) by_name_.push_back(&tensor);
    std::sort(by_name_.begin(), by_name_.end(), [](const Tensor* a, const Tensor* b) { return a->name < b->name; });
  }

  absl::Span<const Tensor> tensors() const override { return tensors_; }

  const Tensor* Find(std::string_view name) const override {
    const auto less = [](const Tensor* tensor, std::string_view wanted) { return tensor->name < wanted; };
    const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name, less);
    return found != by_name_.end() && (*found)->name == name ? *found : nullptr;
  }

 private:
  std::shared_ptr<const void> owner_;
  std::vector<Tensor> tensors_;
  std::vector<const Tensor*> by_name_;
};

}  // namespace

int64_t Tensor::rows() const {
  return std::accumulate(shape.begin(), shape.end() - 1, int64_t{1}, std::multiplies<>());
}

std::unique_ptr<WeightSource> MakeWeightSource(std::vector<Tensor> tensors, std::shared_ptr<const void> owner) {
  return std::make_unique<ListedTensors>(std::move(tensors), std::move(owner));
}

}  // namespace nibble::engine
