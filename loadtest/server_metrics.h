// What a server's metrics port says while a run goes on.
#ifndef NIBBLE_LOADTEST_SERVER_METRICS_H_
#define NIBBLE_LOADTEST_SERVER_METRICS_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/synchronization/notification.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

struct ScrapedMetric {
  const char* name;       // vLLM's, which Nibble has too: the key of the series
  const char* llama_cpp;  // what llama.cpp's server calls the same, or null
  bool is_share = false;  // 0 to 1: several engines' are averaged; counts of several are added up
};

inline constexpr std::array<ScrapedMetric, 4> kScrapedMetrics = {{
    {"vllm:kv_cache_usage_perc", "llamacpp:kv_cache_usage_ratio", true},
    {"vllm:num_requests_running", "llamacpp:requests_processing"},
    {"vllm:num_requests_waiting", "llamacpp:requests_deferred"},
    {"vllm:num_preemptions_total", nullptr},
}};

// One value per row of kScrapedMetrics; NaN where the server does not say.
using ScrapedValues = std::array<double, kScrapedMetrics.size()>;

// `text`: Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats), from a server that may
// say anything: what does not parse is skipped.
ScrapedValues ParseMetrics(absl::string_view text);

struct MetricsSample {
  Clock::time_point at;  // when it was asked for
  ScrapedValues values;
};

struct ServerMetrics {
  std::vector<MetricsSample> samples;  // times rise
  int64_t failed_scrapes = 0;
  std::string first_failure;
};

// Scrapes on a thread of its own from construction on, every kScrapePeriod; a failure is counted, and the next scrape
// tries again.
class Scraper {
 public:
  static constexpr std::chrono::milliseconds kScrapePeriod{250};

  explicit Scraper(std::string url);
  Scraper(const Scraper&) = delete;
  Scraper& operator=(const Scraper&) = delete;
  ~Scraper();

  // What was scraped, one last time now. Once; blocks until the thread has ended.
  ServerMetrics Stop();

 private:
  void Loop();
  void ScrapeOnce();

  const std::string url_;
  ServerMetrics metrics_;  // the thread's own until it has ended
  absl::Notification stop_;
  std::thread thread_;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_SERVER_METRICS_H_
