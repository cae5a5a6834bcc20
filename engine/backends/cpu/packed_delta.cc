#include "engine/backends/cpu/packed_delta.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/quant/weight_groups.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int64_t kSignBytes = 64, kCodeBytes = 512;  // of a group
constexpr int64_t kRowsAtOnce = 256;                  // between pauses

// What a byte of a row's signs, bits 4 b + i with b of 0 and 1, gives to a group's word: bit b of byte i.
constexpr std::array<uint32_t, 256> SpreadBytes() {
  std::array<uint32_t, 256> spread = {};
  for (uint32_t byte = 0; byte < spread.size(); ++byte) {
    for (uint32_t bit = 0; bit < 8; ++bit) spread[byte] |= (byte >> bit & 1) << (bit % 4 * 8 + bit / 4);
  }
  return spread;
}
constexpr std::array<uint32_t, 256> kSpread = SpreadBytes();

void PackSigns(const SignDelta& delta, int64_t plane, int64_t row, std::byte* panel) {
  std::byte* out = panel + row % kPanelOutputs * 4;
  for (const uint32_t word : delta.SignsOf(plane, row)) {
    const uint32_t bytes = kSpread[word & 0xFF] | kSpread[word >> 8 & 0xFF] << 2 | kSpread[word >> 16 & 0xFF] << 4 |
                           kSpread[word >> 24] << 6;
    std::memcpy(out, &bytes, sizeof bytes);
    out += kSignBytes;
  }
}

void PackCodes(const CodeDelta& delta, int64_t row, std::byte* panel) {
  const int8_t* codes = delta.codes().data() + row * delta.cols();
  for (int64_t k = 0; k < delta.cols(); k += 4) {
    const int64_t group = k / kGroupSize, block = k % kGroupSize / 4;
    std::memcpy(panel + group * kCodeBytes + block * 64 + row % kPanelOutputs * 4, codes + k,
                static_cast<size_t>(std::min<int64_t>(4, delta.cols() - k)));
  }
}

// Of each output in panels, or of each plane.
std::vector<float> ScalesOf(const PartDelta& part, int64_t planes, int64_t panels) {
  const bool shared = part.signs != nullptr && part.signs->scale_rows() == 1;
  const int64_t row_scales = shared ? kPanelOutputs : panels * kPanelOutputs;
  std::vector<float> scales(static_cast<size_t>(planes * row_scales));
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t row = 0; row < (shared ? kPanelOutputs : part.rows); ++row) {
      float& scale = scales[static_cast<size_t>(plane * row_scales + row)];
      scale = part.signs != nullptr ? part.signs->ScaleOf(plane, row) : part.codes->scales()[static_cast<size_t>(row)];
    }
  }
  return scales;
}

absl::StatusOr<DeltaSection> PackSection(const PartDelta& part, absl::FunctionRef<void()> pause) {
  NIBBLE_CHECK(part.signs == nullptr || part.codes == nullptr);
  DeltaSection section;
  section.num_outputs = part.rows;
  if (part.signs == nullptr && part.codes == nullptr) return section;
  section.bits = part.signs != nullptr ? 1 : 8;
  section.planes = part.signs != nullptr ? part.signs->planes() : 1;
  section.panel_bytes = part.signs != nullptr ? part.signs->row_words() * kSignBytes
                                              : (part.codes->cols() + kGroupSize - 1) / kGroupSize * kCodeBytes;
  const int64_t panels = section.panels();
  NIBBLE_ASSIGN_OR_RETURN(section.data, AlignedBuffer::Allocate(section.planes * panels * section.panel_bytes));
  section.scales = ScalesOf(part, section.planes, panels);
  for (int64_t plane = 0; plane < section.planes; ++plane) {
    for (int64_t row = 0; row < part.rows; ++row) {
      std::byte* panel = section.data.data() + (plane * panels + row / kPanelOutputs) * section.panel_bytes;
      if (part.signs != nullptr) {
        PackSigns(*part.signs, plane, row, panel);
      } else {
        PackCodes(*part.codes, row, panel);
      }
      if (row % kRowsAtOnce == kRowsAtOnce - 1) pause();
    }
  }
  return section;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PackedDelta>> PackedDelta::Pack(absl::Span<const PartDelta> parts,
                                                               absl::FunctionRef<void()> pause) {
  auto delta = std::make_unique<PackedDelta>();
  for (const PartDelta& part : parts) {
    NIBBLE_ASSIGN_OR_RETURN(DeltaSection section, PackSection(part, pause));
    delta->sections_.push_back(std::move(section));
    pause();
  }
  return delta;
}

int64_t PackedDelta::bytes() const {
  int64_t total = 0;
  for (const DeltaSection& section : sections_) {
    total += section.planes * section.panels() * section.panel_bytes +
             static_cast<int64_t>(section.scales.size() * sizeof(float));
  }
  return total;
}

}  // namespace nibble::engine
