// The CPU as a Backend: panels of packed weights, Highway kernels, one worker pool.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_CPU_BACKEND_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_CPU_BACKEND_H_

#include <memory>
#include <utility>
#include <vector>

#include "engine/backends/backend.h"
#include "engine/backends/cpu/attention.h"
#include "engine/backends/cpu/kv_pool.h"
#include "engine/backends/cpu/matmul_kernels.h"
#include "engine/backends/cpu/packed_delta.h"
#include "engine/backends/cpu/packed_matrix.h"
#include "engine/backends/cpu/row_kernels.h"
#include "engine/backends/cpu/worker_pool.h"

namespace nibble::engine {

class CpuBackend : public Backend {
 public:
  // `pool` and `codec` must outlive it. codec nullptr: pages stay raw.
  CpuBackend(simd::Isa isa, WorkerPool& pool, const kv::RawForm& raw_form, const kv::PageCodec* codec);

  absl::StatusOr<std::unique_ptr<Matrix>> LoadMatrix(absl::Span<const Tensor* const> parts, WeightMode weights,
                                                     const InputRounding& inputs) override;
  absl::StatusOr<std::unique_ptr<MatrixDelta>> LoadDelta(absl::Span<const PartDelta> parts,
                                                         absl::FunctionRef<void()> pause) const override;
  absl::Span<const float> LoadVector(absl::Span<const Tensor* const> parts) override;
  absl::StatusOr<View> AllocateView(int64_t rows, int64_t cols) override;
  int64_t workspace_bytes() const;  // of all views
  absl::Status AllocateKv(const KvShape& shape, const kv::CacheShape& cache, int64_t step_tokens) override;

  void Embed(const Tensor& table, absl::Span<const int32_t> ids, float scale, View out) override;
  void Gather(View x, absl::Span<const int64_t> rows, View out) override;
  void Norm(View x, absl::Span<const float> weight, float epsilon, View out) override;
  void NormHeads(View x, int64_t first_col, int heads, absl::Span<const float> weight, float epsilon) override;
  void AddVector(absl::Span<const float> values, View x) override;
  void Add(View x, View y, View out) override;
  void MatMul(View x, const Matrix& matrix, absl::Span<const float> bias, absl::Span<const DeltaRows> deltas,
              Epilogue epilogue, View out) override;
  void RopeAngles(absl::Span<const SequenceRows> batch, const RopeShape& shape, double base, double linear_factor,
                  View angles) override;
  void RopeStoreKv(absl::Span<const SequenceRows> batch, const AttentionShape& shape, const RopeShape& rope,
                   View angles, int layer, View qkv) override;
  void Attend(absl::Span<const SequenceRows> batch, const AttentionShape& shape, int layer, float scale, int64_t window,
              float softcap, View qkv, View out) override;
  void GatedAct(Activation activation, View gate_up, View out) override;
  void SoftCap(float cap, View x) override;

 private:
  struct Product {
    View x;
    absl::Span<const float> bias;
    absl::Span<const DeltaRows> deltas;
    Epilogue epilogue;
    View out;
  };
  struct RowRange {
    int64_t first, end;
  };
  // One section of a matrix.
  struct SectionWork {
    const Section* section;
    PanelKernel kernel;
    int64_t first_panel;  // counted through all sections
  };

  void SealFullPages(absl::Span<const SequenceRows> batch, int layer, int num_kv_heads);
  void Quantize(View x, const PackedMatrix& matrix);
  // The `part`-th of `parts` equal runs of rows: those that the `part`-th of as many threads begins with in ForRows.
  static RowRange PartOf(int64_t rows, int64_t part, int64_t parts);
  // Panels counted through all sections.
  void MultiplyPart(const Product& product, RowRange rows, int64_t first_panel, int64_t end_panel);
  void MultiplyPanels(const Product& product, RowRange rows, const SectionWork& work, int64_t first_panel,
                      int64_t end_panel);
  void AddDeltas(const Product& product, RowRange rows, const SectionWork& work, int64_t first_panel,
                 int64_t end_panel);
  void AddDeltaPanels(RowRange rows, const DeltaSection& section, int64_t first_output, int64_t first_panel,
                      int64_t end_panel, View out);

  simd::Isa isa_;
  WorkerPool& pool_;
  const RowKernels& rows_;
  KvPool kv_;
  CpuAttention attention_;
  std::vector<AlignedBuffer> buffers_;
  std::vector<std::unique_ptr<std::vector<float>>> vectors_;
  std::vector<std::pair<const SequenceRows*, int64_t>> full_pages_;  // of the current step
  std::vector<SectionWork> section_work_;                            // of the current product
  // The quantized input of the current product.
  QuantizedRowsBuffer quantized_buffer_;
  QuantizedRows quantized_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_CPU_BACKEND_H_
