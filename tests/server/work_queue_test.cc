#include "server/work_queue.h"

#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace nibble::server {
namespace {

// Occupies the one thread until released.
struct Plug {
  explicit Plug(WorkQueue& queue) {
    queue.TryPush("plug", [this] {
      began.Notify();
      released.WaitForNotification();
    });
    began.WaitForNotification();
  }
  absl::Notification began, released;
};

TEST(WorkQueue, OwnersTakeTurns) {
  std::vector<std::string> ran;
  {
    WorkQueue queue(1, 100, 100);
    Plug plug(queue);
    for (const char* task : {"a1", "a2", "a3", "b1", "c1", "c2"}) {
      EXPECT_TRUE(queue.TryPush(std::string(1, task[0]), [&ran, task] { ran.push_back(task); }));
    }
    plug.released.Notify();
  }
  EXPECT_THAT(ran, testing::ElementsAre("a1", "b1", "c1", "a2", "c2", "a3"));
}

TEST(WorkQueue, NoOwnerFillsItForTheOthers) {
  int ran = 0;
  {
    WorkQueue queue(1, 3, 2);
    Plug plug(queue);
    const auto task = [&ran] { ++ran; };
    EXPECT_TRUE(queue.TryPush("a", task));
    EXPECT_TRUE(queue.TryPush("a", task));
    EXPECT_FALSE(queue.TryPush("a", task));
    EXPECT_TRUE(queue.TryPush("b", task));
    EXPECT_FALSE(queue.TryPush("c", task)) << "all together";
    plug.released.Notify();
  }
  EXPECT_EQ(ran, 3);
}

}  // namespace
}  // namespace nibble::server
