#include "loadtest/options.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <map>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "loadtest/sweep.h"

ABSL_FLAG(std::string, scenario, "", "file of flags, one a line; those of the command line count before them");
ABSL_FLAG(std::string, target, "",
          "grpc://ADDR (nibble.v1), vllm-grpc://ADDR (VllmEngine) or http://ADDR (an OpenAI-compatible server)");
ABSL_FLAG(std::string, model, "", "model to ask for; empty: the one that is served");
ABSL_FLAG(int64_t, requests, 100, "requests to send; of a trace, at most this many of its lines");
ABSL_FLAG(double, rate, HUGE_VAL,
          "requests per second; inf: as many at a time as --max-concurrency allows, or a trace at its own times");
ABSL_FLAG(double, burstiness, 1, "shape of the gamma-distributed gaps; 1: Poisson arrivals, above: steadier");
ABSL_FLAG(double, ramp_from, 0, "requests per second at the start, from which the rate grows evenly; 0: no ramp");
ABSL_FLAG(int64_t, max_concurrency, 0, "most requests in flight; 0: no limit");
ABSL_FLAG(uint64_t, seed, 0, "seed of prompts, arrivals and cancels");
ABSL_FLAG(int64_t, warmup, 0, "requests sent first that no figure counts");
ABSL_FLAG(std::string, workload, "random",
          "random: prompts of random token ids; shared-prefix: each behind one of --prefix-groups; chat: conversations "
          "of --turns; "
          "trace: --workload-file");
ABSL_FLAG(std::string, workload_file, "",
          "a trace: JSON lines of timestamp (ms), input_length, output_length, hash_ids");
ABSL_FLAG(std::string, input_tokens, "128",
          "tokens of each prompt, or behind its prefix: N, uniform:LOW:HIGH, lognormal:MEDIAN:SIGMA or file:PATH");
ABSL_FLAG(std::string, output_tokens, "128", "tokens of each answer, in the same forms");
ABSL_FLAG(int64_t, prefix_groups, 8, "prefixes that prompts of shared-prefix begin with");
ABSL_FLAG(int64_t, prefix_tokens, 512, "tokens of each of them");
ABSL_FLAG(std::string, turns, "4", "requests of each conversation of chat, in the same forms");
ABSL_FLAG(absl::Duration, think_time, absl::ZeroDuration(),
          "mean time between an answer of chat and the next turn, exponentially distributed");
ABSL_FLAG(std::string, adapters, "", "fine-tunes to ask for, as NAME,NAME...; empty: the model itself");
ABSL_FLAG(std::string, adapter_mix, "uniform", "uniform: all alike; zipf: the n-th in proportion to 1/n");
ABSL_FLAG(std::string, tenants, "",
          "file of lines NAME KEY SHARE: whose keys go with the requests, and in what shares");
ABSL_FLAG(std::string, tls_ca, "", "PEM file: the CA of a gRPC server's certificate; empty: no TLS");
ABSL_FLAG(std::string, tls_cert, "", "PEM file: a client certificate, where the server asks for one");
ABSL_FLAG(std::string, tls_key, "", "PEM file: the certificate's key");
ABSL_FLAG(double, stall_rate, 0, "share of requests whose client stops reading after a random number of tokens");
ABSL_FLAG(absl::Duration, stall_time, absl::Seconds(40), "how long it stops reading");
ABSL_FLAG(double, cancel_rate, 0, "share of requests that the client hangs up on, after a random number of tokens");
ABSL_FLAG(std::string, slo, "", "objective of every answer, such as ttft:200ms,tpot:50ms,e2el:2s; gives the goodput");
ABSL_FLAG(bool, sweep, false, "find the highest rate at which 99 of 100 requests meet --slo, from --rate on");
ABSL_FLAG(std::string, steady_state, "",
          "WARMUP:COOLDOWN, such as 10s:5s: figures also without the beginning and the end of the sending");
ABSL_FLAG(
    std::string, metrics_url, "",
    "the server's metrics, such as http://127.0.0.1:9090/metrics, scraped four times a second for --json and --html");
