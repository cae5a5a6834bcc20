#include "engine/backends/cpu/packed_matrix.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

GroupRounding RoundingOf(WeightMode mode) {
  switch (mode) {
    case WeightMode::kW8:
      return GroupRounding::kToW8;
    case WeightMode::kW4:
      return GroupRounding::kToW4;
    default:
      return GroupRounding::kAsInFile;
  }
}

struct GroupRowStorage {
  explicit GroupRowStorage(int64_t groups) : codes(groups * kGroupSize), scales(groups), mins(groups) {}
  GroupRow row() { return {absl::MakeSpan(codes), absl::MakeSpan(scales), absl::MakeSpan(mins)}; }
  std::vector<int8_t> codes;
  std::vector<float> scales, mins;
};

// False where a finite value is beyond f16.
bool PutParam(std::byte* params, bool half, int output, float value) {
  if (!half) {
    std::memcpy(params + output * 4, &value, 4);
    return true;
  }
  const uint16_t bits = simd::FloatToHalf(value);
  std::memcpy(params + output * 2, &bits, 2);
  return !std::isfinite(value) || std::isfinite(simd::HalfToFloat(bits));
}

// Writes one output's group into its lane of the panel. False where a parameter is beyond the format.
bool PutGroup(const GroupFormat& format, const int8_t* codes, float scale, float min, int output, std::byte* group) {
  auto* bytes = reinterpret_cast<uint8_t*>(group);
  for (int block = 0; block < 8; ++block) {
    for (int i = 0; i < 4; ++i) {
      const uint8_t code = static_cast<uint8_t>(codes[block * 4 + i]);
      if (format.bits == 8) {
        bytes[block * 64 + output * 4 + i] = code;
      } else {
        bytes[block / 2 * 64 + output * 4 + i] |= static_cast<uint8_t>(code << (block % 2 * 4));
      }
    }
  }
  std::byte* params = group + (format.bits == 8 ? 512 : 256);
  bool fits = PutParam(params, format.half_params, output, scale);
  if (format.has_min) {
    fits &= PutParam(params + kPanelOutputs * (format.half_params ? 2 : 4), format.half_params, output, min);
  }
  return fits;
}

// False where a parameter of the row is beyond the format: the min of Q4_0, -8 scales, above a scale of 8188.
bool PackQuantizedRow(const Tensor& tensor, int64_t row, GroupRounding rounding, const GroupFormat& format,
                      int64_t output, std::byte* panel) {
  const int64_t groups = (tensor.cols() + kGroupSize - 1) / kGroupSize;
  GroupRowStorage storage(groups);
  std::vector<float> scratch(tensor.cols());
  ReadGroupRow(tensor, row, rounding, absl::MakeSpan(scratch), storage.row());
  bool fits = true;
  for (int64_t g = 0; g < groups; ++g) {
    fits &= PutGroup(format, &storage.codes[g * kGroupSize], storage.scales[g], storage.mins[g],
                     static_cast<int>(output), panel + g * PanelGroupBytes(format));
  }
  return fits;
}

// The values that a quantized section would stand for, as floats: what f32 activations are multiplied with.
void DecodeRowOf(WeightMode mode, const Tensor& tensor, int64_t row, absl::Span<float> out) {
  if (mode == WeightMode::kF32 || HasRotatedCodes(tensor, RoundingOf(mode))) return DecodeRow(tensor, row, out);
  GroupRowStorage storage((tensor.cols() + kGroupSize - 1) / kGroupSize);
  ReadGroupRow(tensor, row, RoundingOf(mode), out, storage.row());
  for (int64_t k = 0; k < tensor.cols(); ++k) {
    out[k] = storage.scales[k / kGroupSize] * static_cast<float>(storage.codes[k]) + storage.mins[k / kGroupSize];
  }
}

