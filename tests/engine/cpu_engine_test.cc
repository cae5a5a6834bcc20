#include "engine/cpu_engine.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

ModelFile TinyModel() {
  auto file = OpenModelFile(NIBBLE_TESTS_DIR "/golden/logits/tiny-qwen2-bf16.gguf");
  EXPECT_THAT(file, IsOk());
  return *std::move(file);
}

EngineOptions Small() {
  EngineOptions options;
  options.isa = "scalar";
  options.kv_memory_bytes = 1 << 20;
  options.max_sequences = 2;
  options.step_tokens = 8;
  return options;
}

TEST(CpuEngine, RefusesOptionsBeyondTheirLimitsNamingThem) {
  const ModelFile file = TinyModel();
  const auto refused = [&](const EngineOptions& options, const std::string& name) {
    EXPECT_THAT(CreateEngine(options, file), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
  };
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, kMaxStepTokens + 1, kHuge}) {
    EngineOptions options = Small();
    options.step_tokens = bad;
    refused(options, "step_tokens: must be 1 to 1048576");
    options = Small();
    options.max_sequences = bad;
    refused(options, "max_sequences: must be 1 to 1048576");
  }
  for (const int64_t bad : {int64_t{-1}, int64_t{0}, int64_t{1}, kHuge}) {
    EngineOptions options = Small();
    options.kv_memory_bytes = bad;
    refused(options, "kv_memory");
  }
  for (const int bad : {0, 1025}) {
    EngineOptions options = Small();
    options.threads = bad;
    refused(options, "threads");
  }
}

// Steps of one sequence that break what Launch requires.
class CpuEngineDeathTest : public testing::Test {
 protected:
  CpuEngineDeathTest() : file_(TinyModel()), engine_(*CreateEngine(Small(), file_)) {
    step_.tokens = tokens_;
    step_.pages = pages_;
    step_.logit_rows = 2;
  }

  void Run(size_t sequences = 1) {
    const StepPlan plan = {std::vector<SequenceStep>(sequences, step_)};
    engine_->Launch(plan);
    engine_->Await();
  }

  const ModelFile file_;
  const std::unique_ptr<CpuEngine> engine_;
  std::vector<int32_t> tokens_ = {1, 2, 3};
  std::vector<kv::PageId> pages_ = {0};
  SequenceStep step_;
};

TEST_F(CpuEngineDeathTest, AStepThatBreaksTheContractDies) {
  Run();
  const std::vector<int32_t> one_target = {1}, outside = {1, static_cast<int32_t>(engine_->vocab_size())};
  step_.targets = one_target;  // logit rows: two
  EXPECT_DEATH(Run(), "check failed.*targets");
  step_.targets = outside;
  EXPECT_DEATH(Run(), "check failed.*vocab_size");
  step_.targets = {};
  tokens_[1] = -1;
  EXPECT_DEATH(Run(), "check failed.*vocab_size");
  tokens_[1] = 2;
  pages_[0] = static_cast<kv::PageId>(engine_->cache_shape().num_pages);
  EXPECT_DEATH(Run(), "check failed.*num_pages");
  pages_[0] = 0;
  step_.position = 30;  // the third token lies past the page
  EXPECT_DEATH(Run(), "check failed.*PagesFor");
  step_.position = 0;
  EXPECT_DEATH(Run(3), "check failed.*max_sequences");
}

}  // namespace
}  // namespace nibble::engine
