// nibble-loadtest: sends requests to a serving daemon and reports how it held up.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "loadtest/arrivals.h"
#include "loadtest/client.h"
#include "loadtest/options.h"
#include "loadtest/report.h"
#include "loadtest/runner.h"
#include "loadtest/stats.h"
#include "loadtest/workload.h"

namespace nibble::loadtest {
namespace {

int64_t Concurrency(const Options& options) {
  const int64_t most = std::max(options.requests, options.warmup);
  return options.max_concurrency > 0 ? std::min(options.max_concurrency, most) : most;
}

std::vector<Request> Requests(const Options& options, int64_t count, int64_t vocab_size, uint64_t seed) {
  return MakeRequests({.requests = count,
                       .input_tokens = options.input_tokens,
                       .output_tokens = options.output_tokens,
                       .cancel_rate = options.cancel_rate,
                       .vocab_size = vocab_size,
                       .seed = seed});
}

void ShowProgress(int64_t ended, int64_t of) {
  if (isatty(STDERR_FILENO)) std::fprintf(stderr, ended < of ? "\r%ld of %ld " : "\r\033[K", ended, of);
}

void WarmUp(Client& client, const Options& options, int64_t vocab_size) {
  if (options.warmup == 0) return;
  // Other prompts than the run's, so that it finds none of them cached.
  const std::vector<Request> requests = Requests(options, options.warmup, vocab_size, ~options.seed);
  SendAll(client, requests, {.arrivals = {}, .max_concurrency = Concurrency(options)}, [](int64_t) {});
}

Measurement Measure(Client& client, const Options& options, int64_t vocab_size) {
  Schedule schedule{.arrivals = {}, .max_concurrency = Concurrency(options)};
  if (!std::isinf(options.rate)) {
    schedule.arrivals = ArrivalSeconds(options.requests, {options.rate, options.burstiness, options.seed});
  }
  return SendAll(client, Requests(options, options.requests, vocab_size, options.seed), schedule,
                 [&options](int64_t ended) { ShowProgress(ended, options.requests); });
}

absl::Status Report(const Options& options, const std::string& model, const Measurement& run) {
  const Summary summary = Summarize(run);
  if (options.json != "-") std::fputs(ToText(summary).c_str(), stdout);
  if (!options.requests_jsonl.empty()) {
    if (absl::Status status = WriteText(options.requests_jsonl, ToJsonLines(run)); !status.ok()) return status;
  }
  if (!options.json.empty()) {
    if (absl::Status status = WriteText(options.json, ToJson(options, model, run, summary)); !status.ok())
      return status;
  }
  if (summary.failed == 0) return absl::OkStatus();
  const auto failed = std::find_if(run.records.begin(), run.records.end(),
                                   [](const Record& record) { return record.outcome == Outcome::kFailed; });
  return absl::UnknownError(std::to_string(summary.failed) + " requests failed, the first with: " + failed->error);
}

absl::Status Execute(const Options& options) {
  absl::StatusOr<std::unique_ptr<Client>> client = MakeClient(options.target, options.model, Concurrency(options));
  if (!client.ok()) return client.status();
  const absl::StatusOr<ModelInfo> model = (*client)->Describe();
  if (!model.ok()) return model.status();
  if (model->vocab_size < 32) return absl::FailedPreconditionError("the server names no usable vocabulary size");
  WarmUp(**client, options, model->vocab_size);
  return Report(options, model->name, Measure(**client, options, model->vocab_size));
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
