#include "engine/adapters/delta_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "engine/weights/byte_reader.h"
#include "engine/weights/layer_products.h"
#include "engine/weights/regular_file.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/safetensors_fields.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr char kVersion[] = "1";
constexpr std::string_view kSigns = ".signs", kCodes = ".codes", kScale = ".scale";

absl::StatusOr<DeltaProvenance> ProvenanceOf(const SafetensorsFile& file) {
  DeltaProvenance provenance;
  NIBBLE_ASSIGN_OR_RETURN(provenance.base_sha256, Sha256Of(file, "base_sha256"));
  NIBBLE_ASSIGN_OR_RETURN(provenance.tuned_sha256, Sha256Of(file, "tuned_sha256"));
  NIBBLE_ASSIGN_OR_RETURN(provenance.method, MetadataText(file, "method", 0, kMaxDeltaTextBytes));
  if (file.FindMetadata("license") != nullptr) {
    NIBBLE_ASSIGN_OR_RETURN(provenance.license, MetadataText(file, "license", 0, kMaxDeltaLicenseBytes));
  }
  return provenance;
}

absl::Status CheckKind(const SafetensorsTensor& tensor, SafetensorsType type, size_t dims) {
  if (tensor.type != type) return TensorError(tensor, "is not of dtype " + std::string(TraitsOf(type).name));
  if (tensor.shape.size() != dims) return TensorError(tensor, "has not " + std::to_string(dims) + " dimensions");
  if (tensor.data.empty()) return TensorError(tensor, "is empty");
  return absl::OkStatus();
}

template <typename T>
void CopyTo(const SafetensorsTensor& tensor, absl::Span<T> out, absl::FunctionRef<void()> pause) {
  constexpr size_t kPiece = 256 << 10;
  for (size_t at = 0; at < tensor.data.size(); at += kPiece) {
    std::memcpy(reinterpret_cast<std::byte*>(out.data()) + at, tensor.data.data() + at,
                std::min(kPiece, tensor.data.size() - at));
    pause();
  }
}

absl::StatusOr<const SafetensorsTensor*> ScaleOf(const SafetensorsFile& file, const SafetensorsTensor& of,
                                                 std::string_view name, size_t dims) {
  const SafetensorsTensor* const scale = file.Find(std::string(name) + std::string(kScale));
  if (scale == nullptr) return TensorError(of, "has no scale");
  NIBBLE_RETURN_IF_ERROR(CheckKind(*scale, SafetensorsType::kF32, dims));
  return scale;
}

absl::Status CheckScales(const SafetensorsTensor& tensor, absl::Span<const float> scales) {
  for (const float scale : scales) {
    if (!(std::fabs(scale) <= kMaxDeltaScale)) return TensorError(tensor, "holds a number that is no scale");
  }
  return absl::OkStatus();
}

absl::StatusOr<SignDelta> ReadSigns(const SafetensorsFile& file, const SafetensorsTensor& tensor, std::string_view name,
                                    absl::FunctionRef<void()> pause) {
  NIBBLE_RETURN_IF_ERROR(CheckKind(tensor, SafetensorsType::kU32, 3));
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsTensor* scale, ScaleOf(file, tensor, name, 2));
  const int64_t planes = tensor.shape[0], rows = tensor.shape[1];
  if (planes > kMaxSignPlanes) return TensorError(tensor, "has more than 2 planes");
  const int64_t scale_rows = scale->shape[1];
  if (scale->shape[0] != planes || (scale_rows != 1 && scale_rows != rows)) {
    return TensorError(*scale, "is not one scale a plane, or one a plane and row");
  }
  SignDelta delta(planes, rows, tensor.shape[2], scale_rows == rows);
  CopyTo(tensor, delta.mutable_signs(), pause);
  CopyTo(*scale, delta.mutable_scales(), pause);
  NIBBLE_RETURN_IF_ERROR(CheckScales(*scale, delta.scales()));
  return delta;
}

