#include "engine/quant/calibration/calibration_file.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/quant/calibration/calibration_columns.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/regular_file.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/safetensors_fields.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr char kFormat[] = "nibblekv", kVersion[] = "1";

absl::StatusOr<uint64_t> NumberOf(const SafetensorsFile& file, const std::string& key) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string text, MetadataText(file, key, 1, 20));
  uint64_t number = 0;
  if (absl::SimpleAtoi(text, &number) && absl::StrCat(number) == text) return number;
  return MetadataError(key, Quoted(text) + " is not a whole number below 2^64");
}

absl::StatusOr<std::vector<std::string>> CodecNames(const SafetensorsFile& file) {
  constexpr char kKey[] = "codecs";
  NIBBLE_ASSIGN_OR_RETURN(const std::string text,
                          MetadataText(file, kKey, 1, kMaxCalibrationCodecs * (kMaxCodecNameBytes + 1)));
  std::vector<std::string> names = absl::StrSplit(text, ',');
  if (names.size() > kMaxCalibrationCodecs) {
    return MetadataError(kKey, absl::StrCat("lists more than ", kMaxCalibrationCodecs));
  }
  for (auto name = names.begin(); name != names.end(); ++name) {
    const bool plain = name->find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string::npos;
    if (!plain || name->empty() || name->size() > kMaxCodecNameBytes) {
      return MetadataError(kKey, Quoted(*name) + " is not a codec's name");
    }
    if (std::find(names.begin(), name, *name) != name) return MetadataError(kKey, Quoted(*name) + " is a duplicate");
  }
  return names;
}

absl::StatusOr<CalibrationProvenance> ProvenanceOf(const SafetensorsFile& file) {
  CalibrationProvenance provenance;
  NIBBLE_ASSIGN_OR_RETURN(provenance.model_sha256, Sha256Of(file, "model_sha256"));
  NIBBLE_ASSIGN_OR_RETURN(provenance.text_sha256, Sha256Of(file, "text_sha256"));
  NIBBLE_ASSIGN_OR_RETURN(provenance.method, MetadataText(file, "method", 1, kMaxCalibrationMethodBytes));
  NIBBLE_ASSIGN_OR_RETURN(provenance.seed, NumberOf(file, "seed"));
  NIBBLE_ASSIGN_OR_RETURN(provenance.tokens, NumberOf(file, "tokens"));
  return provenance;
}

std::vector<std::string> NamesOf(const CalibrationFile& file) {
  std::vector<std::string> names;
  for (const kv::Calibration& codec : file.codecs) names.push_back(codec.codec);
  return names;
}

std::string Shortened(std::string_view hash) { return absl::StrCat(std::string(hash.substr(0, 12)), "…"); }

}  // namespace

std::string SerializeCalibration(const CalibrationFile& file) {
  const CalibrationProvenance& from = file.provenance;
  const SafetensorsMetadata metadata = {{"format", kFormat},
                                        {"format_version", kVersion},
                                        {"codecs", absl::StrJoin(NamesOf(file), ",")},
                                        {"model_sha256", from.model_sha256},
                                        {"text_sha256", from.text_sha256},
                                        {"method", from.method},
                                        {"seed", absl::StrCat(from.seed)},
                                        {"tokens", absl::StrCat(from.tokens)}};
  std::deque<CalibrationColumns> columns;  // stay where they are: the tensors point into them
  std::vector<SafetensorsTensor> tensors;
  for (const kv::Calibration& codec : file.codecs) {
    columns.push_back(ColumnsOf(codec));
    AddTensors(codec.codec, columns.back(), &tensors);
  }
  return SerializeSafetensors(metadata, std::move(tensors));
}

absl::StatusOr<CalibrationFile> ParseCalibration(absl::Span<const std::byte> bytes) {
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsFile container, SafetensorsFile::Parse(bytes));
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(container, "format", kFormat));
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(container, "format_version", kVersion));
  CalibrationFile file;
  NIBBLE_ASSIGN_OR_RETURN(file.provenance, ProvenanceOf(container));
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::string> names, CodecNames(container));
  for (const std::string& name : names) {
    NIBBLE_ASSIGN_OR_RETURN(const CalibrationColumns columns, ReadColumns(container, name));
    file.codecs.push_back(CalibrationOf(name, columns));
  }
  // All that the codecs need were found, so any beyond their number is none of theirs.
  if (container.tensors().size() == names.size() * kCalibrationTensors) return file;
  return FormatError(
      "tensors", kSafetensorsHeaderOffset,
      absl::StrCat("there are ", container.tensors().size(), ", the codecs have ", names.size() * kCalibrationTensors));
}

absl::StatusOr<CalibrationFile> ReadCalibration(const std::string& path) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, ReadFile(path, kMaxCalibrationBytes));
  absl::StatusOr<CalibrationFile> file = ParseCalibration(bytes);
  if (!file.ok()) return absl::FailedPreconditionError(absl::StrCat(path, ": ", file.status().message()));
  return file;
}

absl::StatusOr<CalibrationFile> ReadCalibrationFor(const std::string& path, std::string_view model_sha256) {
  NIBBLE_ASSIGN_OR_RETURN(CalibrationFile file, ReadCalibration(path));
  if (file.provenance.model_sha256 == model_sha256) return file;
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": was made from the model ", Shortened(file.provenance.model_sha256), ", this one is ",
                   Shortened(model_sha256), "; make one for this model with `nibble calibrate`"));
}

absl::StatusOr<std::shared_ptr<const kv::Calibration>> CodecOf(const CalibrationFile& file, std::string_view codec,
                                                               const std::string& path) {
  for (const kv::Calibration& calibration : file.codecs) {
    if (calibration.codec == codec) return std::make_shared<const kv::Calibration>(calibration);
  }
  return absl::FailedPreconditionError(absl::StrCat(path, ": has no calibration for ", std::string(codec),
                                                    ", only for ", absl::StrJoin(NamesOf(file), ", "),
                                                    "; make one with `nibble calibrate`"));
}

absl::StatusOr<std::shared_ptr<const kv::Calibration>> LoadCalibration(const std::string& path, std::string_view codec,
                                                                       std::string_view model_sha256) {
  NIBBLE_ASSIGN_OR_RETURN(const CalibrationFile file, ReadCalibrationFor(path, model_sha256));
  return CodecOf(file, codec, path);
}

}  // namespace nibble::engine
