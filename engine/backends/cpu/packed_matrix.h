// A matrix packed for the CPU kernels: panels of 16 outputs, so that outputs lie in the lanes and a register block
// streams once from memory.
//
// Inside a panel of a quantized section, group after group of 32 inputs:
//   codes   8-bit: [8 blocks][16 outputs][4 inputs] int8                                        512 bytes
//           4-bit: [4 pairs of blocks][16 outputs][4 inputs], low nibble the even block         256 bytes
//   scales  [16] f16 or f32
//   mins    [16] f16 or f32, where the format has mins
// A panel of an f32 section: [inputs][16 outputs] float.
// Outputs past the end of a part have zero codes and scales; inputs past the end meet zero activations.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_PACKED_MATRIX_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_PACKED_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/backends/backend.h"
#include "engine/backends/cpu/aligned_buffer.h"
#include "engine/backends/cpu/row_rounding.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/quant/weight_groups.h"

namespace nibble::engine {

inline constexpr int kPanelOutputs = 16;

// Consecutive outputs of one matrix that share a format.
struct Section {
  bool f32 = false;
  GroupFormat format;  // where not f32
  int64_t first_output = 0;
  int64_t num_outputs = 0;
  int64_t panel_bytes = 0;
  AlignedBuffer data;

  int64_t panels() const { return (num_outputs + kPanelOutputs - 1) / kPanelOutputs; }
};

class PackedMatrix : public Matrix {
 public:
  // Packs in parallel. RESOURCE_EXHAUSTED if memory ends; FAILED_PRECONDITION, naming the tensor, for a scale or min
  // that its format cannot hold. REQUIRES of kH8_0 what quantized_file.h proves.
  static absl::StatusOr<std::unique_ptr<PackedMatrix>> Pack(absl::Span<const Tensor* const> parts, WeightMode weights,
                                                            const InputRounding& inputs, WorkerPool& pool);

  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  int64_t bytes() const override;
  int64_t groups() const { return (cols_ + kGroupSize - 1) / kGroupSize; }
  RowForm row_form() const { return {int4_inputs_.empty() ? nullptr : int4_inputs_.data(), rotated_}; }
  const std::vector<Section>& sections() const { return sections_; }

 private:
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  std::vector<float> int4_inputs_;  // RowForm's, or empty
  bool rotated_ = false;
  std::vector<Section> sections_;
};

// Bytes of one group of a panel.
int64_t PanelGroupBytes(const GroupFormat& format);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_PACKED_MATRIX_H_
