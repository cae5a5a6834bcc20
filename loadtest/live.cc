#include "loadtest/live.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "loadtest/stats.h"

namespace nibble::loadtest {
namespace {

constexpr absl::Duration kPeriod = absl::Milliseconds(250);
constexpr size_t kMostCells = 60;
constexpr int kUsualColumns = 80;

void AddRecent(double value, std::deque<double>& recent) {
  recent.push_back(value);
  if (recent.size() > LiveFigures::kRecent) recent.pop_front();
}

std::string Percentiles(const char* name, const std::deque<double>& recent) {
  const Distribution d = Describe({recent.begin(), recent.end()});
  return absl::StrFormat("%s p50 %.1f ms, p99 %.1f ms", name, d.p50, d.p99);
}

// A block per count, as high as it is against the highest; a blank for none.
std::string Sparkline(const std::vector<int64_t>& counts, size_t cells) {
  constexpr const char* kBlocks[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const auto begin = counts.end() - static_cast<int64_t>(std::min(cells, counts.size()));
  const int64_t most = begin == counts.end() ? 0 : *std::max_element(begin, counts.end());
  std::string line;
  for (auto count = begin; count != counts.end(); ++count) {
    absl::StrAppend(&line, kBlocks[*count == 0 ? 0 : 1 + (7 * *count) / most]);
  }
  return line;
}

int Columns() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : kUsualColumns;
}

}  // namespace

void LiveFigures::Add(const Record& record, double seconds) {
  ++ended_;
  const auto second = static_cast<size_t>(std::max(seconds, 0.0));
  if (ended_in_.size() <= second) ended_in_.resize(second + 1);
  ++ended_in_[second];
  if (record.outcome == Outcome::kFailed) ++failures_[record.status];
  if (record.outcome != Outcome::kCompleted || record.chunks.empty()) return;
  output_tokens_ += record.output_tokens;
  const Latency latency = LatencyOf(record);
  AddRecent(latency.ttft_ms, ttft_ms_);
  if (latency.tpot_ms.has_value()) AddRecent(*latency.tpot_ms, tpot_ms_);
}

std::vector<std::string> LiveFigures::Lines(double seconds, int columns) const {
  const double elapsed = std::max(seconds, 0.001);
  std::string errors = failures_.empty() ? "none failed" : "failed:";
  for (const auto& [status, count] : failures_) absl::StrAppend(&errors, " ", count, " ", status);
  std::vector<std::string> lines = {
      absl::StrFormat("%d of %d in %.0f s, %.1f requests/s, %.1f output tokens/s", ended_, of_, seconds,
                      static_cast<double>(ended_) / elapsed, static_cast<double>(output_tokens_) / elapsed),
      absl::StrCat(Percentiles("TTFT", ttft_ms_), "; ", Percentiles("TPOT", tpot_ms_)), errors};
  const size_t room = static_cast<size_t>(std::max(columns, 1));
  for (std::string& line : lines) line = line.substr(0, room);
  // Seconds without an end count too, up to now.
  std::vector<int64_t> by_second = ended_in_;
  by_second.resize(std::max(by_second.size(), static_cast<size_t>(std::max(seconds, 0.0))));
  lines.push_back(Sparkline(by_second, std::min(room, kMostCells)));
  return lines;
}

LiveView::LiveView(int64_t of) : figures_(of) {
  if (isatty(STDERR_FILENO)) thread_ = std::thread([this] { Loop(); });
}

LiveView::~LiveView() {
  if (!thread_.joinable()) return;
  stop_.Notify();
  thread_.join();
  if (drawn_lines_ > 0) std::fprintf(stderr, "\033[%zuA\033[J", drawn_lines_);
}

void LiveView::Add(const Record& record) {
  if (!thread_.joinable()) return;
  absl::MutexLock lock(&mutex_);
  figures_.Add(record, std::chrono::duration<double>(Clock::now() - start_).count());
}

void LiveView::Loop() {
  while (!stop_.WaitForNotificationWithTimeout(kPeriod)) Draw();
}

void LiveView::Draw() {
  const double seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  std::string text = drawn_lines_ > 0 ? absl::StrFormat("\033[%dA", drawn_lines_) : "";
  std::vector<std::string> lines;
  {
    absl::MutexLock lock(&mutex_);
    lines = figures_.Lines(seconds, Columns());
  }
  for (const std::string& line : lines) absl::StrAppend(&text, line, "\033[K\n");
  drawn_lines_ = lines.size();
  std::fputs(text.c_str(), stderr);
}

}  // namespace nibble::loadtest
