// The engine on the CPU backend: loads a model and runs its batches on the calling thread and a worker pool. Launch
// only takes the plan; the step is computed inside Await.
#ifndef NIBBLE_ENGINE_CPU_ENGINE_H_
#define NIBBLE_ENGINE_CPU_ENGINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/adapters/delta_file.h"
#include "engine/backends/backend.h"
#include "engine/engine.h"
#include "engine/kv_memory.h"
#include "engine/models/model.h"
#include "engine/weights/model_file.h"
#include "kvcache/codecs/calibration.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

// Limit of step_tokens and of max_sequences: no size of working memory can overflow below it.
inline constexpr int64_t kMaxStepTokens = 1 << 20;

struct EngineOptions {
  WeightMode weights = WeightMode::kFile;
  ActivationMode activations = ActivationMode::kA8;
  std::string kv_codec = "f16";
  int threads = 1;
  std::shared_ptr<const kv::Calibration> calibration;  // of the codecs that need one; not kept
  int64_t kv_memory_bytes = int64_t{256} << 20;        // becomes whole pages and raw slots; at least one page
  // Not 0: so many pages, and raw slots (0: one for each page) where the codec needs any, whatever they take.
  int64_t kv_pages = 0, kv_raw_slots = 0;
  std::optional<int> kv_window, kv_sink;        // in place of the codec's own
  int64_t max_sequences = 64;                   // of one step
  int64_t step_tokens = 512;                    // of one step, all sequences together
  std::string isa;                              // "scalar", "avx2", "avx512"; empty: the best this machine has
  AttentionObserver* observer = nullptr;        // outlives the engine; told of every layer's attention
  ProductObserver* product_observer = nullptr;  // the same, of every product's inputs
};

// Parses the values of --weights and --activations. INVALID_ARGUMENT names the flag and what it may be.
absl::StatusOr<WeightMode> ParseWeightMode(const std::string& text);
absl::StatusOr<ActivationMode> ParseActivationMode(const std::string& text);

// An Engine that also tells what it is, for `nibble bench` and the daemon's build metrics.
class CpuEngine : public Engine {
 public:
  virtual simd::Isa isa() const = 0;
  virtual ModelCost cost() const = 0;
  virtual const KvCosts& kv_costs() const = 0;
  // Of activations and logits: mapped at once, resident as steps of their size come.
  virtual int64_t workspace_bytes() const = 0;
  // Per element of a sealed page, with all parameters.
  virtual double kv_bits() const = 0;
  // Whether a step runs. Any thread.
  virtual bool busy() const = 0;
  // Makes a fine-tune ready to run. Any thread, also while a step runs; calls `pause` between pieces of the work.
  // REQUIRES: CheckDelta was OK for the file that the engine was made from. FAILED_PRECONDITION where activations are
  // floats or weights are rotated; RESOURCE_EXHAUSTED if memory ends.
  virtual absl::StatusOr<std::unique_ptr<const Adapter>> LoadAdapter(const DeltaFile& delta,
                                                                     absl::FunctionRef<void()> pause) const = 0;
};

// `file` must outlive the engine (the embedding is read from it). INVALID_ARGUMENT for options that contradict each
// other or a model that the backend cannot run, naming the field; RESOURCE_EXHAUSTED if memory or
// threads end; FAILED_PRECONDITION for weights that their format cannot hold.
absl::StatusOr<std::unique_ptr<CpuEngine>> CreateEngine(const EngineOptions& options, const ModelFile& file);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_CPU_ENGINE_H_
