#include "scheduler/index_watchers.h"

#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

// Pages told of in each call.
class CountingWatcher : public IndexWatcher {
 public:
  void OnEvents(absl::Span<const kv::IndexEvent> events) override { calls_.push_back(events.size()); }
  void OnClosed() override { closed_ = true; }
  const std::vector<size_t>& calls() const { return calls_; }
  bool closed() const { return closed_; }

 private:
  std::vector<size_t> calls_;
  bool closed_ = false;
};

class IndexWatchersTest : public testing::Test {
 protected:
  void Run(const RequestSpec& spec) {
    EXPECT_THAT(harness_.Submit(spec), IsOk());
    harness_.Drain();
    watchers().Tell();
  }
  IndexWatchers& watchers() { return harness_.scheduler().index_watchers(); }

  Harness harness_;
};

TEST_F(IndexWatchersTest, HearsWhatIsThereAndThenWhatChanges) {
  Run({.id = "a", .tenant = "", .prompt = 65});
  const auto watcher = std::make_shared<CountingWatcher>();
  watchers().Add(watcher);
  EXPECT_THAT(watcher->calls(), ElementsAre(2));
  Run({.id = "b", .tenant = "", .prompt = 33});
  EXPECT_THAT(watcher->calls(), ElementsAre(2, 1));
  const auto late = std::make_shared<CountingWatcher>();
  watchers().Add(late);
  EXPECT_THAT(late->calls(), ElementsAre(3));
  harness_.scheduler().FlushIndex();
  watchers().Tell();
  EXPECT_THAT(watcher->calls(), ElementsAre(2, 1, 3));
  EXPECT_THAT(late->calls(), ElementsAre(3, 3));
  watchers().Remove(watcher.get());
  Run({.id = "c", .tenant = "", .prompt = 33});
  EXPECT_THAT(watcher->calls(), SizeIs(3));
  EXPECT_THAT(late->calls(), ElementsAre(3, 3, 1));
}

// Prompts of one tenant are told to nobody.
TEST_F(IndexWatchersTest, Row37_PagesOfATenantAreNotToldOf) {
  const auto watcher = std::make_shared<CountingWatcher>();
  watchers().Add(watcher);
  Run({.id = "a", .tenant = "t", .prompt = 65});
  EXPECT_THAT(watcher->calls(), ElementsAre(0));
  Run({.id = "a", .tenant = "", .prompt = 65});
  EXPECT_THAT(watcher->calls(), ElementsAre(0, 2)) << "the control";
}

TEST_F(IndexWatchersTest, CloseEndsEveryWatch) {
  const auto watcher = std::make_shared<CountingWatcher>();
  watchers().Add(watcher);
  watchers().Close();
  EXPECT_TRUE(watcher->closed());
  Run({.id = "a", .tenant = "", .prompt = 65});
  EXPECT_THAT(watcher->calls(), ElementsAre(0));
  EXPECT_EQ(watcher.use_count(), 1);
}

}  // namespace
}  // namespace nibble::sched