ABSL_FLAG(std::string, json, "", "file for the figures as one JSON object; -: standard output");
ABSL_FLAG(std::string, html, "", "file for the figures and plots as one self-contained page");
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
  std::string value;
  if (equals != std::string::npos) {
    value = word.substr(equals + 1);
  } else if (flag->IsOfType<bool>()) {
    value = "true";
  } else {
    if (*i == words.size()) return Invalid(name, "needs a value");
    value = words[(*i)++];
  }
  std::string error;
  if (!flag->ParseFrom(value, &error)) return Invalid(name, absl::StrCat("cannot read '", value, "'"));
  return absl::OkStatus();
}

absl::Status ReadFlags(const std::vector<std::string>& words) {
  for (size_t i = 0; i < words.size();) {
    if (const absl::Status status = ReadFlag(words, &i); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// Blank lines and those that begin with # are skipped.
absl::Status ReadScenario(const std::string& path) {
  std::ifstream file(path);
  if (!file) return Invalid("scenario", absl::StrCat("cannot read ", path));
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
    if (const absl::Status status = ReadFlags(words); !status.ok()) {
      return Invalid("scenario", absl::StrCat(path, ":", number, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

Options FromFlags() {
  Options options;
  options.scenario = absl::GetFlag(FLAGS_scenario);
  options.target = absl::GetFlag(FLAGS_target);
  options.model = absl::GetFlag(FLAGS_model);
  options.requests = absl::GetFlag(FLAGS_requests);
  options.rate = absl::GetFlag(FLAGS_rate);
  options.burstiness = absl::GetFlag(FLAGS_burstiness);
  options.ramp_from = absl::GetFlag(FLAGS_ramp_from);
  options.max_concurrency = absl::GetFlag(FLAGS_max_concurrency);
  options.seed = absl::GetFlag(FLAGS_seed);
  options.warmup = absl::GetFlag(FLAGS_warmup);
  options.workload = absl::GetFlag(FLAGS_workload);
  options.prefixes = {absl::GetFlag(FLAGS_prefix_groups), absl::GetFlag(FLAGS_prefix_tokens)};
  options.conversations.think_time_s = absl::ToDoubleSeconds(absl::GetFlag(FLAGS_think_time));
  options.stalls = {absl::GetFlag(FLAGS_stall_rate), absl::ToChronoMilliseconds(absl::GetFlag(FLAGS_stall_time))};
  options.adapters.names = absl::StrSplit(absl::GetFlag(FLAGS_adapters), ',', absl::SkipEmpty());
  options.adapters.zipf = absl::GetFlag(FLAGS_adapter_mix) == "zipf";
  options.cancel_rate = absl::GetFlag(FLAGS_cancel_rate);
  options.slo_text = absl::GetFlag(FLAGS_slo);
  options.sweep = absl::GetFlag(FLAGS_sweep);
  options.metrics_url = absl::GetFlag(FLAGS_metrics_url);
  options.json = absl::GetFlag(FLAGS_json);
  options.html = absl::GetFlag(FLAGS_html);
  options.requests_jsonl = absl::GetFlag(FLAGS_requests_jsonl);
  return options;
}

// Comparisons are written so that NaN fails them.
absl::Status ValidateReaders(const Options& options) {
  if (!(options.cancel_rate >= 0 && options.cancel_rate <= 1)) return Invalid("cancel-rate", "must be 0 to 1");
  if (!(options.stalls.rate >= 0 && options.stalls.rate <= 1)) return Invalid("stall-rate", "must be 0 to 1");
  if (options.stalls.time <= absl::ToChronoMilliseconds(absl::ZeroDuration()) ||
      options.stalls.time > std::chrono::hours(1)) {
    return Invalid("stall-time", "must be above 0 and at most 1h");
  }
  if (!(options.conversations.think_time_s >= 0 && options.conversations.think_time_s <= 3600)) {
    return Invalid("think-time", "must be 0 to 1h");
  }
  const std::string mix = absl::GetFlag(FLAGS_adapter_mix);
  if (mix != "uniform" && mix != "zipf") return Invalid("adapter-mix", "must be uniform or zipf");
  return absl::OkStatus();
}

absl::Status Validate(const Options& options) {
  constexpr int64_t kMostRequests = 10'000'000;
  if (options.target.empty()) return Invalid("target", "is required");
  if (options.requests < 1 || options.requests > kMostRequests) return Invalid("requests", "must be 1 to 10000000");
  if (!(options.rate > 0)) return Invalid("rate", "must be above 0");
  if (!(options.burstiness > 0 && options.burstiness <= 1e6)) return Invalid("burstiness", "must be above 0");
  if (options.max_concurrency < 0) return Invalid("max-concurrency", "must not be negative");
  if (options.warmup < 0 || options.warmup > kMostRequests) return Invalid("warmup", "must be 0 to 10000000");
  if (!(options.ramp_from >= 0 && options.ramp_from <= 1e6)) return Invalid("ramp-from", "must be 0 to 1000000");
  if (options.ramp_from > 0 && (std::isinf(options.rate) || options.workload == "trace")) {
    return Invalid("ramp-from", "needs a --rate to come to, and no trace");
  }
  if (options.prefixes.groups < 1 || options.prefixes.groups > kMostRequests) {
    return Invalid("prefix-groups", "must be 1 to 10000000");
  }
  if (options.prefixes.tokens < 0 || options.prefixes.tokens > Lengths::kMost) {
    return Invalid("prefix-tokens", "must be 0 to 10000000");
  }
  if (!options.metrics_url.empty() && !absl::StartsWith(options.metrics_url, "http://")) {
    return Invalid("metrics-url", "must be http://HOST:PORT/PATH");
  }
  if (!options.adapters.names.empty() && absl::StartsWith(options.target, "vllm-grpc://")) {
    return Invalid("adapters", "a request over vllm-grpc names none");
  }
  return ValidateReaders(options);
}

absl::Status ReadLengths(absl::string_view flag, const std::string& text, Lengths* lengths) {
  const absl::StatusOr<Lengths> parsed = Lengths::Parse(text);
  if (!parsed.ok()) return Invalid(flag, parsed.status().message());
  *lengths = *parsed;
  return absl::OkStatus();
}

absl::Status ReadWorkload(const std::string& file, Options* options) {
  constexpr absl::string_view kWorkloads[] = {"random", "shared-prefix", "chat", "trace"};
  if (std::find(std::begin(kWorkloads), std::end(kWorkloads), options->workload) == std::end(kWorkloads)) {
    return Invalid("workload", absl::StrCat("must be one of ", absl::StrJoin(kWorkloads, ", ")));
  }
  if ((options->workload == "trace") == file.empty()) return Invalid("workload-file", "goes with --workload trace");
  if (file.empty()) return absl::OkStatus();
  absl::StatusOr<std::vector<TraceLine>> trace = ReadTrace(file);
  if (!trace.ok()) return Invalid("workload-file", trace.status().message());
  options->trace = *std::move(trace);
  options->requests = std::min(options->requests, static_cast<int64_t>(options->trace.size()));
  return absl::OkStatus();
}

absl::Status ReadObjective(Options* options) {
  if (options->sweep && options->slo_text.empty()) return Invalid("sweep", "needs an objective: --slo");
  if (options->sweep && std::isfinite(options->rate) && !(options->rate >= kLeastRate && options->rate <= kMostRate)) {
    return Invalid("rate", "must be 1/64 to 65536 for --sweep to begin with");
  }
  if (options->sweep && !options->requests_jsonl.empty())
    return Invalid("requests-jsonl", "goes with one run, not with --sweep");
  if (options->slo_text.empty()) return absl::OkStatus();
  const absl::StatusOr<Slo> slo = ParseSlo(options->slo_text);
  if (!slo.ok()) return Invalid("slo", slo.status().message());
  options->slo = *slo;
  return absl::OkStatus();
}

absl::Status ReadTenants(const std::string& path, Options* options) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path);
  if (!file) return Invalid("tenants", absl::StrCat("cannot read ", path));
  absl::StatusOr<std::vector<Tenant>> tenants = ParseTenants(file, path);
  if (!tenants.ok()) return Invalid("tenants", tenants.status().message());
  options->tenants = *std::move(tenants);
  return absl::OkStatus();
}

absl::Status ReadSteadyState(const std::string& text, Options* options) {
  if (text.empty()) return absl::OkStatus();
  if (options->sweep) return Invalid("steady-state", "goes with one run, not with --sweep");
  const absl::StatusOr<Cut> cut = ParseCut(text);
  if (!cut.ok()) return Invalid("steady-state", cut.status().message());
  options->steady_state = *cut;
  return absl::OkStatus();
}

absl::Status ReadPem(absl::string_view flag, const std::string& path, std::string* pem) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path);
  pem->assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  if (pem->empty()) return Invalid(flag, absl::StrCat("cannot read ", path));
  return absl::OkStatus();
}

absl::Status ReadTls(Options* options) {
  const std::string ca = absl::GetFlag(FLAGS_tls_ca);
  const std::string certificate = absl::GetFlag(FLAGS_tls_cert), key = absl::GetFlag(FLAGS_tls_key);
  if (certificate.empty() != key.empty()) {
    return absl::InvalidArgumentError("--tls-cert, --tls-key: one is nothing without the other");
  }
  if (ca.empty() && !certificate.empty()) return Invalid("tls-cert", "needs --tls-ca");
  if (!ca.empty() && absl::StartsWith(options->target, "http://")) return Invalid("tls-ca", "goes with a gRPC target");
  absl::Status status = ReadPem("tls-ca", ca, &options->tls.ca);
  if (status.ok()) status = ReadPem("tls-cert", certificate, &options->tls.certificate);
  if (status.ok()) status = ReadPem("tls-key", key, &options->tls.key);
  return status;
}

// What is more than a number.
absl::Status ReadTexts(Options* options) {
  absl::Status status = ReadLengths("input-tokens", absl::GetFlag(FLAGS_input_tokens), &options->input_tokens);
  if (status.ok()) {
    status = ReadLengths("output-tokens", absl::GetFlag(FLAGS_output_tokens), &options->output_tokens);
  }
  if (status.ok()) status = ReadLengths("turns", absl::GetFlag(FLAGS_turns), &options->conversations.turns);
  if (status.ok()) status = ReadObjective(options);
  if (status.ok()) status = ReadTenants(absl::GetFlag(FLAGS_tenants), options);
  if (status.ok()) status = ReadTls(options);
  if (status.ok()) status = ReadSteadyState(absl::GetFlag(FLAGS_steady_state), options);
  if (status.ok()) status = ReadWorkload(absl::GetFlag(FLAGS_workload_file), options);
  return status;
}

}  // namespace

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& words) {
  absl::Status status = ReadFlags(words);
  if (status.ok() && !absl::GetFlag(FLAGS_scenario).empty()) {
    status = ReadScenario(absl::GetFlag(FLAGS_scenario));
    status.Update(ReadFlags(words));  // again, over the file's
  }
  if (!status.ok()) return status;
  Options options = FromFlags();
  status = Validate(options);
  if (status.ok()) status = ReadTexts(&options);
  if (!status.ok()) return status;
  return options;
}

std::string HelpText() {
  std::string text = "usage: nibble-loadtest --target grpc://ADDR|vllm-grpc://ADDR|http://ADDR [flags]\n\n";
  std::map<std::string, const absl::CommandLineFlag*> sorted;
  for (const auto& [name, flag] : absl::GetAllFlags()) sorted[std::string(name)] = flag;
  for (const auto& [name, flag] : sorted) {
    absl::StrAppend(&text, "  --", absl::StrReplaceAll(name, {{"_", "-"}}), "  ", flag->Help(), " (default '",
                    flag->DefaultValue(), "')\n");
  }
  return text;
}

}  // namespace nibble::loadtest
