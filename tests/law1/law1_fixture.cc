#include "tests/law1/law1_fixture.h"

#include <algorithm>
#include <random>

#include "engine/models/kv_codec_model.h"
#include "kvcache/base/check.h"
#include "tests/law1/random_calibration.h"

namespace nibble {
namespace {

class Collector : public sched::TokenSink {
 public:
  explicit Collector(std::vector<int32_t>& tokens) : tokens_(tokens) {}
  Verdict OnToken(int, int32_t token, const engine::Logprobs&) override {
    tokens_.push_back(token);
    return Verdict::kContinue;
  }
  void OnPromptLogprobs(int64_t, absl::Span<const engine::Logprobs>) override {}
  void OnFinish(int, const sched::Finish&) override {}

 private:
  std::vector<int32_t>& tokens_;
};

sched::Request MakeRequest(size_t index, const std::vector<int32_t>& prompt, int max_tokens) {
  sched::Request request;
  request.id = std::to_string(index);
  request.prompt = prompt;
  request.sampling.temperature = index % 2 == 0 ? 0.0f : 0.9f;
  request.sampling.seed = index;
  request.stopping.max_tokens = max_tokens;
  return request;
}

void RunToEnd(sched::Scheduler& scheduler, engine::Engine& engine) {
  for (sched::Nanos now = 1; !scheduler.idle(); ++now) {
    const engine::StepPlan& plan = scheduler.Plan(now);
    NIBBLE_CHECK(!plan.sequences.empty());
    engine.Launch(plan);
    scheduler.Commit(engine.Await(), now);
  }
}

sched::SchedulerOptions OptionsFor(const Company& company) {
  sched::SchedulerOptions options;
  options.step_tokens = company.step_tokens;
  options.max_sequences = company.max_sequences;
  options.watermark_pages = 0;
  return options;
}

}  // namespace

std::vector<std::vector<int32_t>> MakePrompts(int count, int64_t shortest, int64_t longest, int64_t vocab_size) {
  std::mt19937_64 random(count);
  const auto draw = [&](int64_t below) { return static_cast<int32_t>(random() % below); };
  std::vector<int32_t> shared(longest);
  for (int32_t& id : shared) id = draw(vocab_size);
  std::vector<std::vector<int32_t>> prompts;
  for (int i = 0; i < count; ++i) {
    const int64_t length = shortest + draw(longest - shortest + 1);
    std::vector<int32_t> prompt(length);
    for (int32_t& id : prompt) id = draw(vocab_size);
    if (i % 3 == 0) std::copy_n(shared.begin(), length * 3 / 4, prompt.begin());
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

RunResult Answer(const engine::ModelFile& file, const Modes& modes, const Company& company,
                 const std::vector<std::vector<int32_t>>& prompts, int max_tokens, LogitsLedger& ledger) {
  engine::EngineOptions options;
  options.weights = modes.weights;
  options.activations = modes.activations;
  options.threads = company.threads;
  options.isa = std::string(simd::Name(company.isa));
  options.step_tokens = company.step_tokens;
  options.max_sequences = company.max_sequences;
  options.kv_codec = modes.kv;
  options.calibration = RandomCalibration(modes.kv, engine::CodecModelOf(file.config));
  options.kv_pages = company.pages;
  options.kv_raw_slots = company.raw_slots;
  auto engine = engine::CreateEngine(options, file);
  NIBBLE_CHECK(engine.ok());
  LedgerEngine recorded(**engine, ledger);

  RunResult result;
  result.tokens.resize(prompts.size());
  std::unique_ptr<sched::Scheduler> scheduler;
  std::vector<std::unique_ptr<Collector>> sinks;
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (scheduler == nullptr || !company.together) {
      scheduler = std::make_unique<sched::Scheduler>(OptionsFor(company), sched::LimitsOf(recorded));
    }
    sinks.push_back(std::make_unique<Collector>(result.tokens[i]));
    NIBBLE_CHECK(scheduler->Submit(MakeRequest(i, prompts[i], max_tokens), sinks.back().get()).ok());
    if (!company.together) RunToEnd(*scheduler, recorded);
  }
  RunToEnd(*scheduler, recorded);
  result.counters = scheduler->counters();
  result.largest_batch = recorded.largest_batch();
  return result;
}

}  // namespace nibble
