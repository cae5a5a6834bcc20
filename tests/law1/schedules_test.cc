// Random schedules of a tiny model: requests come and go while others run, with whatever chunks, room and threads.
// Every row of logits must have the bits of a cold run of that request alone, the naive twin. A codec runs 100
// schedules, or as many as NIBBLE_SCHEDULES says.
#include <algorithm>
#include <cstdlib>
#include <random>
#include <string>

#include "engine/models/kv_codec_model.h"
#include "gtest/gtest.h"
#include "kvcache/base/check.h"
#include "tests/base/status_matchers.h"
#include "tests/law1/law1_fixture.h"
#include "tests/law1/random_calibration.h"

namespace nibble {
namespace {

constexpr int kMaxTokens = 12;
constexpr int kPrompts = 12;
constexpr int kEngines = 6;

int NumSchedules() {
  const char* text = std::getenv("NIBBLE_SCHEDULES");
  return text == nullptr ? 100 : std::atoi(text);
}

class Silent : public sched::TokenSink {
 public:
  Verdict OnToken(int, int32_t, const engine::Logprobs&) override { return Verdict::kContinue; }
  void OnPromptLogprobs(int64_t, absl::Span<const engine::Logprobs>) override {}
  void OnFinish(int, const sched::Finish&) override { done = true; }
  bool done = false;
};

class Schedules : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto file = engine::OpenModelFile(std::string(NIBBLE_TESTS_DIR) + "/golden/logits/tiny-qwen3-f16.gguf");
    ASSERT_THAT(file, IsOk());
    file_ = *std::move(file);
    prompts_ = MakePrompts(kPrompts, 30, 220, file_.config.vocab_size);
    Modes modes;
    modes.kv = GetParam();
    Company alone;
    alone.isa = simd::SupportedIsas().back();
    Answer(file_, modes, alone, prompts_, kMaxTokens, ledger_);
    for (int i = 0; i < kEngines; ++i) engines_.push_back(MakeEngine(i));
  }

  int64_t Draw(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }

  std::unique_ptr<engine::CpuEngine> MakeEngine(int i) {
    const std::vector<simd::Isa> isas = simd::SupportedIsas();
    engine::EngineOptions options;
    options.isa = std::string(simd::Name(isas[i % isas.size()]));
    options.threads = 1 + i % 2;
    options.kv_codec = GetParam();
    options.calibration = RandomCalibration(GetParam(), engine::CodecModelOf(file_.config));
    options.kv_pages = 9 + Draw(40);
    options.kv_raw_slots = 5 + Draw(20);
    auto engine = engine::CreateEngine(options, file_);
    NIBBLE_CHECK(engine.ok());
    return *std::move(engine);
  }

  sched::Request DrawRequest(int64_t id) {
    const int64_t index = Draw(kPrompts);
    sched::Request request;
    request.id = std::to_string(id);
    request.prompt = prompts_[index];
    request.sampling.temperature = index % 2 == 0 ? 0.0f : 0.9f;  // as Answer does
    request.sampling.seed = static_cast<uint64_t>(index);
    request.stopping.max_tokens = static_cast<int32_t>(1 + Draw(kMaxTokens));
    request.priority = static_cast<int32_t>(Draw(2));
    return request;
  }

  // One schedule on an engine whose memory still holds what earlier ones left.
  void Run(engine::Engine& engine) {
    LedgerEngine recorded(engine, ledger_);
    sched::SchedulerOptions options;
    options.step_tokens = 1 + Draw(Draw(2) == 0 ? 40 : 300);
    options.max_sequences = 1 + Draw(8);
    options.watermark_pages = Draw(3);
    sched::Scheduler scheduler(options, sched::LimitsOf(recorded));
    std::vector<std::unique_ptr<Silent>> sinks;
    for (sched::Nanos now = 1; sinks.size() < 6 || !scheduler.idle(); ++now) {
      if (sinks.size() < 6 && Draw(3) == 0) {
        sinks.push_back(std::make_unique<Silent>());
        NIBBLE_CHECK(scheduler.Submit(DrawRequest(now), sinks.back().get()).ok());
      }
      if (!sinks.empty() && Draw(20) == 0) {
        Silent* const sink = sinks[Draw(static_cast<int64_t>(sinks.size()))].get();
        if (!sink->done) scheduler.Cancel(sink, sched::CancelCause::kClient);
      }
      const engine::StepPlan& plan = scheduler.Plan(now);
      if (plan.sequences.empty()) continue;
      recorded.Launch(plan);
      scheduler.Commit(recorded.Await(), now);
      scheduler.CheckInvariants();
    }
    preemptions_ += scheduler.counters().preemptions;
    hits_ += scheduler.counters().prefix_hits_tokens;
  }

  std::mt19937_64 random_{7};
  engine::ModelFile file_;
  std::vector<std::vector<int32_t>> prompts_;
  LogitsLedger ledger_;
  std::vector<std::unique_ptr<engine::CpuEngine>> engines_;
  int64_t preemptions_ = 0, hits_ = 0;
};

TEST_P(Schedules, HaveTheBitsOfColdSoloRuns) {
  const int64_t alone = ledger_.entries();
  for (int i = 0; i < NumSchedules(); ++i) {
    Run(*engines_[i % kEngines]);
    ASSERT_EQ(ledger_.contradictions(), 0) << "schedule " << i;
  }
  EXPECT_EQ(ledger_.entries(), alone) << "a row was computed that no request alone has";
  EXPECT_GT(ledger_.confirmations(), 10 * NumSchedules());
  EXPECT_GT(preemptions_, 0);
  EXPECT_GT(hits_, 0);
}

INSTANTIATE_TEST_SUITE_P(Codecs, Schedules,
                         testing::Values("f16", "int8", "int4", "kivi4", "kivi2", "cq2", "cq1", "klt3", "klt2", "klt1"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace nibble
