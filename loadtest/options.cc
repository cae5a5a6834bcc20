#include "loadtest/options.h"

#include <map>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

ABSL_FLAG(std::string, target, "", "grpc://ADDR (nibble.v1) or http://ADDR (an OpenAI-compatible server)");
ABSL_FLAG(std::string, model, "", "model to ask for; empty: the one that is served");
ABSL_FLAG(int64_t, requests, 100, "requests to send");
ABSL_FLAG(double, rate, HUGE_VAL, "requests per second; inf: as many at a time as --max-concurrency allows");
ABSL_FLAG(double, burstiness, 1, "shape of the gamma-distributed gaps; 1: Poisson arrivals, above: steadier");
ABSL_FLAG(int64_t, max_concurrency, 0, "most requests in flight; 0: no limit");
ABSL_FLAG(uint64_t, seed, 0, "seed of prompts, arrivals and cancels");
ABSL_FLAG(int64_t, warmup, 0, "requests sent first that no figure counts");
ABSL_FLAG(std::string, workload, "random", "random: prompts of random token ids");
ABSL_FLAG(int64_t, input_tokens, 128, "tokens of each prompt");
ABSL_FLAG(int64_t, output_tokens, 128, "tokens of each answer");
ABSL_FLAG(double, cancel_rate, 0, "share of requests that the client hangs up on, after a random number of tokens");
ABSL_FLAG(std::string, json, "", "file for the figures as one JSON object; -: standard output");
ABSL_FLAG(std::string, requests_jsonl, "", "file for one JSON object per request");

namespace nibble::loadtest {
namespace {

absl::Status Invalid(absl::string_view flag, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", why));
}

// Sets the flag that words[*i] names and moves *i past what it took.
absl::Status ReadFlag(const std::vector<std::string>& words, size_t* i) {
  const std::string& word = words[(*i)++];
  if (word.size() < 3 || word.substr(0, 2) != "--") {
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument '", word, "'"));
  }
  const size_t equals = word.find('=');
  const std::string name = word.substr(2, equals == std::string::npos ? equals : equals - 2);
  absl::CommandLineFlag* flag = absl::FindCommandLineFlag(absl::StrReplaceAll(name, {{"-", "_"}}));
  if (flag == nullptr) return Invalid(name, "unknown flag");
  if (equals == std::string::npos && *i == words.size()) return Invalid(name, "needs a value");
  const std::string value = equals == std::string::npos ? words[(*i)++] : word.substr(equals + 1);
  std::string error;
  if (!flag->ParseFrom(value, &error)) return Invalid(name, absl::StrCat("cannot read '", value, "'"));
  return absl::OkStatus();
}

Options FromFlags() {
  Options options;
  options.target = absl::GetFlag(FLAGS_target);
  options.model = absl::GetFlag(FLAGS_model);
  options.requests = absl::GetFlag(FLAGS_requests);
  options.rate = absl::GetFlag(FLAGS_rate);
  options.burstiness = absl::GetFlag(FLAGS_burstiness);
  options.max_concurrency = absl::GetFlag(FLAGS_max_concurrency);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.warmup = absl::GetFlag(FLAGS_warmup);
  options.workload = absl::GetFlag(FLAGS_workload);
  options.input_tokens = absl::GetFlag(FLAGS_input_tokens);
  options.output_tokens = absl::GetFlag(FLAGS_output_tokens);
  options.cancel_rate = absl::GetFlag(FLAGS_cancel_rate);
  options.json = absl::GetFlag(FLAGS_json);
  options.requests_jsonl = absl::GetFlag(FLAGS_requests_jsonl);
  return options;
}

// Comparisons are written so that NaN fails them.
absl::Status Validate(const Options& options) {
  constexpr int64_t kMostRequests = 10'000'000;
  constexpr int64_t kMostTokens = 10'000'000;
  if (options.target.empty()) return Invalid("target", "is required");
  if (options.requests < 1 || options.requests > kMostRequests) return Invalid("requests", "must be 1 to 10000000");
  if (!(options.rate > 0)) return Invalid("rate", "must be above 0");
  if (!(options.burstiness > 0 && options.burstiness <= 1e6)) return Invalid("burstiness", "must be above 0");
  if (options.max_concurrency < 0) return Invalid("max-concurrency", "must not be negative");
  if (options.warmup < 0 || options.warmup > kMostRequests) return Invalid("warmup", "must be 0 to 10000000");
  if (options.workload != "random") return Invalid("workload", "must be random");
  if (options.input_tokens < 1 || options.input_tokens > kMostTokens) return Invalid("input-tokens", "must be above 0");
  if (options.output_tokens < 1 || options.output_tokens > kMostTokens) {
    return Invalid("output-tokens", "must be above 0");
  }
  if (!(options.cancel_rate >= 0 && options.cancel_rate <= 1)) return Invalid("cancel-rate", "must be 0 to 1");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size();) {
    if (const absl::Status status = ReadFlag(words, &i); !status.ok()) return status;
  }
  const Options options = FromFlags();
  if (const absl::Status status = Validate(options); !status.ok()) return status;
  return options;
}

std::string HelpText() {
  std::string text = "usage: nibble-loadtest --target grpc://ADDR|http://ADDR [flags]\n\n";
  std::map<std::string, const absl::CommandLineFlag*> sorted;
  for (const auto& [name, flag] : absl::GetAllFlags()) sorted[std::string(name)] = flag;
  for (const auto& [name, flag] : sorted) {
    absl::StrAppend(&text, "  --", absl::StrReplaceAll(name, {{"_", "-"}}), "  ", flag->Help(), " (default '",
                    flag->DefaultValue(), "')\n");
  }
  return text;
}

}  // namespace nibble::loadtest
