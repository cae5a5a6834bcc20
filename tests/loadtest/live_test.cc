#include "loadtest/live.h"

#include "gmock/gmock.h"

namespace nibble::loadtest {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

Record Answer(int ttft_ms, int gap_ms) {
  Record record;
  record.chunks = {record.scheduled + milliseconds(ttft_ms), record.scheduled + milliseconds(ttft_ms + gap_ms)};
  record.output_tokens = 2;
  record.outcome = Outcome::kCompleted;
  return record;
}

TEST(Live, ShowsRatesPercentilesAndErrors) {
  LiveFigures figures(100);
  for (int i = 0; i < 9; ++i) figures.Add(Answer(40, 7), 1);
  Record failed;
  failed.status = "UNAVAILABLE";
  figures.Add(failed, 2);
  const std::vector<std::string> lines = figures.Lines(4, 80);
  EXPECT_EQ(lines[0], "10 of 100 in 4 s, 2.5 requests/s, 4.5 output tokens/s");
  EXPECT_EQ(lines[1], "TTFT p50 40.0 ms, p99 40.0 ms; TPOT p50 7.0 ms, p99 7.0 ms");
  EXPECT_EQ(lines[2], "failed: 1 UNAVAILABLE");
}

TEST(Live, TheSparklineHasACellForEachSecondUpToNow) {
  LiveFigures figures(100);
  for (int i = 0; i < 8; ++i) figures.Add(Answer(40, 7), 0.5);
  figures.Add(Answer(40, 7), 2.5);
  EXPECT_EQ(figures.Lines(4.2, 80)[3], "█ ▁ ");
  EXPECT_EQ(figures.Lines(4.2, 2)[3], "█ ");  // against the highest of those shown
}

TEST(Live, PercentilesAreOfTheLastAnswers) {
  LiveFigures figures(10000);
  for (int i = 0; i < 500; ++i) figures.Add(Answer(900, 7), 1);
  EXPECT_THAT(figures.Lines(2, 80)[1], HasSubstr("TTFT p50 900.0 ms"));
  for (size_t i = 0; i < LiveFigures::kRecent; ++i) figures.Add(Answer(40, 7), 1);
  EXPECT_THAT(figures.Lines(2, 80)[1], HasSubstr("TTFT p50 40.0 ms, p99 40.0 ms"));
}

TEST(Live, LinesFitTheTerminalAndTheirNumberStays) {
  LiveFigures figures(100);
  const size_t count = figures.Lines(0, 80).size();
  figures.Add(Answer(40, 7), 0);
  for (const int columns : {0, 1, 10, 500}) {
    const std::vector<std::string> lines = figures.Lines(1, columns);
    EXPECT_EQ(lines.size(), count);
    for (int i = 0; i < 3; ++i) EXPECT_LE(lines[i].size(), std::max(columns, 1));
  }
}

}  // namespace
}  // namespace nibble::loadtest
