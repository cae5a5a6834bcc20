// nibble-loadtest: sends requests to a serving daemon and reports how it held up.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "loadtest/arrivals.h"
#include "loadtest/client.h"
#include "loadtest/html.h"
#include "loadtest/live.h"
#include "loadtest/mix.h"
#include "loadtest/options.h"
#include "loadtest/report.h"
#include "loadtest/runner.h"
#include "loadtest/server_metrics.h"
#include "loadtest/stats.h"
#include "loadtest/steady_state.h"
#include "loadtest/sweep.h"
#include "loadtest/verdict.h"
#include "loadtest/workload.h"

namespace nibble::loadtest {
namespace {

int64_t Concurrency(const Options& options) {
  const int64_t most = std::max(options.requests, options.warmup);
  return options.max_concurrency > 0 ? std::min(options.max_concurrency, most) : most;
}

WorkloadOptions WorkloadOf(const Options& options, int64_t count, int64_t vocab_size, uint64_t seed) {
  return {.requests = count,
          .input_tokens = options.input_tokens,
          .output_tokens = options.output_tokens,
          .cancel_rate = options.cancel_rate,
          .vocab_size = vocab_size,
          .seed = seed};
}

std::vector<Request> PlainRequests(const Options& options, int64_t vocab_size) {
  const WorkloadOptions workload = WorkloadOf(options, options.requests, vocab_size, options.seed);
  if (options.workload == "trace") return TraceRequests(workload, options.trace);
  if (options.workload == "shared-prefix") return SharedPrefixRequests(workload, options.prefixes);
  if (options.workload == "chat") return ChatRequests(workload, options.conversations);
  return RandomRequests(workload);
}

std::vector<Request> MakeRequests(const Options& options, int64_t vocab_size) {
  std::vector<Request> requests = PlainRequests(options, vocab_size);
  AssignAdapters(options.adapters, options.seed, requests);
  AssignTenants(options.tenants, options.seed, requests);
  AssignStalls(options.stalls, options.seed, requests);
  return requests;
}

// Empty where requests go as soon as they may.
std::vector<double> Arrivals(const Options& options, const std::vector<Request>& requests) {
  if (options.workload == "trace") {
    std::vector<double> seconds = TraceSeconds(options.trace, options.rate);
    seconds.resize(options.requests);
    return seconds;
  }
  if (std::isinf(options.rate)) return {};
  const auto independent =
      std::count_if(requests.begin(), requests.end(), [](const Request& r) { return r.follows < 0; });
  return ArrivalSeconds(independent, {options.rate, options.burstiness, options.ramp_from, options.seed});
}

void WarmUp(Client& client, const Options& options, int64_t vocab_size) {
  if (options.warmup == 0) return;
  // Other prompts than the run's, so that it finds none of them cached.
  std::vector<Request> requests = RandomRequests(WorkloadOf(options, options.warmup, vocab_size, ~options.seed));
  AssignAdapters(options.adapters, options.seed, requests);
  AssignTenants(options.tenants, options.seed, requests);
  SendAll(client, requests, {.arrivals = {}, .max_concurrency = Concurrency(options)},
          [](int64_t, const Record&) { return true; });
}

// The figures of the requests stand without them.
void WarnOfFailedScrapes(const ServerMetrics& metrics) {
  if (metrics.failed_scrapes == 0) return;
  std::fprintf(stderr, "nibble-loadtest: warning: %ld of %ld scrapes failed, the first with: %s\n",
               metrics.failed_scrapes, metrics.failed_scrapes + static_cast<int64_t>(metrics.samples.size()),
               metrics.first_failure.c_str());
}

Measurement Measure(Client& client, const Options& options, int64_t vocab_size, const Progress& progress) {
  const std::vector<Request> requests = MakeRequests(options, vocab_size);
  const Schedule schedule{.arrivals = Arrivals(options, requests), .max_concurrency = Concurrency(options)};
  std::optional<Scraper> scraper;
  if (!options.metrics_url.empty()) scraper.emplace(options.metrics_url);
  Measurement run;
  {
    LiveView view(options.requests);
    run = SendAll(client, requests, schedule, [&](int64_t ended, const Record& record) {
      view.Add(record);
      return progress(ended, record);
    });
  }
  if (scraper.has_value()) run.metrics = scraper->Stop();
  WarnOfFailedScrapes(run.metrics);
  return run;
}

// `plotted`: the run that `report` is about.
absl::Status WriteReport(const Options& options, const std::string& report, const Measurement& plotted) {
  absl::Status status;
  if (!options.json.empty()) status.Update(WriteText(options.json, report));
  if (!options.html.empty()) status.Update(WriteText(options.html, ToHtml(report, plotted)));
  return status;
}

// Without a steady state where nothing is left of it.
Results ResultsOf(const Options& options, const Measurement& run) {
  Results results{Summarize(run, options.slo), {}, SummarizeTenants(run, options.slo), {}};
  results.invalid = std::string(CheckClient(run, results.whole).message());
  if (!options.steady_state.has_value()) return results;
  const Window window = SteadyWindow(run, *options.steady_state);
  if (window.seconds() > 0) results.steady_state = SummarizeWindow(run, options.slo, window);
  return results;
}

absl::Status Report(const Options& options, const std::string& model, const Measurement& run) {
  const Results results = ResultsOf(options, run);
  absl::Status status = Judge(run, results.whole);
  if (options.steady_state.has_value() && !results.steady_state.has_value()) {
    status.Update(
        absl::FailedPreconditionError("--steady-state: leaves nothing of the time in which requests were sent"));
  }
  if (options.json != "-") std::fputs(ToText(results).c_str(), stdout);
  if (!options.requests_jsonl.empty()) status.Update(WriteText(options.requests_jsonl, ToJsonLines(run)));
  status.Update(WriteReport(options, ToJson(options, model, run, results), run));
  return status;
}

// Every probe sends other prompts, so that none finds the last one's in a cache.
class Sweep {
 public:
  Sweep(Client& client, const Options& options, const ModelInfo& model)
      : client_(client), options_(options), model_(model) {}