absl::StatusOr<CodeDelta> ReadCodes(const SafetensorsFile& file, const SafetensorsTensor& tensor, std::string_view name,
                                    absl::FunctionRef<void()> pause) {
  NIBBLE_RETURN_IF_ERROR(CheckKind(tensor, SafetensorsType::kI8, 2));
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsTensor* scale, ScaleOf(file, tensor, name, 1));
  if (scale->shape[0] != tensor.shape[0]) return TensorError(*scale, "is not one scale a row");
  CodeDelta delta(tensor.shape[0], tensor.shape[1]);
  CopyTo(tensor, delta.mutable_codes(), pause);
  CopyTo(*scale, delta.mutable_scales(), pause);
  NIBBLE_RETURN_IF_ERROR(CheckScales(*scale, delta.scales()));
  return delta;
}

absl::Status ReadTensor(const SafetensorsFile& container, const SafetensorsTensor& tensor,
                        absl::FunctionRef<void()> pause, DeltaFile* file) {
  const std::string_view full = tensor.name;
  if (full.ends_with(kSigns)) {
    const std::string name(full.substr(0, full.size() - kSigns.size()));
    if (!IsProjection(name)) return TensorError(tensor, "is of no projection");
    NIBBLE_ASSIGN_OR_RETURN(SignDelta delta, ReadSigns(container, tensor, name, pause));
    file->signs.emplace(name, std::move(delta));
  } else if (full.ends_with(kCodes)) {
    const std::string name(full.substr(0, full.size() - kCodes.size()));
    if (IsProjection(name)) return TensorError(tensor, "is of a projection, which has signs");
    NIBBLE_ASSIGN_OR_RETURN(CodeDelta delta, ReadCodes(container, tensor, name, pause));
    file->codes.emplace(name, std::move(delta));
  } else if (!full.ends_with(kScale)) {
    return TensorError(tensor, "is none of a delta file's");
  }
  return absl::OkStatus();
}

template <typename T>
SafetensorsTensor TensorOf(const std::string& name, SafetensorsType type, std::vector<int64_t> shape,
                           absl::Span<const T> values) {
  return {name, type, std::move(shape), {reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(T)}};
}

absl::StatusOr<const Tensor*> BaseTensor(const WeightSource& base, const std::string& name, int64_t rows) {
  const Tensor* const tensor = base.Find(name);
  if (tensor == nullptr) return absl::FailedPreconditionError("tensor " + Quoted(name) + " is not in the base");
  if (tensor->rows() == rows) return tensor;
  return absl::FailedPreconditionError("tensor " + Quoted(name) + " has " + std::to_string(rows) +
                                       " rows, the base's " + std::to_string(tensor->rows()));
}

absl::Status CheckSigns(const WeightSource& base, const std::string& name, const SignDelta& delta) {
  NIBBLE_ASSIGN_OR_RETURN(const Tensor* tensor, BaseTensor(base, name, delta.rows()));
  const std::string subject = "tensor " + Quoted(name + std::string(kSigns));
  const int64_t words = (tensor->cols() + 31) / 32, used = tensor->cols() % 32;
  if (delta.row_words() != words) {
    return absl::FailedPreconditionError(subject + " has " + std::to_string(delta.row_words()) + " words a row, not " +
                                         std::to_string(words));
  }
  for (size_t last = static_cast<size_t>(words) - 1; used != 0 && last < delta.signs().size();
       last += static_cast<size_t>(words)) {
    if (delta.signs()[last] >> used != 0)
      return absl::FailedPreconditionError(subject + " has bits past the last column");
  }
  return absl::OkStatus();
}

absl::Status CheckCodes(const WeightSource& base, const std::string& name, const CodeDelta& delta) {
  NIBBLE_ASSIGN_OR_RETURN(const Tensor* tensor, BaseTensor(base, name, delta.rows()));
  if (tensor->cols() == delta.cols()) return absl::OkStatus();
  return absl::FailedPreconditionError("tensor " + Quoted(name + std::string(kCodes)) + " has " +
                                       std::to_string(delta.cols()) + " columns, the base's " +
                                       std::to_string(tensor->cols()));
}

std::string Shortened(std::string_view hash) { return std::string(hash.substr(0, 12)) + "…"; }

}  // namespace

