#include "loadtest/server_metrics.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "loadtest/http_get.h"

namespace nibble::loadtest {
namespace {

// A server that takes longer has missed several scrapes already.
constexpr std::chrono::seconds kTimeout{2};

struct Total {
  double sum = 0;
  int64_t count = 0;
};

// The row that a line's metric belongs to, or -1.
int RowOf(absl::string_view name) {
  for (size_t row = 0; row < kScrapedMetrics.size(); ++row) {
    const ScrapedMetric& metric = kScrapedMetrics[row];
    if (name == metric.name || (metric.llama_cpp != nullptr && name == metric.llama_cpp)) return static_cast<int>(row);
  }
  return -1;
}

// "name{labels} value timestamp", labels and timestamp optional. Label values may hold anything, closing braces too.
void AddLine(absl::string_view line, std::array<Total, kScrapedMetrics.size()>& totals) {
  const size_t name_end = line.find_first_of("{ \t");
  if (name_end == absl::string_view::npos) return;
  const int row = RowOf(line.substr(0, name_end));
  if (row < 0) return;
  const size_t labels_end = line[name_end] == '{' ? line.rfind('}') : name_end;
  if (labels_end == absl::string_view::npos) return;
  const absl::string_view rest = absl::StripAsciiWhitespace(line.substr(labels_end + 1));
  double value = 0;
  if (!absl::SimpleAtod(rest.substr(0, rest.find_first_of(" \t")), &value) || !std::isfinite(value)) return;
  totals[row].sum += value;
  ++totals[row].count;
}

}  // namespace

ScrapedValues ParseMetrics(absl::string_view text) {
  std::array<Total, kScrapedMetrics.size()> totals;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) AddLine(line, totals);
  ScrapedValues values;
  for (size_t row = 0; row < values.size(); ++row) {
    const Total& total = totals[row];
    values[row] = kScrapedMetrics[row].is_share ? total.sum / static_cast<double>(total.count) : total.sum;
    if (total.count == 0) values[row] = std::numeric_limits<double>::quiet_NaN();
  }
  return values;
}

Scraper::Scraper(std::string url) : url_(std::move(url)), thread_([this] { Loop(); }) {}

Scraper::~Scraper() {
  if (thread_.joinable()) Stop();
}

ServerMetrics Scraper::Stop() {
  stop_.Notify();
  thread_.join();
  ScrapeOnce();
  return std::move(metrics_);
}

void Scraper::Loop() {
  Clock::time_point next = Clock::now();
  do {
    ScrapeOnce();
    // A slow scrape skips the times it has missed.
    while (next <= Clock::now()) next += kScrapePeriod;
  } while (!stop_.WaitForNotificationWithTimeout(absl::FromChrono(next - Clock::now())));
}

void Scraper::ScrapeOnce() {
  const Clock::time_point at = Clock::now();
  const absl::StatusOr<std::string> text = HttpGet(url_, kTimeout);
  if (text.ok()) {
    metrics_.samples.push_back({at, ParseMetrics(*text)});
  } else if (++metrics_.failed_scrapes == 1) {
    metrics_.first_failure = std::string(text.status().message());
  }
}

}  // namespace nibble::loadtest
