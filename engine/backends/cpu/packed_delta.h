// What a fine-tune adds to one matrix, packed for the CPU kernels in the panels of PackedMatrix: 16 outputs in the
// lanes.
//
// Inside a panel, group after group of 32 inputs:
//   signs  [16 outputs][4 inputs] bytes, whose bit b is the sign of input 4 b + i of the group; 1 is +    64 bytes
//   codes  [8 blocks][16 outputs][4 inputs] int8                                                         512 bytes
// Outputs past the end of a part are computed and dropped; inputs past the end meet zero activations.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_PACKED_DELTA_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_PACKED_DELTA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/backends/backend.h"
#include "engine/backends/cpu/aligned_buffer.h"
#include "engine/backends/cpu/packed_matrix.h"

namespace nibble::engine {

// The outputs of one part, those of a Section. Of a part that the fine-tune left alone there are no planes.
struct DeltaSection {
  int bits = 1;  // 1: signs, 8: codes
  int64_t planes = 0;
  int64_t num_outputs = 0;
  int64_t panel_bytes = 0;
  AlignedBuffer data;         // [planes][panels]
  std::vector<float> scales;  // [planes][panels][16], or [planes][16] where a plane has one scale

  int64_t panels() const { return (num_outputs + kPanelOutputs - 1) / kPanelOutputs; }
  // The 16 of a panel.
  const float* ScalesOf(int64_t plane, int64_t panel) const {
    const bool shared = static_cast<int64_t>(scales.size()) == planes * kPanelOutputs;
    return scales.data() + (shared ? plane : plane * panels() + panel) * kPanelOutputs;
  }
};

class PackedDelta : public MatrixDelta {
 public:
  // RESOURCE_EXHAUSTED if memory ends. Any thread. Calls `pause` after each part, and inside it every 256 rows.
  static absl::StatusOr<std::unique_ptr<PackedDelta>> Pack(absl::Span<const PartDelta> parts,
                                                           absl::FunctionRef<void()> pause);

  int64_t bytes() const override;
  // One for each part, as the matrix has its own.
  const std::vector<DeltaSection>& sections() const { return sections_; }

 private:
  std::vector<DeltaSection> sections_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_PACKED_DELTA_H_
