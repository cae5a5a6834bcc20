// Who watches the inputs of matrix products: quantization, which learns from a forward pass what weights will meet.
#ifndef NIBBLE_ENGINE_MODELS_PRODUCT_OBSERVER_H_
#define NIBBLE_ENGINE_MODELS_PRODUCT_OBSERVER_H_

#include "engine/backends/backend.h"

namespace nibble::engine {

// A layer's products with weights, in the order of the computation.
enum class Product { kQkv, kAttentionOutput, kGateUp, kDown };

class ProductObserver {
 public:
  virtual ~ProductObserver() = default;
  // Before the product. `input` is [rows, cols of the matrix], valid for the call alone. Thread: the one that runs the
  // step.
  virtual void OnProduct(int layer, Product product, View input) = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_PRODUCT_OBSERVER_H_