void PackFloatRow(const Tensor& tensor, int64_t row, WeightMode mode, int64_t output, std::byte* panel) {
  std::vector<float> values(tensor.cols());
  DecodeRowOf(mode, tensor, row, absl::MakeSpan(values));
  auto* floats = reinterpret_cast<float*>(panel);
  for (int64_t k = 0; k < tensor.cols(); ++k) floats[k * kPanelOutputs + output] = values[k];
}

absl::StatusOr<Section> PackSection(const Tensor& tensor, WeightMode weights, ActivationMode activations,
                                    WorkerPool& pool) {
  Section section;
  section.f32 = weights == WeightMode::kF32 || activations == ActivationMode::kF32;
  section.format = FormatOf(tensor, RoundingOf(weights));
  section.num_outputs = tensor.rows();
  const int64_t groups = (tensor.cols() + kGroupSize - 1) / kGroupSize;
  section.panel_bytes = section.f32 ? tensor.cols() * kPanelOutputs * static_cast<int64_t>(sizeof(float))
                                    : groups * PanelGroupBytes(section.format);
  NIBBLE_ASSIGN_OR_RETURN(section.data, AlignedBuffer::Allocate(section.panels() * section.panel_bytes));
  std::atomic<bool> fits = true;
  pool.ParallelFor(section.panels(), [&](int64_t p, int) {
    std::byte* panel = section.data.data() + p * section.panel_bytes;
    const int64_t end = std::min(section.num_outputs, (p + 1) * kPanelOutputs);
    for (int64_t row = p * kPanelOutputs; row < end; ++row) {
      if (section.f32) {
        PackFloatRow(tensor, row, weights, row % kPanelOutputs, panel);
      } else if (!PackQuantizedRow(tensor, row, RoundingOf(weights), section.format, row % kPanelOutputs, panel)) {
        fits = false;
      }
    }
  });
  if (!fits) {
    return absl::FailedPreconditionError(absl::StrCat("tensor ", tensor.name, ": a block's min is beyond f16"));
  }
  return section;
}

}  // namespace

int64_t PanelGroupBytes(const GroupFormat& format) {
  const int64_t param = kPanelOutputs * (format.half_params ? 2 : 4);
  return kPanelOutputs * kGroupSize * format.bits / 8 + param * (format.has_min ? 2 : 1);
}

absl::StatusOr<std::unique_ptr<PackedMatrix>> PackedMatrix::Pack(absl::Span<const Tensor* const> parts,
                                                                 WeightMode weights, const InputRounding& inputs,
                                                                 WorkerPool& pool) {
  auto matrix = std::make_unique<PackedMatrix>();
  matrix->cols_ = parts.front()->cols();
  if (inputs.mode == ActivationMode::kA4) {
    matrix->int4_inputs_.assign(static_cast<size_t>(matrix->groups() * kGroupSize), 1.0f);
    for (const int32_t input : inputs.int8_inputs) matrix->int4_inputs_[static_cast<size_t>(input)] = 0.0f;
  }
  for (const Tensor* part : parts) {
    NIBBLE_CHECK(part->cols() == matrix->cols_);
    NIBBLE_ASSIGN_OR_RETURN(Section section, PackSection(*part, weights, inputs.mode, pool));
    const bool rotated = !section.f32 && HasRotatedCodes(*part, RoundingOf(weights));
    NIBBLE_CHECK(part == parts.front() || rotated == matrix->rotated_);
    matrix->rotated_ = rotated;
    section.first_output = matrix->rows_;
    matrix->rows_ += section.num_outputs;
    matrix->sections_.push_back(std::move(section));
  }
  NIBBLE_CHECK(!matrix->rotated_ || inputs.mode != ActivationMode::kA4 || inputs.int8_inputs.empty());
  return matrix;
}

int64_t PackedMatrix::bytes() const {
  int64_t total = 0;
  for (const Section& section : sections_) total += section.panels() * section.panel_bytes;
  return total;
}

}  // namespace nibble::engine
