// What the inputs of matrix products are like while a model reads a text: sums of x x^T, layer by layer and product by
// product, for as many layers as memory is given for, and of the head.
#ifndef NIBBLE_ENGINE_TOOLS_PRODUCT_STATISTICS_H_
#define NIBBLE_ENGINE_TOOLS_PRODUCT_STATISTICS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "engine/backends/cpu/cpu_backend.h"
#include "engine/models/product_observer.h"

namespace nibble::engine {

// The sum of x x^T over the inputs x of one product, [size, size]: H of engine/quant/gptq.h.
struct InputMoments {
  int64_t size = 0;
  std::vector<float> sums;

  float energy(int64_t input) const { return sums[static_cast<size_t>(input * size + input)]; }
};

// Thread: the observer's.
class ProductStatistics : public ProductObserver {
 public:
  using Layer = std::array<InputMoments, 4>;  // by Product

  // Of layers [first, end), and of the head where asked for. `pool` must outlive it.
  ProductStatistics(int first, int end, bool with_head, simd::Isa isa, WorkerPool& pool);

  // False: it changes nothing.
  bool OnProduct(const ObservedProduct& observed) override;
  void OnHead(View input) override;

  int first() const { return first_; }
  int end() const { return first_ + static_cast<int>(layers_.size()); }
  Layer& layer(int index) { return layers_[static_cast<size_t>(index - first_)]; }
  InputMoments& head() { return head_; }

 private:
  void Add(View input, InputMoments* moments);

  const int first_;
  const bool with_head_;
  std::vector<Layer> layers_;
  InputMoments head_;
  CpuBackend backend_;             // sums of products of columns are a product of matrices
  std::vector<float> transposed_;  // [size, rows]
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_PRODUCT_STATISTICS_H_
