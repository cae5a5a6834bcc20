#include <filesystem>
#include <iostream>
#include <optional>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/adapters/compress.h"
#include "engine/tools/delta.h"
#include "engine/tools/files.h"
#include "engine/tools/flags.h"
#include "engine/tools/scale_fitter.h"
#include "engine/tools/terminal.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/regular_file.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int32_t kDefaultChunks = 8;             // to score
constexpr int32_t kDefaultCalibrationChunks = 2;  // all of which are in memory at once

// The operator's text, of the fine-tune's kind: control tokens of a chat are read.
constexpr EncodeOptions kOwnText = {.add_special = true, .parse_special = true};

absl::StatusOr<CompressOptions> CompressOptionsFromFlags() {
  CompressOptions options;
  options.planes = absl::GetFlag(FLAGS_planes);
  if (options.planes < 1 || options.planes > kMaxSignPlanes) {
    return absl::InvalidArgumentError(absl::StrCat("--planes=", options.planes, ": is not 1 to ", kMaxSignPlanes));
  }
  const std::string scales = absl::GetFlag(FLAGS_scales);
  if (scales != "matrix" && scales != "row") {
    return absl::InvalidArgumentError(absl::StrCat("--scales=", scales, ": is neither matrix nor row"));
  }
  options.scale_per_row = scales == "row";
  return options;
}

// A checkpoint's folder may have the text of its license.
absl::StatusOr<std::string> LicenseOf(const std::string& model) {
  const std::filesystem::path path = std::filesystem::path(model) / "LICENSE";
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::string();
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<std::byte> bytes, ReadFile(path.string(), kMaxDeltaLicenseBytes));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

absl::StatusOr<OpenedModel> OpenTuned(const OpenedModel& base) {
  NIBBLE_ASSIGN_OR_RETURN(OpenedModel tuned, OpenNamed("tuned", absl::GetFlag(FLAGS_tuned)));
  const std::string &is = tuned.file.config.architecture, &wanted = base.file.config.architecture;
  if (is == wanted) return tuned;
  return absl::FailedPreconditionError(absl::StrCat("--tuned: is of architecture ", is, ", the base of ", wanted));
}

absl::StatusOr<ChunkOptions> ChunksFromFlags(int32_t by_default) {
  ChunkOptions chunks;
  chunks.context = absl::GetFlag(FLAGS_context);
  chunks.most = absl::GetFlag(FLAGS_chunks).value_or(by_default);
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("context", chunks.context, 2));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("chunks", chunks.most, 1));
  return chunks;
}

// Scales from --calibration-text, where there is one.
absl::Status FitFromFlags(const OpenedModel& base, const OpenedModel& tuned, DeltaFile* delta) {
  const std::string path = absl::GetFlag(FLAGS_calibration_text);
  if (path.empty()) return absl::OkStatus();
  NIBBLE_ASSIGN_OR_RETURN(const ChunkOptions chunks, ChunksFromFlags(kDefaultCalibrationChunks));
  NIBBLE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path));
  ProgressLine line("delta: scales");
  return FitScales(
      base, *tuned.file.weights, tuned.tokenizer->Encode(text, kOwnText), chunks,
      [&line](int64_t done, int64_t all) { line.Show(done, all); }, delta);
}

void PrintSummary(const DeltaFile& delta, const OpenedModel& base, const OpenedModel* tuned) {
  const WeightSource* const weights = tuned == nullptr ? nullptr : tuned->file.weights.get();
  PrintParts(PartsOf(delta, *base.file.weights, weights), std::cout);
}

absl::Status Compress() {
  const std::string out = absl::GetFlag(FLAGS_out);
  NIBBLE_RETURN_IF_ERROR(RequireText("out", out));
  NIBBLE_ASSIGN_OR_RETURN(const CompressOptions options, CompressOptionsFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel base, OpenNamed("base", absl::GetFlag(FLAGS_base)));
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel tuned, OpenTuned(base));
  NIBBLE_ASSIGN_OR_RETURN(std::string license, LicenseOf(absl::GetFlag(FLAGS_tuned)));
  NIBBLE_RETURN_IF_ERROR(CheckReplaceable(out));
  std::optional<ProgressLine> line("delta: tensors");
  NIBBLE_ASSIGN_OR_RETURN(DeltaFile delta,
                          CompressDelta(*base.file.weights, *tuned.file.weights, options,
                                        [&line](int64_t done, int64_t all) { line->Show(done, all); }));
  line.reset();
  NIBBLE_RETURN_IF_ERROR(FitFromFlags(base, tuned, &delta));
  const bool fitted = !absl::GetFlag(FLAGS_calibration_text).empty();
  delta.provenance.method =
      absl::StrCat(options.planes, options.planes > 1 ? " sign planes, " : " sign plane, ",
                   fitted ? "fitted to inputs by " : "mean magnitude by ", absl::GetFlag(FLAGS_scales));
  delta.provenance.license = std::move(license);
  PrintSummary(delta, base, &tuned);
  return ReplaceFile(out, SerializeDelta(delta));
}

absl::Status PrintFidelity(const OpenedModel& base, const OpenedModel& tuned, const DeltaFile& delta) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(absl::GetFlag(FLAGS_text)));
  NIBBLE_ASSIGN_OR_RETURN(const ChunkOptions chunks, ChunksFromFlags(kDefaultChunks));
  std::optional<ProgressLine> line("delta: tokens");
  NIBBLE_ASSIGN_OR_RETURN(const DeltaFidelity fidelity,
                          CompareDelta(base, tuned, delta, tuned.tokenizer->Encode(text, kOwnText), chunks,
                                       [&line](int64_t done, int64_t all) { line->Show(done, all); }));
  line.reset();
  std::cout << absl::StrFormat("%d tokens: KL to the fine-tune %.6f, same top token %.4f, perplexity %.4f (its %.4f)\n",
                               fidelity.tokens, fidelity.kl_divergence, fidelity.top1, fidelity.perplexity,
                               fidelity.tuned_perplexity);
  return absl::OkStatus();
}

absl::Status Verify() {
  const std::string path = absl::GetFlag(FLAGS_adapter), text = absl::GetFlag(FLAGS_text);
  NIBBLE_RETURN_IF_ERROR(RequireText("adapter", path));
  if (!text.empty()) NIBBLE_RETURN_IF_ERROR(RequireText("tuned", absl::GetFlag(FLAGS_tuned)));
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel base, OpenNamed("base", absl::GetFlag(FLAGS_base)));
  NIBBLE_ASSIGN_OR_RETURN(const DeltaFile delta, ReadDelta(path));
  NIBBLE_RETURN_IF_ERROR(CheckDelta(delta, *base.file.weights, ModelSha256(*base.file.weights)));
  if (absl::GetFlag(FLAGS_tuned).empty()) {
    PrintSummary(delta, base, nullptr);
    return absl::OkStatus();
  }
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel tuned, OpenTuned(base));
  if (ModelSha256(*tuned.file.weights) != delta.provenance.tuned_sha256) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": was made of another fine-tune than --tuned"));
  }
  PrintSummary(delta, base, &tuned);
  return text.empty() ? absl::OkStatus() : PrintFidelity(base, tuned, delta);
}

}  // namespace

absl::Status RunDelta(const std::vector<std::string>& positionals) {
  if (positionals[0] == "compress") return Compress();
  if (positionals[0] == "verify") return Verify();
  return absl::InvalidArgumentError(absl::StrCat("'", positionals[0], "' is neither compress nor verify"));
}

}  // namespace nibble::engine