  absl::Status Run() {
    const double first = std::isinf(options_.rate) ? 1 : options_.rate;
    const double highest = FindHighestRate(first, [this](double rate) { return Holds(rate); });
    if (options_.json != "-") std::printf("highest rate held: %.2f requests/s\n", highest);
    status_.Update(WriteReport(options_, SweepToJson(options_, model_.name, highest, probes_, best_), best_));
    if (highest == 0) status_.Update(absl::UnavailableError("no rate holds " + options_.slo_text));
    return status_;
  }

 private:
  bool Holds(double rate) {
    Options at = options_;
    at.rate = rate;
    at.seed += probes_.size();
    const int64_t allowed = MissesAllowed(at.requests);
    int64_t missed = 0;
    Measurement run = Measure(client_, at, model_.vocab_size, [&](int64_t, const Record& record) {
      missed += Misses(record, *at.slo);
      return missed <= allowed;
    });
    const Summary summary = Summarize(run, at.slo);
    const absl::Status client = CheckClient(run, summary);
    status_.Update(client);
    const bool held = missed <= allowed;
    probes_.push_back({rate, held, std::ssize(run.records), summary, std::string(client.message())});
    if (options_.json != "-") std::fputs(ToText(probes_.back()).c_str(), stdout);
    std::fflush(stdout);  // a probe takes a while
    Keep(held, std::move(run));
    return held;
  }

  // Rates held only rise, so the last of them is the highest.
  void Keep(bool held, Measurement run) {
    any_held_ = any_held_ || held;
    if (held || !any_held_) best_ = std::move(run);
  }

  Client& client_;
  const Options& options_;
  const ModelInfo& model_;
  std::vector<Probe> probes_;
  Measurement best_;  // at the highest rate held; the last probe's while none is
  bool any_held_ = false;
  absl::Status status_;
};

absl::Status Execute(const Options& options) {
  absl::StatusOr<std::unique_ptr<Client>> client =
      MakeClient(options.target, options.model, Concurrency(options), options.tls);
  if (!client.ok()) return client.status();
  const absl::StatusOr<ModelInfo> model = (*client)->Describe(options.tenants.empty() ? "" : options.tenants[0].key);
  if (!model.ok()) return model.status();
  if (model->vocab_size < 32) return absl::FailedPreconditionError("the server names no usable vocabulary size");
  WarmUp(**client, options, model->vocab_size);
  if (options.sweep) return Sweep(**client, options, *model).Run();
  const auto all = [](int64_t, const Record&) { return true; };
  return Report(options, model->name, Measure(**client, options, model->vocab_size, all));
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "nibble-loadtest: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? 2 : 1;
}

int Main(const std::vector<std::string>& words) {
  if (std::find(words.begin(), words.end(), "--help") != words.end()) {
    std::fputs(HelpText().c_str(), stdout);
    return 0;
  }
  const absl::StatusOr<Options> options = ParseOptions(words);
  if (!options.ok()) return Fail(options.status());
  const absl::Status status = Execute(*options);
  return status.ok() ? 0 : Fail(status);
}

}  // namespace
}  // namespace nibble::loadtest

int main(int argc, char** argv) { return nibble::loadtest::Main({argv + 1, argv + argc}); }
