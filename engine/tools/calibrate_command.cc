#include <cstdio>
#include <optional>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/tools/calibrate.h"
#include "engine/tools/files.h"
#include "engine/tools/terminal.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/sha256.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int32_t kDefaultChunks = 32;
constexpr char kMethod[] = "attention-sensitivity, klt in the metric, reverse water-filling, weighted k-means++";

absl::StatusOr<std::vector<const CodecDesign*>> DesignsFromFlags() {
  std::vector<const CodecDesign*> designs;
  for (const std::string& name : absl::GetFlag(FLAGS_kv)) {
    designs.push_back(FindCodecDesign(name));
    if (designs.back() == nullptr) {
      const auto names = absl::StrJoin(CodecDesigns(), ", ",
                                       [](std::string* out, const CodecDesign& design) { out->append(design.name); });
      return absl::InvalidArgumentError(absl::StrCat("--kv: '", name, "' is none of ", names));
    }
  }
  if (!designs.empty()) return designs;
  for (const CodecDesign& design : CodecDesigns()) designs.push_back(&design);
  return designs;
}

absl::StatusOr<CalibrateOptions> CalibrateOptionsFromFlags() {
  CalibrateOptions options;
  options.chunks.context = absl::GetFlag(FLAGS_context);
  options.chunks.most = absl::GetFlag(FLAGS_chunks).value_or(kDefaultChunks);
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("chunks", options.chunks.most, 1));
  NIBBLE_ASSIGN_OR_RETURN(options.designs, DesignsFromFlags());
  options.seed = absl::GetFlag(FLAGS_seed).value_or(0);
  return options;
}

void PrintReports(absl::Span<const DesignedCodec> codecs) {
  std::printf("%-6s %6s %9s   %s\n", "kv", "bits", "loss", "bits of keys and values, by layer");
  for (const DesignedCodec& codec : codecs) {
    const DesignReport& report = codec.report;
    std::printf("%-6s %6.3f %8.2f%%  ", codec.calibration.codec.c_str(), report.bits, 100.0 * report.distortion);
    for (size_t l = 0; l < report.keys.size(); ++l) {
      std::printf(" %.1f/%.1f", report.keys[l].bits, report.values[l].bits);
    }
    std::printf("\n");
  }
}

CalibrationFile FileOf(std::vector<DesignedCodec> codecs, const OpenedModel& model, const std::string& text,
                       uint64_t seed, int64_t tokens) {
  CalibrationFile file;
  file.provenance = {ModelSha256(*model.file.weights), Sha256Hex(text), kMethod, seed, static_cast<uint64_t>(tokens)};
  for (DesignedCodec& codec : codecs) file.codecs.push_back(std::move(codec.calibration));
  return file;
}

}  // namespace

absl::Status RunCalibrate(const std::vector<std::string>& /*positionals*/) {
  NIBBLE_RETURN_IF_ERROR(RequireText("model", absl::GetFlag(FLAGS_model)));
  NIBBLE_RETURN_IF_ERROR(RequireText("text", absl::GetFlag(FLAGS_text)));
  const std::string out = absl::GetFlag(FLAGS_out);
  NIBBLE_RETURN_IF_ERROR(RequireText("out", out));
  NIBBLE_ASSIGN_OR_RETURN(const CalibrateOptions options, CalibrateOptionsFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(absl::GetFlag(FLAGS_text)));
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(absl::GetFlag(FLAGS_model)));
  NIBBLE_RETURN_IF_ERROR(CheckReplaceable(out));
  std::string stage;
  std::optional<ProgressLine> line;
  const auto show = [&](const std::string& now, int64_t done, int64_t all) {
    if (now != stage) line.emplace(absl::StrCat("calibrate: ", stage = now));
    line->Show(done, all);
  };
  NIBBLE_ASSIGN_OR_RETURN(Calibrated calibrated, Calibrate(model, model.tokenizer->Encode(text, {}), options, show));
  line.reset();
  PrintReports(calibrated.codecs);
  return ReplaceFile(
      out, SerializeCalibration(FileOf(std::move(calibrated.codecs), model, text, options.seed, calibrated.tokens)));
}

}  // namespace nibble::engine
