// How a run goes, on the terminal while it goes.
#ifndef NIBBLE_LOADTEST_LIVE_H_
#define NIBBLE_LOADTEST_LIVE_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

// What the view shows: rates of the run so far, percentiles of the last kRecent answers, and answers by second.
class LiveFigures {
 public:
  static constexpr size_t kRecent = 1000;

  // `of`: how many requests there will be.
  explicit LiveFigures(int64_t of) : of_(of) {}

  // A request that has ended `seconds` after the start; times do not fall.
  void Add(const Record& record, double seconds);

  // Lines of at most `columns` characters, always as many.
  std::vector<std::string> Lines(double seconds, int columns) const;

 private:
  const int64_t of_;
  int64_t ended_ = 0;
  int64_t output_tokens_ = 0;
  std::map<std::string, int64_t> failures_;  // by status
  std::deque<double> ttft_ms_, tpot_ms_;     // recent ones
  std::vector<int64_t> ended_in_;            // by second of the run
};

// Draws them on standard error four times a second, and wipes them away at the end. Does nothing where that is no
// terminal.
class LiveView {
 public:
  explicit LiveView(int64_t of);
  LiveView(const LiveView&) = delete;
  LiveView& operator=(const LiveView&) = delete;
  ~LiveView();

  // Any thread.
  void Add(const Record& record);

 private:
  void Loop();
  void Draw();

  const Clock::time_point start_ = Clock::now();
  absl::Mutex mutex_;
  LiveFigures figures_ ABSL_GUARDED_BY(mutex_);
  size_t drawn_lines_ = 0;  // the thread's own
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_LIVE_H_
