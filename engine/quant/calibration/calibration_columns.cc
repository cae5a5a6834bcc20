#include "engine/quant/calibration/calibration_columns.h"

#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/checked.h"
#include "engine/weights/safetensors_fields.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

template <typename T>
constexpr SafetensorsType TypeOf() {
  if constexpr (std::is_same_v<T, float>) return SafetensorsType::kF32;
  if constexpr (std::is_same_v<T, int32_t>) return SafetensorsType::kI32;
  if constexpr (std::is_same_v<T, uint16_t>) return SafetensorsType::kF16;
  if constexpr (std::is_same_v<T, int8_t>) return SafetensorsType::kI8;
}

// visit(name, column, shape) of the tensors that say how many numbers a head has, …
template <typename Columns, typename Visit>
void VisitCounts(Columns& c, Visit& visit) {
  visit("mean", c.mean, {c.layers, 2, c.heads, c.head_dim});
  visit("coefficients", c.coefficients, {c.layers, 2, c.heads});
  visit("groups", c.groups, {c.layers, 2, c.heads});
}

// … and of those that hold them.
template <typename Columns, typename Visit>
void VisitNumbers(Columns& c, Visit& visit) {
  visit("group_ends", c.group_ends, {c.all_groups});
  visit("analysis", c.analysis, {c.all_coefficients, c.head_dim});
  visit("synthesis", c.synthesis, {c.all_coefficients * c.head_dim});
  visit("centroid_scale", c.centroid_scale, {c.all_coefficients});
  visit("centroids", c.centroids, {c.all_coefficients, c.entries});
}

template <typename Layer>
auto KindsOf(Layer& layer) {
  return std::array{&layer.keys, &layer.values};
}

template <typename T>
void Append(const std::vector<T>& values, std::vector<T>* column) {
  column->insert(column->end(), values.begin(), values.end());
}

template <typename T>
std::vector<T> Slice(const std::vector<T>& column, int64_t begin, int64_t count) {
  return {column.begin() + begin, column.begin() + begin + count};
}

std::string ShapeText(absl::Span<const int64_t> shape) { return absl::StrCat("[", absl::StrJoin(shape, ", "), "]"); }

absl::StatusOr<const SafetensorsTensor*> FindTensor(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsTensor* const tensor = file.Find(name);
  if (tensor == nullptr) return FormatError("tensor " + Quoted(name), kSafetensorsHeaderOffset, "is missing");
  return tensor;
}

// Copies tensors into columns; the first error stays.
class ColumnReader {
 public:
  ColumnReader(const SafetensorsFile& file, const std::string& codec) : file_(file), codec_(codec) {}

  const absl::Status& status() const { return status_; }

  template <typename T>
  void operator()(const char* name, std::vector<T>& column, const std::vector<int64_t>& shape) {
    if (!status_.ok()) return;
    const auto tensor = FindTensor(file_, codec_ + "." + name);
    status_ = tensor.ok() ? Check(**tensor, TypeOf<T>(), shape) : tensor.status();
    if (!status_.ok()) return;
    const absl::Span<const std::byte> data = (*tensor)->data;
    column.resize(data.size() / sizeof(T));
    if (!data.empty()) std::memcpy(column.data(), data.data(), data.size());
  }

 private:
  static absl::Status Check(const SafetensorsTensor& tensor, SafetensorsType type, const std::vector<int64_t>& shape) {
    if (tensor.type != type) {
      return TensorError(
          tensor, "has dtype " + std::string(TraitsOf(tensor.type).name) + ", not " + std::string(TraitsOf(type).name));
    }
    if (tensor.shape == shape) return absl::OkStatus();
    return TensorError(tensor, "has shape " + ShapeText(tensor.shape) + ", not " + ShapeText(shape));
  }

  const SafetensorsFile& file_;
  const std::string& codec_;
  absl::Status status_;
};

// The shapes of the mean and of the centroids give the sizes of the others.
absl::Status ReadSizes(const SafetensorsFile& file, const std::string& codec, CalibrationColumns* columns) {
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsTensor* const mean, FindTensor(file, codec + ".mean"));
  const std::vector<int64_t>& shape = mean->shape;
  if (shape.size() != 4 || shape[0] < 1 || shape[1] != 2 || shape[2] < 1 || shape[3] < 1) {
    return TensorError(*mean, "has shape " + ShapeText(shape) + ", not [layers, 2, heads, head_dim]");
  }
  columns->layers = shape[0];
  columns->heads = shape[2];
  columns->head_dim = shape[3];
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsTensor* const centroids, FindTensor(file, codec + ".centroids"));
  columns->entries = centroids->shape.size() == 2 ? centroids->shape[1] : 0;
  if (columns->entries == kv::kCentroids || columns->entries == kv::kMirroredEntries) return absl::OkStatus();
  return TensorError(*centroids, absl::StrCat("has shape ", ShapeText(centroids->shape), ", not [all coefficients, ",
                                              kv::kCentroids, " or ", kv::kMirroredEntries, "]"));
}

