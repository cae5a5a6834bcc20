#include "loadtest/send_queue.h"

#include <thread>

#include "gmock/gmock.h"

namespace nibble::loadtest {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

// Two conversations of two turns, and a single request.
std::vector<Request> TwoConversations(milliseconds think_time = milliseconds(0)) {
  std::vector<Request> requests(5);
  requests[1].follows = 0;
  requests[3].follows = 2;
  requests[1].think_time = requests[3].think_time = think_time;
  return requests;
}

const Progress kAll = [](int64_t, const Record&) { return true; };

Record Ended(Outcome outcome) {
  Record record;
  record.outcome = outcome;
  return record;
}

// One at a time, each ending with `outcome(index)`.
std::vector<size_t> OrderOf(const std::vector<Request>& requests, const Schedule& schedule,
                            const std::function<Outcome(size_t)>& outcome) {
  SendQueue queue(requests, schedule, Clock::now(), kAll);
  std::vector<size_t> order;
  while (const auto next = queue.Pop()) {
    order.push_back(next->index);
    queue.Ended(next->index, Ended(outcome(next->index)));
  }
  return order;
}

TEST(SendQueue, AConversationThatHasBegunGoesFirst) {
  const auto completed = [](size_t) { return Outcome::kCompleted; };
  EXPECT_THAT(OrderOf(TwoConversations(), {.arrivals = {}, .max_concurrency = 1}, completed),
              ElementsAre(0, 1, 2, 3, 4));
}

TEST(SendQueue, AConversationEndsWhereARequestFailsButNotWhereItIsCancelled) {
  const auto outcome = [](size_t i) { return i == 0 ? Outcome::kFailed : Outcome::kCancelled; };
  EXPECT_THAT(OrderOf(TwoConversations(), {.arrivals = {}, .max_concurrency = 1}, outcome), ElementsAre(0, 2, 3, 4));
}

TEST(SendQueue, OthersGoWhileAUserThinks) {
  const auto completed = [](size_t) { return Outcome::kCompleted; };
  EXPECT_THAT(OrderOf(TwoConversations(milliseconds(200)), {.arrivals = {}, .max_concurrency = 1}, completed),
              ElementsAre(0, 2, 4, 1, 3));
}

TEST(SendQueue, AFollowerIsDueItsThinkTimeAfterTheAnswer) {
  const std::vector<Request> requests = TwoConversations(milliseconds(30));
  SendQueue queue(requests, {.arrivals = {0, 0, 0}, .max_concurrency = 8}, Clock::now(), kAll);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(queue.Pop().has_value());
  const Clock::time_point before = Clock::now();
  queue.Ended(2, Ended(Outcome::kCompleted));
  const Clock::time_point after = Clock::now();
  const auto next = queue.Pop();
  ASSERT_TRUE(next.has_value());
  EXPECT_EQ(next->index, 3u);
  EXPECT_GE(next->scheduled, before + milliseconds(30));
  EXPECT_LE(next->scheduled, after + milliseconds(30));
  EXPECT_GE(Clock::now(), next->scheduled);
  for (const size_t i : {0, 3, 4}) queue.Ended(i, Ended(Outcome::kFailed));
  EXPECT_FALSE(queue.Pop().has_value());
  EXPECT_EQ(queue.Drain(), 3);
}

TEST(SendQueue, WaitingForAPlaceIsNotLatenessOfTheClient) {
  const std::vector<Request> requests(2);
  const Clock::time_point start = Clock::now() - milliseconds(500);
  SendQueue queue(requests, {.arrivals = {0.5, 0.5}, .max_concurrency = 1}, start, kAll);
  ASSERT_TRUE(queue.Pop().has_value());
  std::this_thread::sleep_for(milliseconds(20));
  const Clock::time_point free = Clock::now();
  queue.Ended(0, Ended(Outcome::kCompleted));
  const auto next = queue.Pop();
  EXPECT_EQ(next->scheduled, start + milliseconds(500));
  EXPECT_LE(std::chrono::duration<double>(*next->late_ms / 1000), Clock::now() - free);
  queue.Ended(1, Ended(Outcome::kCompleted));
}

}  // namespace
}  // namespace nibble::loadtest
