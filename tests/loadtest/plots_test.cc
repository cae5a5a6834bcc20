#include "loadtest/plots.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "gmock/gmock.h"

namespace nibble::loadtest {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

Record Answer(const Measurement& run, const std::vector<int>& chunks, int64_t output_tokens) {
  Record record;
  record.scheduled = run.start;
  for (const int chunk : chunks) record.chunks.push_back(run.start + milliseconds(chunk));
  record.output_tokens = output_tokens;
  record.outcome = Outcome::kCompleted;
  return record;
}

int64_t Total(const Histogram& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), int64_t{0});
}

TEST(Plots, EveryValueIsInTheBinWhoseEdgesHoldIt) {
  std::vector<double> values;
  for (double value = 0.5; value < 5000; value *= 1.037) values.push_back(value);
  const Histogram histogram = LogHistogram(values);
  ASSERT_EQ(histogram.edges.size(), histogram.counts.size() + 1);
  EXPECT_NEAR(histogram.edges.front(), values.front(), 1e-9);
  EXPECT_NEAR(histogram.edges.back(), values.back(), 1e-6);
  for (size_t bin = 0; bin + 1 < histogram.counts.size(); ++bin) {
    const double low = histogram.edges[bin] * (1 + 1e-9), high = histogram.edges[bin + 1] * (1 - 1e-9);
    const auto within =
        std::count_if(values.begin(), values.end(), [low, high](double v) { return v >= low && v < high; });
    EXPECT_NEAR(histogram.counts[bin], within, 1) << bin;
  }
  EXPECT_EQ(Total(histogram), std::ssize(values));
}

TEST(Plots, HistogramsOfOneValueOfNoneAndOfZero) {
  EXPECT_THAT(LogHistogram({7, 7}).counts, ElementsAre(2));
  EXPECT_TRUE(LogHistogram({}).counts.empty());
  EXPECT_TRUE(std::isfinite(LogHistogram({0, 1}).edges.front()));
}

TEST(Plots, TokensCountWhenTheirMessageCame) {
  Measurement run;
  run.start += milliseconds(1234);
  run.seconds = 0.35;
  run.records = {Answer(run, {10, 110, 120}, 6), Answer(run, {340}, 1)};
  run.records.push_back(Answer(run, {20}, 100));
  run.records.back().outcome = Outcome::kFailed;
  const TokenRate rate = OutputTokenRate(run);
  EXPECT_EQ(rate.step_s, 0.1);
  EXPECT_THAT(rate.tokens_per_s, ElementsAre(20, 40, 0, 10));
  EXPECT_EQ(Total(TtftHistogram(run)), 2);
  EXPECT_EQ(Total(ItlHistogram(run)), 2);
}

TEST(Plots, LongRunsHaveLongSteps) {
  Measurement run;
  run.seconds = 3600;
  EXPECT_EQ(OutputTokenRate(run).step_s, 50);
  EXPECT_EQ(OutputTokenRate(run).tokens_per_s.size(), 72u);
}

}  // namespace
}  // namespace nibble::loadtest