// Of the counts in a tensor that was found, each standing for `each` numbers: all of them together fit 63 bits.
absl::StatusOr<int64_t> SumOf(const SafetensorsTensor& tensor, const std::vector<int32_t>& counts, int64_t each) {
  Checked sum = 0;
  for (const int32_t count : counts) {
    if (count < 0) {
      return TensorError(tensor, absl::StrCat("holds ", count));
    }
    sum = sum + static_cast<uint64_t>(count);
  }
  if ((sum * static_cast<uint64_t>(each)).FitsIn(INT64_MAX)) return static_cast<int64_t>(sum.value());
  return TensorError(tensor, "counts more than a file can hold");
}

}  // namespace

CalibrationColumns ColumnsOf(const kv::Calibration& calibration) {
  CalibrationColumns columns;
  columns.layers = static_cast<int64_t>(calibration.layers.size());
  columns.heads = static_cast<int64_t>(calibration.layers[0].keys.size());
  columns.head_dim = static_cast<int64_t>(calibration.layers[0].keys[0].mean.size());
  columns.entries = calibration.entries;
  for (const kv::LayerCode& layer : calibration.layers) {
    for (const auto* kind : KindsOf(layer)) {
      for (const kv::HeadCode& head : *kind) {
        columns.coefficients.push_back(head.coefficients());
        columns.groups.push_back(head.groups());
        columns.all_coefficients += head.coefficients();
        columns.all_groups += head.groups();
        Append(head.mean, &columns.mean);
        Append(head.group_ends, &columns.group_ends);
        Append(head.analysis, &columns.analysis);
        Append(head.synthesis, &columns.synthesis);
        Append(head.centroid_scale, &columns.centroid_scale);
        Append(head.centroids, &columns.centroids);
      }
    }
  }
  return columns;
}

void AddTensors(const std::string& codec, const CalibrationColumns& columns, std::vector<SafetensorsTensor>* tensors) {
  const auto add = [&](const char* name, const auto& column, std::vector<int64_t> shape) {
    using T = typename std::decay_t<decltype(column)>::value_type;
    const absl::Span<const std::byte> data(reinterpret_cast<const std::byte*>(column.data()),
                                           column.size() * sizeof(T));
    tensors->push_back({codec + "." + name, TypeOf<T>(), std::move(shape), data});
  };
  VisitCounts(columns, add);
  VisitNumbers(columns, add);
}

absl::StatusOr<CalibrationColumns> ReadColumns(const SafetensorsFile& file, const std::string& codec) {
  CalibrationColumns columns;
  NIBBLE_RETURN_IF_ERROR(ReadSizes(file, codec, &columns));
  ColumnReader reader(file, codec);
  VisitCounts(columns, reader);
  NIBBLE_RETURN_IF_ERROR(reader.status());
  NIBBLE_ASSIGN_OR_RETURN(columns.all_coefficients,
                          SumOf(*file.Find(codec + ".coefficients"), columns.coefficients, columns.head_dim));
  NIBBLE_ASSIGN_OR_RETURN(columns.all_groups, SumOf(*file.Find(codec + ".groups"), columns.groups, 1));
  VisitNumbers(columns, reader);
  NIBBLE_RETURN_IF_ERROR(reader.status());
  return columns;
}

kv::Calibration CalibrationOf(const std::string& codec, const CalibrationColumns& columns) {
  kv::Calibration calibration;
  calibration.codec = codec;
  calibration.entries = static_cast<int>(columns.entries);
  calibration.layers.resize(static_cast<size_t>(columns.layers));
  const int64_t dim = columns.head_dim;
  int64_t index = 0, coefficient = 0, group = 0;  // of the next head, and the first of its own
  for (kv::LayerCode& layer : calibration.layers) {
    for (auto* kind : KindsOf(layer)) {
      kind->resize(static_cast<size_t>(columns.heads));
      for (kv::HeadCode& head : *kind) {
        const int64_t coefficients = columns.coefficients[index], groups = columns.groups[index];
        head.mean = Slice(columns.mean, index * dim, dim);
        head.group_ends = Slice(columns.group_ends, group, groups);
        head.analysis = Slice(columns.analysis, coefficient * dim, coefficients * dim);
        head.synthesis = Slice(columns.synthesis, coefficient * dim, coefficients * dim);
        head.centroid_scale = Slice(columns.centroid_scale, coefficient, coefficients);
        head.centroids = Slice(columns.centroids, coefficient * columns.entries, coefficients * columns.entries);
        ++index;
        coefficient += coefficients;
        group += groups;
      }
    }
  }
  return calibration;
}

}  // namespace nibble::engine
