#include "engine/tools/bench.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

BenchOptions Small() {
  BenchOptions options;
  options.prefill_tokens = 64;
  options.decode_steps = 3;
  options.batches = {1, 5};
  options.depths = {0, 100};
  options.codecs = {"f16"};
  options.repeat = 2;
  return options;
}

TEST(Bench, ReportsEveryRow) {
  const OpenedModel model = OpenTinyModel("tiny-qwen2-bf16");
  int64_t last_done = 0, last_all = 0;
  const auto report = Bench(model, Small(), [&](int64_t done, int64_t all) {
    last_done = done;
    last_all = all;
  });
  ASSERT_THAT(report, IsOk());
  EXPECT_EQ(last_done, last_all);
  ASSERT_EQ(report->rows.size(), 6u);  // per depth: one prefill, two batches
  EXPECT_GT(report->machine.int8_gmacs, 0.0);
  EXPECT_GT(report->machine.read_gbps, 0.0);
  for (const BenchRow& row : report->rows) {
    EXPECT_GT(row.tokens_per_second, 0.0);
    EXPECT_GT(row.gmacs, 0.0);
    EXPECT_GT(row.of_compute_peak, 0.0);
    EXPECT_GT(row.of_bandwidth_peak, 0.0);
  }
  EXPECT_EQ(report->rows[5].kind, "decode");
  EXPECT_EQ(report->rows[5].batch, 5);
  EXPECT_EQ(report->rows[5].depth, 100);
}

TEST(Bench, RunsEachBatchWithAsManyAdaptersAsItHasSequencesForThem) {
  const OpenedModel model = OpenTinyModel("tiny-qwen2-bf16");
  BenchOptions options = Small();
  options.depths = {0};
  options.batches = {1, 3};
  options.adapters = {0, 1, 3};
  const auto report = Bench(model, options, [](int64_t, int64_t) {});
  ASSERT_THAT(report, IsOk());
  std::vector<std::tuple<std::string, int64_t, int64_t>> rows;
  for (const BenchRow& row : report->rows) rows.emplace_back(row.kind, row.batch, row.adapters);
  const std::vector<std::tuple<std::string, int64_t, int64_t>> want = {
      {"prefill", 1, 0}, {"prefill", 1, 1}, {"decode", 1, 0}, {"decode", 1, 1},
      {"decode", 3, 0},  {"decode", 3, 1},  {"decode", 3, 3}};
  EXPECT_EQ(rows, want);
}

TEST(Bench, RefusesWhatTheModelCannotHold) {
  const OpenedModel model = OpenTinyModel("tiny-qwen2-bf16");
  BenchOptions options = Small();
  options.depths = {480};
  EXPECT_THAT(Bench(model, options, [](int64_t, int64_t) {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--depth=480")));
  options = Small();
  options.depths = {480};
  options.prefill_tokens = 0;
  options.batches = {1 << 20};  // half a terabyte
  options.codecs = {"f32"};
  EXPECT_THAT(Bench(model, options, [](int64_t, int64_t) {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("free memory")));
  options.batches = {1, (1 << 20) + 1};
  EXPECT_THAT(Bench(model, options, [](int64_t, int64_t) {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--batch=1048577")));
}

TEST(Bench, KvBytesSaturate) {
  const OpenedModel model = OpenTinyModel("tiny-qwen2-bf16");
  EXPECT_EQ(KvBytes(model, "f32", 6), 2 * KvBytes(model, "f16", 6));
  EXPECT_EQ(KvBytes(model, "f32", int64_t{1} << 60), std::numeric_limits<int64_t>::max());
}

TEST(Bench, JsonHasTheKeysOfTheContract) {
  BenchReport report;
  report.machine.threads = 2;
  report.rows.push_back({"decode", 8, 2048, 4, "f16", 100.0, 10.0, 0.5, 0.25});
  const auto json = nlohmann::json::parse(BenchJson(report));
  for (const char* key : {"cpu", "isa", "threads", "int8_gmacs", "read_gbps"}) {
    EXPECT_TRUE(json["machine"].contains(key)) << key;
  }
  const auto& row = json["rows"][0];
  EXPECT_EQ(row["kind"], "decode");
  EXPECT_EQ(row["batch"], 8);
  EXPECT_EQ(row["depth"], 2048);
  EXPECT_EQ(row["adapters"], 4);
  EXPECT_EQ(row["kv"], "f16");
  EXPECT_EQ(row["tokens_per_second"], 100.0);
  EXPECT_EQ(row["gmacs"], 10.0);
  EXPECT_EQ(row["of_compute_peak"], 0.5);
  EXPECT_EQ(row["of_bandwidth_peak"], 0.25);
}

}  // namespace
}  // namespace nibble::engine
