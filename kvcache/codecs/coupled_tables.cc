#include "kvcache/codecs/coupled_tables.h"

#include <cmath>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/simd/half.h"

namespace nibble::kv {
namespace {

absl::Status Refuse(const std::string& what) { return absl::InvalidArgumentError("kv codec: " + what); }

// Of a calibration: far from where any product of two would overflow.
constexpr float kLargestNumber = 1e12f;

// Where a HeadCode comes from, for messages.
struct Place {
  int layer, head;
  const char* kind;

  absl::Status Refuse(const std::string& what) const {
    return kv::Refuse(absl::StrCat("calibration of layer ", layer, ", head ", head, ", ", kind, ": ", what));
  }
};

absl::Status CheckModel(const CodecModel& model) {
  if (model.head_dim <= 0 || model.head_dim % 16 != 0 || model.head_dim > kMaxCoupledHeadDim) {
    return Refuse(absl::StrCat("head_dim ", model.head_dim, " is not a multiple of 16 up to ", kMaxCoupledHeadDim));
  }
  if (model.rope_of_layer.size() != static_cast<size_t>(model.num_layers)) return Refuse("layers without a rope");
  for (const int rope : model.rope_of_layer) {
    if (rope < 0 || rope >= static_cast<int>(model.ropes.size())) return Refuse("a layer's rope does not exist");
  }
  for (const Rope& rope : model.ropes) {
    if (2 * rope.frequencies.size() > static_cast<size_t>(model.head_dim)) {
      return Refuse(absl::StrCat("a rope turns more than the ", model.head_dim, " channels of a head"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSize(size_t size, int64_t want, const char* field, const Place& place) {
  if (size == static_cast<size_t>(want)) return absl::OkStatus();
  return place.Refuse(absl::StrCat(field, " has ", size, " numbers, not ", want));
}

absl::Status CheckFloats(absl::Span<const float> numbers, int64_t want, const char* field, const Place& place) {
  NIBBLE_RETURN_IF_ERROR(CheckSize(numbers.size(), want, field, place));
  for (const float number : numbers) {
    if (!(std::abs(number) <= kLargestNumber)) return place.Refuse(absl::StrCat(field, " holds ", number));
  }
  return absl::OkStatus();
}

absl::Status CheckHalves(absl::Span<const uint16_t> numbers, int64_t want, const char* field, const Place& place) {
  NIBBLE_RETURN_IF_ERROR(CheckSize(numbers.size(), want, field, place));
  for (const uint16_t number : numbers) {
    const float value = simd::HalfToFloat(number);
    if (!std::isfinite(value)) return place.Refuse(absl::StrCat(field, " holds ", value));
  }
  return absl::OkStatus();
}

absl::Status CheckGroups(const HeadCode& code, const Place& place) {
  int32_t begin = 0;
  for (const int32_t end : code.group_ends) {
    if (end <= begin || end - begin > kMaxGroupCoefficients) {
      return place.Refuse(absl::StrCat("group_ends: a group from ", begin, " to ", end));
    }
    begin = end;
  }
  if (begin != code.coefficients()) return place.Refuse("group_ends do not cover the coefficients");
  return absl::OkStatus();
}

// Turned, -128 would not fit.
absl::Status CheckCentroids(const HeadCode& code, int entries, const Place& place) {
  NIBBLE_RETURN_IF_ERROR(CheckSize(code.centroids.size(), int64_t{code.coefficients()} * entries, "centroids", place));
  if (entries == kCentroids || !absl::c_linear_search(code.centroids, -128)) return absl::OkStatus();
  return place.Refuse("centroids of a mirrored codebook hold -128");
}

absl::Status CheckHead(const HeadCode& code, int64_t head_dim, int entries, const Place& place) {
  const int64_t coefficients = code.coefficients();
  if (coefficients < 1 || coefficients > head_dim) {
    return place.Refuse(absl::StrCat("centroid_scale has ", coefficients, " coefficients, not 1 to ", head_dim));
  }
  NIBBLE_RETURN_IF_ERROR(CheckFloats(code.mean, head_dim, "mean", place));
  NIBBLE_RETURN_IF_ERROR(CheckHalves(code.analysis, coefficients * head_dim, "analysis", place));
  NIBBLE_RETURN_IF_ERROR(CheckHalves(code.synthesis, coefficients * head_dim, "synthesis", place));
  NIBBLE_RETURN_IF_ERROR(CheckFloats(code.centroid_scale, coefficients, "centroid_scale", place));
  NIBBLE_RETURN_IF_ERROR(CheckCentroids(code, entries, place));
  return CheckGroups(code, place);
}

absl::Status CheckHeads(const std::vector<HeadCode>& heads, const CodecModel& model, int entries, int layer,
                        const char* kind) {
  if (heads.size() != static_cast<size_t>(model.num_kv_heads)) {
    return Refuse(absl::StrCat("calibration of layer ", layer, " has ", heads.size(), " heads of ", kind, ", not ",
                               model.num_kv_heads));
  }
  for (int head = 0; head < model.num_kv_heads; ++head) {
    NIBBLE_RETURN_IF_ERROR(CheckHead(heads[head], model.head_dim, entries, {layer, head, kind}));
  }
  return absl::OkStatus();
}

template <typename T>
int64_t BytesOf(const std::vector<T>& numbers) {
  return static_cast<int64_t>(numbers.capacity() * sizeof(T));
}

void FillHead(const HeadCode& code, int entries, uint8_t centroid_offset, HeadTables* tables) {
  tables->coefficients = code.coefficients();
  tables->padded = (code.coefficients() + 15) / 16 * 16;
  tables->group_ends.assign(code.group_ends.begin(), code.group_ends.end());
  tables->mean = Aligned<float>(code.mean);
  tables->analysis = Aligned<uint16_t>(code.analysis);
  tables->centroid_scale = Aligned<float>(code.centroid_scale);
  tables->entries = entries;
  tables->centroid_offset = centroid_offset;
  tables->centroids = Aligned<uint8_t>(int64_t{tables->padded} * entries);
  uint8_t* const centroids = tables->centroids.data.get();
  for (size_t i = 0; i < code.centroids.size(); ++i) {
    centroids[i] = static_cast<uint8_t>(code.centroids[i] + centroid_offset);
  }
  std::fill(centroids + code.centroids.size(), centroids + tables->centroids.size, centroid_offset);
  tables->code_at = Aligned<uint16_t>(tables->padded);
  for (int g = 0, j = 0; g < code.groups(); ++g) {
    for (; j < code.group_ends[g]; ++j) tables->code_at.data[j] = static_cast<uint16_t>(g * kCodeVector);
  }
}

// Row j of M, rounded: returns s[j].
float RoundMatrixRow(const HeadCode& code, int j, const SpanTurns& turns, int16_t* panel) {
  const auto element = [&](int i) {
    const uint16_t half = code.synthesis[static_cast<int64_t>(i) * code.coefficients() + j];
    return double{simd::HalfToFloat(half)} * code.centroid_scale[j];
  };
  double largest = 0.0;
  for (size_t i = 0; i < code.mean.size(); ++i) largest = std::max(largest, std::abs(element(static_cast<int>(i))));
  const auto scale = static_cast<float>(largest / kMatrixLimit);
  if (scale < 1e-30f) return 0.0f;
  for (int i = 0; i < turns.size(); ++i) {
    if (turns.channel(i) < 0) continue;
    const double rounded = std::nearbyint(element(turns.channel(i)) / scale);
    const int column = MatrixColumn(i);
    panel[column / 2 * 32 + j % 16 * 2 + column % 2] = static_cast<int16_t>(rounded);
  }
  return scale;
}

KeyTables MakeKeys(const HeadCode& code, int entries, const SpanTurns& turns) {
  KeyTables keys;
  FillHead(code, entries, 128, &keys);
  keys.turned_mean = Aligned<float>(turns.size());
  for (int i = 0; i < turns.size(); ++i) {
    if (turns.channel(i) >= 0) keys.turned_mean.data[i] = code.mean[turns.channel(i)];
  }
  keys.matrix = Aligned<int16_t>(static_cast<int64_t>(keys.padded) * turns.size());
  keys.row_scales = Aligned<float>(keys.padded);
  for (int j = 0; j < code.coefficients(); ++j) {
    int16_t* panel = keys.matrix.data.get() + j / 16 * 16 * turns.size();
    keys.row_scales.data[j] = RoundMatrixRow(code, j, turns, panel);
  }
  return keys;
}

ValueTables MakeValues(const HeadCode& code, int entries) {
  ValueTables values;
  FillHead(code, entries, 0, &values);
  const int64_t head_dim = static_cast<int64_t>(code.mean.size()), coefficients = code.coefficients();
  values.synthesis = Aligned<uint16_t>(coefficients * head_dim);
  for (int64_t j = 0; j < coefficients; ++j) {
    for (int64_t i = 0; i < head_dim; ++i) {
      values.synthesis.data[j * head_dim + i] = code.synthesis[i * coefficients + j];
    }
  }
  return values;
}

}  // namespace

int64_t HeadTables::bytes() const {
  return BytesOf(group_ends) + mean.bytes() + analysis.bytes() + centroid_scale.bytes() + centroids.bytes() +
         code_at.bytes();
}

absl::Status CheckCoupled(const CodecModel& model, const Calibration* calibration, std::string_view name) {
  NIBBLE_RETURN_IF_ERROR(CheckModel(model));
  if (calibration == nullptr) return Refuse(absl::StrCat(std::string(name), " needs a calibration"));
  if (calibration->codec != name) {
    return Refuse(absl::StrCat("calibration for codec ", calibration->codec, ", not ", std::string(name)));
  }
  if (calibration->layers.size() != static_cast<size_t>(model.num_layers)) {
    return Refuse(
        absl::StrCat("calibration of ", calibration->layers.size(), " layers for a model of ", model.num_layers));
  }
  const int entries = calibration->entries;
  if (entries != kCentroids && entries != kMirroredEntries) {
    return Refuse(absl::StrCat("calibration with codebooks of ", entries, " entries, not ", kCentroids, " or ",
                               kMirroredEntries));
  }
  for (int layer = 0; layer < model.num_layers; ++layer) {
    NIBBLE_RETURN_IF_ERROR(CheckHeads(calibration->layers[layer].keys, model, entries, layer, "keys"));
    NIBBLE_RETURN_IF_ERROR(CheckHeads(calibration->layers[layer].values, model, entries, layer, "values"));
  }
  return absl::OkStatus();
}

CoupledTables::CoupledTables(const CodecModel& model, const Calibration& calibration)
    : num_kv_heads(model.num_kv_heads), head_dim(model.head_dim), rope_of_layer(model.rope_of_layer), offsets(1, 0) {
  for (const Rope& rope : model.ropes) {
    turns.emplace_back(rope, model.head_dim, model.max_pages);
    largest_turned = std::max(largest_turned, turns.back().size());
  }
  const size_t heads = static_cast<size_t>(model.num_layers) * num_kv_heads;
  keys.reserve(heads), values.reserve(heads), offsets.reserve(heads + 1);
  for (int layer = 0; layer < model.num_layers; ++layer) {
    for (int head = 0; head < num_kv_heads; ++head) {
      const LayerCode& code = calibration.layers[layer];
      keys.push_back(MakeKeys(code.keys[head], calibration.entries, turns[rope_of_layer[layer]]));
      values.push_back(MakeValues(code.values[head], calibration.entries));
      largest_padded = std::max(largest_padded, values.back().padded);
      offsets.push_back(offsets.back() + keys.back().code_bytes() + values.back().code_bytes());
    }
  }
}

int64_t CoupledTables::table_bytes() const {
  int64_t bytes = sizeof(*this) + BytesOf(rope_of_layer) + BytesOf(offsets) + BytesOf(keys) + BytesOf(values);
  for (const SpanTurns& turn : turns) bytes += turn.bytes();
  for (const KeyTables& k : keys) {
    bytes += k.bytes() + k.turned_mean.bytes() + k.matrix.bytes() + k.row_scales.bytes();
  }
  for (const ValueTables& v : values) bytes += v.bytes() + v.synthesis.bytes();
  return bytes;
}

}  // namespace nibble::kv
