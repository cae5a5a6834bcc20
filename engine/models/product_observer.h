// Who sees what each product of a layer, and the head's, is made of before it is made: quantization and deltas, which
// learn from a forward pass what their weights will meet.
#ifndef NIBBLE_ENGINE_MODELS_PRODUCT_OBSERVER_H_
#define NIBBLE_ENGINE_MODELS_PRODUCT_OBSERVER_H_

#include "absl/types/span.h"
#include "engine/backends/backend.h"
#include "engine/weights/layer_products.h"

namespace nibble::engine {

// One of a layer's products, valid for the call alone.
struct ObservedProduct {
  int layer = 0;
  Product product = Product::kQkv;
  absl::Span<const Tensor* const> parts;  // the tensors of the matrix, one under another
  View input;                             // [rows, cols of the matrix]
};

class ProductObserver {
 public:
  virtual ~ProductObserver() = default;
  // True where the parts' values are others now (their deltas changed): the matrix is then loaded again before the
  // product. Thread: the one that runs the step.
  virtual bool OnProduct(const ObservedProduct& observed) = 0;
  // What the head would be multiplied with for logits of all rows of the batch, [rows, hidden]. The same thread.
  virtual void OnHead(View /*input*/) {}
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_PRODUCT_OBSERVER_H_
