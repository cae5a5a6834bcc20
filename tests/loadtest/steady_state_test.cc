#include "loadtest/steady_state.h"

#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using std::chrono::milliseconds;

TEST(SteadyState, IsBetweenTheWarmUpAndTheLastSchedule) {
  Measurement run;
  run.start += milliseconds(500);
  run.records.resize(3);
  run.records[0].scheduled = run.start;
  run.records[1].scheduled = run.start + milliseconds(9000);  // not the last of the list: conversations go on apart
  run.records[2].scheduled = run.start + milliseconds(8000);
  const Window window = SteadyWindow(run, {.warmup_s = 2, .cooldown_s = 1.5});
  EXPECT_EQ(window.from, run.start + milliseconds(2000));
  EXPECT_EQ(window.until, run.start + milliseconds(7500));
  EXPECT_DOUBLE_EQ(window.seconds(), 5.5);
  EXPECT_TRUE(window.Holds(window.from));
  EXPECT_FALSE(window.Holds(window.until));
  EXPECT_LT(SteadyWindow(run, {.warmup_s = 8, .cooldown_s = 2}).seconds(), 0);
}

TEST(SteadyState, ParsesTwoDurations) {
  const absl::StatusOr<Cut> cut = ParseCut("10s:500ms");
  ASSERT_THAT(cut, IsOk());
  EXPECT_EQ(cut->warmup_s, 10);
  EXPECT_EQ(cut->cooldown_s, 0.5);
  EXPECT_THAT(ParseCut("0:0"), IsOk());
  for (const char* text : {"", "10s", "10:5", "10s:5s:1s", "-1s:5s", "1s:25h", "inf:0"}) {
    EXPECT_THAT(ParseCut(text), StatusIs(absl::StatusCode::kInvalidArgument, testing::_)) << text;
  }
}

}  // namespace
}  // namespace nibble::loadtest
