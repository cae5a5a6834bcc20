// A load beside running steps works a quarter of the time, and one alone all of it.
#include "server/load_pace.h"

#include <algorithm>

#include "gtest/gtest.h"

namespace nibble::server {
namespace {

class LoadPaceTest : public testing::Test {
 protected:
  // A load in pieces of `piece`, 30 ms in all; how long it takes.
  sched::Nanos TimeOf(sched::Nanos piece) {
    LoadPace pace([this] { return busy_; }, [this] { return now_; }, [this](sched::Nanos time) { Sleep(time); });
    const sched::Nanos began = now_;
    for (sched::Nanos done = 0; done < 30'000'000; done += piece) {
      now_ += piece;
      pace.Pause();
    }
    return now_ - began;
  }

  void Sleep(sched::Nanos time) {
    now_ += time;
    shortest_ = std::min(shortest_, time);
  }

  bool busy_ = true;
  sched::Nanos now_ = 1'000'000'000;
  sched::Nanos shortest_ = 1'000'000'000;  // rest
};

TEST_F(LoadPaceTest, RestsThriceAsLongAsItWorksWhileStepsRun) {
  EXPECT_EQ(TimeOf(1'000'000), 120'000'000);
  EXPECT_EQ(TimeOf(50'000), 120'000'000);
}

TEST_F(LoadPaceTest, NeverRestsForLessThanASleepTakes) {
  TimeOf(1'000);
  EXPECT_EQ(shortest_, LoadPace::kRest * LoadPace::kPiece);
}

TEST_F(LoadPaceTest, NeverRestsWhereNothingRuns) {
  busy_ = false;
  EXPECT_EQ(TimeOf(1'000'000), 30'000'000);
}

// What was worked while nothing ran is not made up for.
TEST_F(LoadPaceTest, CountsFromTheLastPiece) {
  LoadPace pace([this] { return busy_; }, [this] { return now_; }, [this](sched::Nanos time) { Sleep(time); });
  busy_ = false;
  now_ += 50'000'000;
  pace.Pause();
  busy_ = true;
  now_ += 1'000'000;
  pace.Pause();
  EXPECT_EQ(shortest_, 3'000'000);
}

}  // namespace
}  // namespace nibble::server
