#include "loadtest/verdict.h"

#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;

Measurement RunOf(double seconds, double cpu_seconds, int64_t cpus) {
  Measurement run;
  run.seconds = seconds;
  run.cpu_seconds = cpu_seconds;
  run.cpus = cpus;
  return run;
}

TEST(Verdict, AClientWithTimeToSpareSaysNothing) {
  EXPECT_THAT(CheckClient(RunOf(10, 8.9, 1), {}), IsOk());
  EXPECT_THAT(CheckClient(RunOf(10, 17, 2), {}), IsOk());
}

TEST(Verdict, AClientWithoutCpuTimeRefusesToConclude) {
  const auto refused = StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("95 % of the CPU time"));
  EXPECT_THAT(CheckClient(RunOf(10, 9.5, 1), {}), refused);
  EXPECT_THAT(CheckClient(RunOf(10, 19, 2), {}), refused);
  EXPECT_THAT(CheckClient(RunOf(0.1, 0.1, 1), {}), IsOk());
}

TEST(Verdict, AClientThatComesLateRefusesToConclude) {
  Summary summary;
  summary.late_ms.p99 = 10;
  EXPECT_THAT(CheckClient(RunOf(10, 1, 1), summary), IsOk());
  summary.late_ms.p99 = 11;
  EXPECT_THAT(CheckClient(RunOf(10, 1, 1), summary),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("11 ms")));
}

TEST(Verdict, FailuresComeFirstInTheServersWords) {
  Measurement run = RunOf(10, 10, 1);
  run.records.resize(3);
  run.records[0].outcome = Outcome::kCompleted;
  run.records[1].error = "UNAVAILABLE: going away";
  run.records[2].error = "INTERNAL: x";
  EXPECT_THAT(Judge(run, Summarize(run, {})),
              StatusIs(absl::StatusCode::kUnknown, HasSubstr("2 requests failed, the first with: UNAVAILABLE: going")));
}

}  // namespace
}  // namespace nibble::loadtest
