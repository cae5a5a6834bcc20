// What a model's caches will hold, learned from a text, becomes calibrations of the coupled KV codecs.
#ifndef NIBBLE_ENGINE_TOOLS_CALIBRATE_H_
#define NIBBLE_ENGINE_TOOLS_CALIBRATE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/quant/calibration/codec_design.h"
#include "engine/tools/chunks.h"
#include "engine/tools/flags.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

struct CalibrateOptions {
  ChunkOptions chunks;  // spread evenly over the text
  RunMode mode;         // of the forward passes; its kv is not looked at
  std::vector<const CodecDesign*> designs;
  int64_t sample_bytes = int64_t{512} << 20;  // of vectors kept for codebooks
  uint64_t seed = 0;
};

struct Calibrated {
  std::vector<DesignedCodec> codecs;  // one per design, in order
  int64_t tokens = 0;                 // that were run
};

// Told what is being done, and how much of it is.
using StageProgress = std::function<void(const std::string& stage, int64_t done, int64_t all)>;

// A function of the model, the ids and the options (the threads and the instruction set change no bit).
// INVALID_ARGUMENT for a text or a context that is too short or more than the model's, naming the flag;
// FAILED_PRECONDITION for a model whose keys, values or queries are not finite.
absl::StatusOr<Calibrated> Calibrate(const OpenedModel& model, absl::Span<const int32_t> ids,
                                     const CalibrateOptions& options, const StageProgress& progress);

// The command's own run.
absl::Status RunCalibrate(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_CALIBRATE_H_
