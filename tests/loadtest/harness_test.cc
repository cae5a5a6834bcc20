// What the harness reports is what was done to it.
#include <chrono>
#include <cmath>

#include "gmock/gmock.h"
#include "loadtest/client_grpc.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"
#include "tests/loadtest/timed_server.h"

namespace nibble::loadtest {
namespace {

using std::chrono::milliseconds;

Measurement SendTo(const Script& script, int64_t output_tokens, const std::vector<double>& arrivals) {
  TimedServer server(script);
  const std::vector<Request> requests(arrivals.size(), Request{{1}, output_tokens, -1});
  const auto client = MakeGrpcClient(server.address(), "", static_cast<int64_t>(requests.size()));
  const Schedule schedule{.arrivals = arrivals, .max_concurrency = static_cast<int64_t>(requests.size())};
  return SendAll(*client, requests, schedule, [](int64_t, const Record&) { return true; });
}

std::vector<double> Every(double seconds, int count) {
  std::vector<double> arrivals;
  for (int i = 0; i < count; ++i) arrivals.push_back(i * seconds);
  return arrivals;
}

// Medians, within 2 ms or 1 %. A machine that is busy elsewhere may spoil a try, not all of them.
TEST(Harness, FixedDelaysComeBackAsTheyWere) {
  constexpr int kTries = 8;
  Summary summary;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    summary = Summarize(SendTo({.first = milliseconds(300), .gap = milliseconds(40)}, 11, Every(0.02, 20)), {});
    if (std::abs(summary.ttft_ms.p50 - 300) <= 3 && std::abs(summary.itl_ms.p50 - 40) <= 2) break;
  }
  EXPECT_EQ(summary.completed, 20);
  EXPECT_NEAR(summary.ttft_ms.p50, 300, 3);
  EXPECT_NEAR(summary.itl_ms.p50, 40, 2);
  EXPECT_NEAR(summary.tpot_ms.p50, 40, 2);
  EXPECT_NEAR(summary.e2el_ms.p50, 300 + 10 * 40, 7);
}

// A client that waited for the stall before it sent on would see one slow request.
TEST(Harness, AStallShowsInTheTailUnderOpenLoop) {
  const Script script{.stall_from = milliseconds(500), .stall_until = milliseconds(1500)};
  const Summary summary = Summarize(SendTo(script, 2, Every(0.02, 150)), {});
  EXPECT_EQ(summary.completed, 150);
  // 50 of the 150 requests come during the stall, evenly: a third waits, the longest for all of it.
  EXPECT_LT(summary.ttft_ms.p50, 100);
  EXPECT_NEAR(summary.ttft_ms.p90, 700, 150);
  EXPECT_NEAR(summary.ttft_ms.p99, 970, 150);
}

TEST(Harness, TheScheduleIsKept) {
  const Measurement run = SendTo({}, 1, Every(0.005, 200));
  EXPECT_EQ(run.late_ms.size(), 200u);
  EXPECT_LT(Describe(run.late_ms).p50, 5);
  for (size_t i = 0; i < run.records.size(); ++i) {
    EXPECT_EQ(run.records[i].scheduled - run.records[0].scheduled, i * milliseconds(5));
  }
}

TEST(Harness, AStreamThatBreaksOffIsAFailureAndNoFigure) {
  const Measurement run = SendTo({.close_after = 3}, 8, Every(0.001, 5));
  const Summary summary = Summarize(run, {});
  EXPECT_EQ(summary.failed, 5);
  EXPECT_EQ(summary.output_tokens, 0);
  EXPECT_THAT(run.records[0].error, testing::HasSubstr("going away"));
  EXPECT_EQ(run.records[0].output_tokens, 3);
}

TEST(Harness, NoMoreIsSentOnceEnoughIsKnown) {
  TimedServer server({});
  const std::vector<Request> requests(500, Request{{1}, 1, -1});
  const auto client = MakeGrpcClient(server.address(), "", 1);
  const Measurement run = SendAll(*client, requests, {.arrivals = {}, .max_concurrency = 1},
                                  [](int64_t ended, const Record&) { return ended < 10; });
  EXPECT_EQ(run.records.size(), 10u);
  EXPECT_EQ(Summarize(run, {}).completed, 10);
}

}  // namespace
}  // namespace nibble::loadtest
