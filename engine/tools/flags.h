// Flags of the `nibble` command. One definition serves all subcommands that take a flag of that name; what a
// subcommand accepts is in its row of the command table.
#ifndef NIBBLE_ENGINE_TOOLS_FLAGS_H_
#define NIBBLE_ENGINE_TOOLS_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/flags/declare.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/cpu_engine.h"

ABSL_DECLARE_FLAG(std::string, model);
ABSL_DECLARE_FLAG(std::string, prompt);
ABSL_DECLARE_FLAG(std::string, prompt_file);
ABSL_DECLARE_FLAG(bool, chat);
ABSL_DECLARE_FLAG(int32_t, max_tokens);
ABSL_DECLARE_FLAG(absl::optional<float>, temperature);
ABSL_DECLARE_FLAG(absl::optional<uint64_t>, seed);
ABSL_DECLARE_FLAG(std::vector<std::string>, weights);
ABSL_DECLARE_FLAG(std::vector<std::string>, activations);
ABSL_DECLARE_FLAG(std::vector<std::string>, kv);
ABSL_DECLARE_FLAG(std::string, kv_calibration);
ABSL_DECLARE_FLAG(int32_t, threads);
ABSL_DECLARE_FLAG(std::string, json);
ABSL_DECLARE_FLAG(std::string, text);
ABSL_DECLARE_FLAG(std::string, file);
ABSL_DECLARE_FLAG(std::string, out);
ABSL_DECLARE_FLAG(std::string, calibration_text);
ABSL_DECLARE_FLAG(int32_t, context);
ABSL_DECLARE_FLAG(absl::optional<int32_t>, chunks);
ABSL_DECLARE_FLAG(std::string, score);
ABSL_DECLARE_FLAG(int32_t, prefill);
ABSL_DECLARE_FLAG(int32_t, decode);
ABSL_DECLARE_FLAG(std::vector<std::string>, batch);
ABSL_DECLARE_FLAG(std::vector<std::string>, depth);
ABSL_DECLARE_FLAG(std::vector<std::string>, retrieval);
ABSL_DECLARE_FLAG(int32_t, repeat);
ABSL_DECLARE_FLAG(std::string, base);
ABSL_DECLARE_FLAG(std::string, tuned);
ABSL_DECLARE_FLAG(std::string, adapter);
ABSL_DECLARE_FLAG(std::vector<std::string>, adapters);
ABSL_DECLARE_FLAG(int32_t, planes);
ABSL_DECLARE_FLAG(std::string, scales);

namespace nibble::engine {

// How a model is run: one point of weights x activations x KV codec, by the names of the flags.
struct RunMode {
  std::string weights = "file";
  std::string activations = "a8";
  std::string kv = "f16";

  friend bool operator==(const RunMode&, const RunMode&) = default;
};

// What every fidelity figure is against.
inline RunMode ReferenceMode() { return {"f32", "f32", "f16"}; }

// --weights x --activations x --kv. Without --activations each weight mode takes its own (f32 for f32, else a8).
// Several activations: pairs that cannot be are left out. INVALID_ARGUMENT for an unknown name, or weights that no
// given activations can go with, or a calibrated codec without --kv-calibration.
absl::StatusOr<std::vector<RunMode>> RunModesFromFlags();

// --kv, or f16.
std::vector<std::string> CodecsFromFlags();

// The options of one mode, with --threads and NIBBLE_ISA; memory and step sizes stay at their defaults.
absl::StatusOr<EngineOptions> OptionsFor(const RunMode& mode);

// --threads, or as many as the machine runs at once. REQUIRES: OptionsFor was OK.
int ThreadsFromFlags();

// INVALID_ARGUMENT if the flag is empty or below `least`, naming it.
absl::Status RequireText(const char* flag, const std::string& value);
absl::Status RequireAtLeast(const char* flag, int64_t value, int64_t least);
// A list of whole numbers, each at least `least`; not empty.
absl::StatusOr<std::vector<int64_t>> NumbersOf(const char* flag, const std::vector<std::string>& values, int64_t least);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_FLAGS_H_
