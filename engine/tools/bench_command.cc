#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "engine/tools/bench.h"
#include "engine/tools/files.h"
#include "engine/tools/terminal.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::StatusOr<BenchOptions> BenchOptionsFromFlags() {
  BenchOptions options;
  options.prefill_tokens = absl::GetFlag(FLAGS_prefill);
  options.decode_steps = absl::GetFlag(FLAGS_decode);
  options.repeat = absl::GetFlag(FLAGS_repeat);
  NIBBLE_ASSIGN_OR_RETURN(options.batches, NumbersOf("batch", absl::GetFlag(FLAGS_batch), 1));
  NIBBLE_ASSIGN_OR_RETURN(options.depths, NumbersOf("depth", absl::GetFlag(FLAGS_depth), 0));
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<RunMode> modes, RunModesFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(options.adapters, NumbersOf("adapters", absl::GetFlag(FLAGS_adapters), 0));
  options.codecs = CodecsFromFlags();
  if (modes.size() != options.codecs.size()) return absl::InvalidArgumentError("--activations: one value is needed");
  options.activations = modes.front().activations;
  return options;
}

void PrintReport(const BenchReport& report) {
  const BenchMachine& machine = report.machine;
  std::printf("%s, %s, %d threads: %.0f int8 GMAC/s, %.1f GB/s\n", machine.cpu.c_str(), machine.isa.c_str(),
              machine.threads, machine.int8_gmacs, machine.read_gbps);
  std::printf("%-8s %6s %7s %8s %-7s %14s %9s %9s %11s\n", "kind", "batch", "depth", "adapters", "kv", "tokens/s",
              "GMAC/s", "of compute", "of bandwidth");
  for (const BenchRow& row : report.rows) {
    std::printf("%-8s %6lld %7lld %8lld %-7s %14.1f %9.1f %9.1f%% %10.1f%%\n", row.kind.c_str(),
                static_cast<long long>(row.batch), static_cast<long long>(row.depth),
                static_cast<long long>(row.adapters), row.kv.c_str(), row.tokens_per_second, row.gmacs,
                100 * row.of_compute_peak, 100 * row.of_bandwidth_peak);
  }
}

}  // namespace

std::string BenchJson(const BenchReport& report) {
  const BenchMachine& machine = report.machine;
  nlohmann::ordered_json json = {{"machine",
                                  {{"cpu", machine.cpu},
                                   {"isa", machine.isa},
                                   {"threads", machine.threads},
                                   {"int8_gmacs", machine.int8_gmacs},
                                   {"read_gbps", machine.read_gbps}}},
                                 {"rows", nlohmann::ordered_json::array()}};
  for (const BenchRow& row : report.rows) {
    json["rows"].push_back({{"kind", row.kind},
                            {"batch", row.batch},
                            {"depth", row.depth},
                            {"adapters", row.adapters},
                            {"kv", row.kv},
                            {"tokens_per_second", row.tokens_per_second},
                            {"gmacs", row.gmacs},
                            {"of_compute_peak", row.of_compute_peak},
                            {"of_bandwidth_peak", row.of_bandwidth_peak}});
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

absl::Status RunBench(const std::vector<std::string>& /*positionals*/) {
  NIBBLE_RETURN_IF_ERROR(RequireText("model", absl::GetFlag(FLAGS_model)));
  NIBBLE_ASSIGN_OR_RETURN(const BenchOptions options, BenchOptionsFromFlags());
  const std::string json_path = absl::GetFlag(FLAGS_json);
  NIBBLE_RETURN_IF_ERROR(CheckWritable(json_path));
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel model, OpenModelFromFlags());
  BenchReport report;
  {
    ProgressLine line("bench: runs");
    NIBBLE_ASSIGN_OR_RETURN(report,
                            Bench(model, options, [&line](int64_t done, int64_t all) { line.Show(done, all); }));
  }
  if (json_path != "-") PrintReport(report);
  return json_path.empty() ? absl::OkStatus() : WriteWholeFile(json_path, BenchJson(report));
}

}  // namespace nibble::engine
