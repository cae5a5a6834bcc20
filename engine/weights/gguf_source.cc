#include "engine/weights/gguf_source.h"

#include <string>
#include <utility>
#include <vector>

namespace nibble::engine {

std::unique_ptr<WeightSource> MakeGgufSource(const GgufFile& file, std::shared_ptr<const void> owner) {
  std::vector<Tensor> tensors;
  tensors.reserve(file.tensors().size());
  for (const GgufTensor& tensor : file.tensors()) {
    tensors.push_back({std::string(tensor.name), tensor.traits->encoding, tensor.shape, tensor.data});
  }
  return MakeWeightSource(std::move(tensors), std::move(owner));
}

}  // namespace nibble::engine
