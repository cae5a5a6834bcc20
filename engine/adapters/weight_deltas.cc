#include "engine/adapters/weight_deltas.h"

#include <algorithm>
#include <cmath>

namespace nibble::engine {

SignDelta::SignDelta(int64_t planes, int64_t rows, int64_t row_words, bool scale_per_row)
    : planes_(planes),
      rows_(rows),
      row_words_(row_words),
      scale_rows_(scale_per_row ? rows : 1),
      signs_(static_cast<size_t>(planes * rows * row_words)),
      scales_(static_cast<size_t>(planes * scale_rows_)) {}

absl::Span<const uint32_t> SignDelta::SignsOf(int64_t plane, int64_t row) const {
  return absl::MakeConstSpan(signs_).subspan(static_cast<size_t>((plane * rows_ + row) * row_words()),
                                             static_cast<size_t>(row_words()));
}

absl::Span<uint32_t> SignDelta::MutableSignsOf(int64_t plane, int64_t row) {
  return absl::MakeSpan(signs_).subspan(static_cast<size_t>((plane * rows_ + row) * row_words()),
                                        static_cast<size_t>(row_words()));
}

void SignDelta::AddSigns(int64_t plane, int64_t row, float factor, absl::Span<float> values) const {
  const absl::Span<const uint32_t> words = SignsOf(plane, row);
  for (size_t i = 0; i < values.size(); ++i) values[i] += (words[i / 32] >> (i % 32) & 1) != 0 ? factor : -factor;
}

void SignDelta::AddTo(int64_t row, absl::Span<float> values) const {
  for (int64_t plane = 0; plane < planes_; ++plane) AddSigns(plane, row, ScaleOf(plane, row), values);
}

CodeDelta::CodeDelta(int64_t rows, int64_t cols)
    : rows_(rows), cols_(cols), codes_(static_cast<size_t>(rows * cols)), scales_(static_cast<size_t>(rows)) {}

void CodeDelta::SetRow(int64_t row, absl::Span<const float> values) {
  float largest = 0.0f;
  for (const float value : values) largest = std::max(largest, std::fabs(value));
  const float scale = largest / 127.0f;
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  scales_[static_cast<size_t>(row)] = scale;
  int8_t* const codes = codes_.data() + row * cols_;
  for (size_t i = 0; i < values.size(); ++i) {
    codes[i] = static_cast<int8_t>(std::clamp(std::nearbyintf(values[i] * inverse), -127.0f, 127.0f));
  }
}

void CodeDelta::AddTo(int64_t row, absl::Span<float> values) const {
  const int8_t* const codes = codes_.data() + row * cols_;
  const float scale = scales_[static_cast<size_t>(row)];
  for (size_t i = 0; i < values.size(); ++i) values[i] = std::fma(scale, static_cast<float>(codes[i]), values[i]);
}

}  // namespace nibble::engine
