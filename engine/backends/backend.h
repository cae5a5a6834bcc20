// A device as a dozen verbs over plain views. A model (engine/models) is written in these verbs and knows no device.
//
// Views point into device memory that the backend allocated. All rows of a batch lie one after another: a verb over
// [rows, n] treats every row alone, so a row's bits do not depend on its neighbours (law 1).
// Thread: one thread calls everything; a backend may use its own workers inside a verb. Verbs do not fail: what they
// need was proven at load.
#ifndef NIBBLE_ENGINE_BACKENDS_BACKEND_H_
#define NIBBLE_ENGINE_BACKENDS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/adapters/weight_deltas.h"
#include "engine/weights/weight_source.h"
#include "kvcache/page.h"

namespace nibble::engine {

// What matrices become at load.
enum class WeightMode {
  kFile,  // 4-bit files stay 4-bit, everything else becomes 8-bit
  kW8,
  kW4,
  kF32,
};
// What activations become before each matrix product.
enum class ActivationMode { kA8, kA4, kF32 };

// How the inputs of one matrix are rounded.
struct InputRounding {
  ActivationMode mode = ActivationMode::kA8;
  absl::Span<const int32_t> int8_inputs = {};  // of kA4: inputs that are int8 all the same, on the step of their group
};

// Weights on the device, opaque. [rows = outputs, cols = inputs].
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual int64_t bytes() const = 0;  // as read by one product
};

// What a fine-tune adds to one matrix, on the device, opaque.
class MatrixDelta {
 public:
  virtual ~MatrixDelta() = default;
  virtual int64_t bytes() const = 0;
};

// What a fine-tune adds to one of the parts of a matrix: signs or codes, or neither where it left the part alone.
struct PartDelta {
  int64_t rows = 0;
  const SignDelta* signs = nullptr;
  const CodeDelta* codes = nullptr;
};

// Rows of a batch that meet a matrix and a delta.
struct DeltaRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  const MatrixDelta* delta = nullptr;
};

// f32 values [rows, cols] in device memory, rows `cols` apart.
struct View {
  float* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  float* row(int64_t i) const { return data + i * cols; }
  View Rows(int64_t first, int64_t count) const { return {row(first), count, cols}; }
};

enum class Epilogue { kStore, kAdd };
enum class Activation { kSilu, kGeluTanh };

// One sequence's rows of the batch. Sequences lie one after another, at least one row each, from row 0 on.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  int64_t position = 0;  // of first_row
  absl::Span<const kv::PageId> pages;
  // Beside each page the slot of its raw form, where it has one. Numbers from the cache's raw_slots on are places that
  // last as long as the step. Empty where pages are raw in their own place.
  absl::Span<const kv::RawSlot> raw_slots;
};

struct AttentionShape {
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
};

struct RopeShape {
  int dims = 0;                     // leading dimensions of a head that are rotated
  bool interleaved = false;         // pairs (2i, 2i + 1); otherwise (i, i + dims / 2)
  absl::Span<const float> factors;  // [dims / 2] that frequencies are divided by, or empty
};

struct KvShape {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Load time.
  // Packs the parts, one under another, as one matrix: equal cols; all of kH8_0 or none. RESOURCE_EXHAUSTED if memory
  // ends, FAILED_PRECONDITION for values that the device's format cannot hold.
  virtual absl::StatusOr<std::unique_ptr<Matrix>> LoadMatrix(absl::Span<const Tensor* const> parts, WeightMode weights,
                                                             const InputRounding& inputs) = 0;
  // What a fine-tune adds to the matrix of the same parts. RESOURCE_EXHAUSTED if memory ends. Any thread, also while a
  // step runs; calls `pause` between pieces of the work.
  virtual absl::StatusOr<std::unique_ptr<MatrixDelta>> LoadDelta(absl::Span<const PartDelta> parts,
                                                                 absl::FunctionRef<void()> pause) const = 0;
  // A norm's or a bias's values. Owned by the backend.
  virtual absl::Span<const float> LoadVector(absl::Span<const Tensor* const> parts) = 0;
  // Working memory, zeroed, owned by the backend. RESOURCE_EXHAUSTED if memory ends.
  virtual absl::StatusOr<View> AllocateView(int64_t rows, int64_t cols) = 0;
  // `step_tokens`: rows of the largest batch.
  virtual absl::Status AllocateKv(const KvShape& shape, const kv::CacheShape& cache, int64_t step_tokens) = 0;

  // Run time, in a step.
  // out[i] = scale * row ids[i] of the table.
  virtual void Embed(const Tensor& table, absl::Span<const int32_t> ids, float scale, View out) = 0;
  // out[i] = x[rows[i]].
  virtual void Gather(View x, absl::Span<const int64_t> rows, View out) = 0;
  // out = x / rms(x) * weight, row by row. out may be x.
  virtual void Norm(View x, absl::Span<const float> weight, float epsilon, View out) = 0;
  // The same in place over each of `heads` runs of weight.size() columns from first_col on.
  virtual void NormHeads(View x, int64_t first_col, int heads, absl::Span<const float> weight, float epsilon) = 0;
  // Every row of x += values.
  virtual void AddVector(absl::Span<const float> values, View x) = 0;
  // out = x + y.
  virtual void Add(View x, View y, View out) = 0;
  // out (+)= x * matrix^T (+ bias), and of the rows in `deltas`, which do not overlap, x * (matrix + delta)^T. bias may
  // be empty. Deltas REQUIRE that the matrix rounds its inputs, and as they are: it has no parts of kH8_0.
  virtual void MatMul(View x, const Matrix& matrix, absl::Span<const float> bias, absl::Span<const DeltaRows> deltas,
                      Epilogue epilogue, View out) = 0;
  // cos and sin of position / linear_factor * base^(-2i / dims) / factors[i], [rows, dims]: dims / 2 cosines, then the
  // sines.
  virtual void RopeAngles(absl::Span<const SequenceRows> batch, const RopeShape& shape, double base,
                          double linear_factor, View angles) = 0;
  // Rotates q and k, which lie as q | k | v in the columns of qkv, stores k and v into the pages, and seals the pages
  // that are now full.
  virtual void RopeStoreKv(absl::Span<const SequenceRows> batch, const AttentionShape& shape, const RopeShape& rope,
                           View angles, int layer, View qkv) = 0;
  // out = softmax(scale * q k^T over the visible positions) v. window 0: all positions up to the row's own; otherwise
  // the last `window` of them. softcap 0: none.
  virtual void Attend(absl::Span<const SequenceRows> batch, const AttentionShape& shape, int layer, float scale,
                      int64_t window, float softcap, View qkv, View out) = 0;
  // out = activation(gate) * up, which lie as gate | up in the columns of gate_up.
  virtual void GatedAct(Activation activation, View gate_up, View out) = 0;
  // x = cap * tanh(x / cap).
  virtual void SoftCap(float cap, View x) = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_BACKEND_H_
