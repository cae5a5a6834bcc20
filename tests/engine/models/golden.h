// The engine's f32 logits against those of an independent implementation (tests/golden/logits/make_golden.py).
#ifndef NIBBLE_TESTS_ENGINE_MODELS_GOLDEN_H_
#define NIBBLE_TESTS_ENGINE_MODELS_GOLDEN_H_

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "engine/cpu_engine.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {

// The largest difference of a logit that is allowed; logits spread by 2 to 7.
inline constexpr double kTolerance = 2e-4;

struct Golden {
  std::vector<int32_t> tokens;
  std::map<int64_t, std::map<int32_t, float>> logits;  // position -> id -> logit
};

inline std::string GoldenPath(const std::string& name) {
  return std::string(NIBBLE_TESTS_DIR) + "/golden/logits/" + name;
}

inline Golden ReadGolden(const std::string& name) {
  std::ifstream file(GoldenPath(name + ".txt"));
  EXPECT_TRUE(file.is_open()) << name;
  Golden golden;
  std::string line, word;
  std::getline(file, line);
  std::istringstream first(line);
  first >> word;
  for (int32_t id; first >> id;) golden.tokens.push_back(id);
  int64_t position = -1;
  while (file >> word) {
    if (word == "position") {
      file >> position;
    } else {
      file >> golden.logits[position][std::stoi(word)];
    }
  }
  return golden;
}

inline std::unique_ptr<CpuEngine> OpenEngine(const ModelFile& file, int64_t step_tokens) {
  EngineOptions options;
  options.weights = WeightMode::kF32;
  options.activations = ActivationMode::kF32;
  options.kv_codec = "f32";  // the reference rounds no key or value
  options.kv_memory_bytes = int64_t{64} << 20;
  options.step_tokens = step_tokens;
  options.threads = 2;
  absl::StatusOr<std::unique_ptr<CpuEngine>> engine = CreateEngine(options, file);
  EXPECT_THAT(engine, IsOk());
  return engine.ok() ? *std::move(engine) : nullptr;
}

// All logits of the tokens, run in chunks: [tokens, vocab].
inline std::vector<float> RunInChunks(CpuEngine& engine, const std::vector<int32_t>& tokens, size_t chunk_tokens) {
  std::vector<kv::PageId> pages(static_cast<size_t>(kv::PagesFor(static_cast<int64_t>(tokens.size()))));
  std::iota(pages.rbegin(), pages.rend(), 0);  // backwards: the table decides, not the order
  const size_t vocab = static_cast<size_t>(engine.vocab_size());
  std::vector<float> logits(tokens.size() * vocab);
  for (size_t first = 0; first < tokens.size(); first += chunk_tokens) {
    SequenceStep step;
    step.tokens = absl::MakeConstSpan(tokens).subspan(first, chunk_tokens);
    step.position = static_cast<int64_t>(first);
    step.pages = pages;
    step.logit_rows = static_cast<int64_t>(step.tokens.size());
    step.logits_out = logits.data() + first * vocab;
    const StepPlan plan = {{step}};
    engine.Launch(plan);
    EXPECT_FALSE(engine.Await().sequences[0].faulted);
  }
  return logits;
}

inline void ExpectGoldenLogits(const std::string& model_path, const std::string& name, size_t chunk_tokens) {
  absl::StatusOr<ModelFile> file = OpenModelFile(model_path);
  ASSERT_THAT(file, IsOk()) << model_path << " is needed; tests/run.sh fetches the real models";
  const std::unique_ptr<CpuEngine> engine = OpenEngine(*file, 64);
  ASSERT_NE(engine, nullptr);
  const Golden golden = ReadGolden(name);
  ASSERT_FALSE(golden.logits.empty());
  const std::vector<float> logits = RunInChunks(*engine, golden.tokens, chunk_tokens);
  double worst = 0.0, squares = 0.0, count = 0.0;
  std::string where;
  for (const auto& [position, row] : golden.logits) {
    for (const auto& [id, expected] : row) {
      const double actual = logits[static_cast<size_t>(position * engine->vocab_size() + id)];
      const double difference = std::isfinite(actual) ? std::abs(actual - expected) : INFINITY;
      squares += difference * difference;
      ++count;
      if (difference <= worst) continue;
      worst = difference;
      std::ostringstream text;
      text << "position " << position << " id " << id << ": " << actual << ", expected " << expected;
      where = text.str();
    }
  }
  const double root_mean_square = std::sqrt(squares / count);
  testing::Test::RecordProperty("worst", std::to_string(worst));
  testing::Test::RecordProperty("root_mean_square", std::to_string(root_mean_square));
  EXPECT_LT(worst, kTolerance) << where;
}

// A real model, fetched by tests/run.sh.
inline std::string CachedModel(const std::string& name) {
  const char* cache = std::getenv("NIBBLE_CACHE");
  const char* home = std::getenv("HOME");
  return (cache != nullptr ? std::string(cache) : std::string(home != nullptr ? home : "") + "/.cache/nibble") + "/" +
         name + ".gguf";
}

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_MODELS_GOLDEN_H_