std::string SerializeDelta(const DeltaFile& file) {
  const DeltaProvenance& from = file.provenance;
  SafetensorsMetadata metadata = {{"format", kDeltaFormat},
                                  {"format_version", kVersion},
                                  {"base_sha256", from.base_sha256},
                                  {"tuned_sha256", from.tuned_sha256},
                                  {"method", from.method}};
  if (!from.license.empty()) metadata["license"] = from.license;
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, delta] : file.signs) {
    tensors.push_back(TensorOf(name + std::string(kSigns), SafetensorsType::kU32,
                               {delta.planes(), delta.rows(), delta.row_words()}, delta.signs()));
    tensors.push_back(TensorOf(name + std::string(kScale), SafetensorsType::kF32, {delta.planes(), delta.scale_rows()},
                               delta.scales()));
  }
  for (const auto& [name, delta] : file.codes) {
    tensors.push_back(
        TensorOf(name + std::string(kCodes), SafetensorsType::kI8, {delta.rows(), delta.cols()}, delta.codes()));
    tensors.push_back(TensorOf(name + std::string(kScale), SafetensorsType::kF32, {delta.rows()}, delta.scales()));
  }
  return SerializeSafetensors(metadata, std::move(tensors));
}

absl::StatusOr<DeltaFile> ParseDelta(absl::Span<const std::byte> bytes, absl::FunctionRef<void()> pause) {
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsFile container, SafetensorsFile::Parse(bytes));
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(container, "format", kDeltaFormat));
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(container, "format_version", kVersion));
  DeltaFile file;
  NIBBLE_ASSIGN_OR_RETURN(file.provenance, ProvenanceOf(container));
  for (const SafetensorsTensor& tensor : container.tensors()) {
    NIBBLE_RETURN_IF_ERROR(ReadTensor(container, tensor, pause, &file));
  }
  // Each delta has its scale, so any beyond their number is of none.
  if (container.tensors().size() == 2 * (file.signs.size() + file.codes.size())) return file;
  return FormatError("tensors", kSafetensorsHeaderOffset, "there is a scale without signs or codes");
}

absl::StatusOr<DeltaFile> ReadDelta(const std::string& path) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, ReadFile(path, kMaxDeltaBytes));
  absl::StatusOr<DeltaFile> file = ParseDelta(bytes, [] {});
  if (!file.ok()) return absl::FailedPreconditionError(path + ": " + std::string(file.status().message()));
  return file;
}

absl::Status CheckNotRotated(const WeightSource& base) {
  for (const Tensor& tensor : base.tensors()) {
    if (tensor.encoding != Encoding::kH8_0) continue;
    return absl::FailedPreconditionError("tensor " + Quoted(tensor.name) +
                                         " of the base is rotated (h8_0): it runs no adapters");
  }
  return absl::OkStatus();
}

absl::Status CheckDelta(const DeltaFile& delta, const WeightSource& base, std::string_view base_sha256) {
  NIBBLE_RETURN_IF_ERROR(CheckNotRotated(base));
  if (delta.provenance.base_sha256 != base_sha256) {
    return absl::FailedPreconditionError("metadata \"base_sha256\": was made for the base " +
                                         Shortened(delta.provenance.base_sha256) + ", this one is " +
                                         Shortened(base_sha256));
  }
  for (const auto& [name, signs] : delta.signs) NIBBLE_RETURN_IF_ERROR(CheckSigns(base, name, signs));
  for (const auto& [name, codes] : delta.codes) NIBBLE_RETURN_IF_ERROR(CheckCodes(base, name, codes));
  return absl::OkStatus();
}

std::unique_ptr<WeightSource> MergedWeights(const WeightSource& base, const DeltaFile& delta) {
  std::vector<Tensor> tensors(base.tensors().begin(), base.tensors().end());
  for (Tensor& tensor : tensors) {
    if (const auto signs = delta.signs.find(tensor.name); signs != delta.signs.end()) tensor.delta = &signs->second;
    if (const auto codes = delta.codes.find(tensor.name); codes != delta.codes.end()) tensor.delta = &codes->second;
  }
  return MakeWeightSource(std::move(tensors), nullptr);
}

}  // namespace nibble::engine
