#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/tools/eval.h"
#include "engine/tools/files.h"
#include "engine/tools/retrieval.h"
#include "engine/tools/terminal.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int32_t kDefaultChunks = 8;

absl::StatusOr<EvalOptions> EvalOptionsFromFlags() {
  EvalOptions options;
  options.chunks.context = absl::GetFlag(FLAGS_context);
  options.chunks.most = absl::GetFlag(FLAGS_chunks).value_or(kDefaultChunks);
  const std::string score = absl::GetFlag(FLAGS_score);
  if (score != "second-half" && score != "all") {
    return absl::InvalidArgumentError(absl::StrCat("--score=", score, ": is neither second-half nor all"));
  }
  options.second_half = score == "second-half";
  NIBBLE_ASSIGN_OR_RETURN(options.modes, RunModesFromFlags());
  return options;
}

void PrintTable(absl::Span<const EvalRow> rows) {
  std::printf("%-8s %-12s %-7s %8s %12s %10s %8s %9s  %s\n", "weights", "activations", "kv", "kv_bits", "ppl", "kld",
              "top1", "seconds", "logits_sha256");
  for (const EvalRow& row : rows) {
    std::printf("%-8s %-12s %-7s %8.2f %12.4f %10.6f %8.4f %9.1f  %.16s…\n", row.mode.weights.c_str(),
                row.mode.activations.c_str(), row.mode.kv.c_str(), row.kv_bits, row.perplexity, row.kl_divergence,
                row.top1, row.seconds, row.logits_sha256.c_str());
  }
}

absl::Status WriteJson(const nlohmann::ordered_json& json) {
  return WriteWholeFile(absl::GetFlag(FLAGS_json),
                        json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void PrintRetrieval(absl::Span<const RetrievalRow> rows) {
  std::printf("%-8s %-12s %-7s %-10s %7s %6s %7s  %s\n", "weights", "activations", "kv", "kind", "length", "found",
              "trials", "found at 10, 30, 50, 70, 90 %");
  for (const RetrievalRow& row : rows) {
    std::printf("%-8s %-12s %-7s %-10s %7lld %6d %7d  %s\n", row.mode.weights.c_str(), row.mode.activations.c_str(),
                row.mode.kv.c_str(), row.kind.c_str(), static_cast<long long>(row.length), row.found, row.trials,
                absl::StrJoin(row.found_at, " ").c_str());
  }
}

nlohmann::ordered_json RetrievalJson(const std::string& model_path, absl::Span<const RetrievalRow> rows) {
  nlohmann::ordered_json json = {{"model", model_path}, {"retrieval", nlohmann::ordered_json::array()}};
  for (const RetrievalRow& row : rows) {
    json["retrieval"].push_back({{"weights", row.mode.weights},
                                 {"activations", row.mode.activations},
                                 {"kv", row.mode.kv},
                                 {"kind", row.kind},
                                 {"length", row.length},
                                 {"found", row.found},
                                 {"trials", row.trials},
                                 {"found_at", row.found_at}});
  }
  return json;
}

absl::Status EvaluateRetrieval(const OpenedModel& model, const std::string& text) {
  RetrievalOptions options;
  NIBBLE_ASSIGN_OR_RETURN(options.lengths, NumbersOf("retrieval", absl::GetFlag(FLAGS_retrieval), 1));
  NIBBLE_ASSIGN_OR_RETURN(options.modes, RunModesFromFlags());
  std::vector<RetrievalRow> rows;
  {
    ProgressLine line("eval: questions");
    NIBBLE_ASSIGN_OR_RETURN(
        rows, RunRetrieval(model, text, options, [&line](int64_t done, int64_t all) { line.Show(done, all); }));
  }
  const std::string json_path = absl::GetFlag(FLAGS_json);
  if (json_path != "-") PrintRetrieval(rows);
  return json_path.empty() ? absl::OkStatus() : WriteJson(RetrievalJson(model.path, rows));
}

absl::Status EvaluateText(const OpenedModel& model, const std::string& text, EvalOptions options) {
  const std::vector<int32_t> ids = model.tokenizer->Encode(text, {});
  std::optional<OpenedModel> base;
  if (const std::string path = absl::GetFlag(FLAGS_base); !path.empty()) {
    NIBBLE_ASSIGN_OR_RETURN(base, OpenNamed("base", path));
    if (base->tokenizer->Encode(text, {}) != ids) {
      return absl::InvalidArgumentError(absl::StrCat("--base=", path, ": has other tokens than --model"));
    }
    options.base = &*base;
  }
  std::vector<EvalRow> rows;
  {
    ProgressLine line("eval: steps");
    NIBBLE_ASSIGN_OR_RETURN(
        rows, Evaluate(model, ids, options, [&line](int64_t done, int64_t all) { line.Show(done, all); }));
  }
  const std::string json_path = absl::GetFlag(FLAGS_json);
  if (json_path != "-") PrintTable(rows);
  return json_path.empty() ? absl::OkStatus()
                           : WriteWholeFile(json_path, EvalJson(model.path, absl::GetFlag(FLAGS_base), rows));
}

}  // namespace

std::string EvalJson(const std::string& model_path, const std::string& base_path, absl::Span<const EvalRow> rows) {
  nlohmann::ordered_json json = {{"model", model_path}};
  if (!base_path.empty()) json["base"] = base_path;
  json["rows"] = nlohmann::ordered_json::array();
  for (const EvalRow& row : rows) {
    json["rows"].push_back({{"weights", row.mode.weights},
                            {"activations", row.mode.activations},
                            {"kv", row.mode.kv},
                            {"kv_bits", row.kv_bits},
                            {"ppl", row.perplexity},
                            {"kld", row.kl_divergence},
                            {"top1", row.top1},
                            {"logits_sha256", row.logits_sha256},
                            {"tokens", row.tokens},
                            {"seconds", row.seconds}});
  }
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

absl::Status RunEval(const std::vector<std::string>& /*positionals*/) {
  NIBBLE_RETURN_IF_ERROR(RequireText("model", absl::GetFlag(FLAGS_model)));
  NIBBLE_RETURN_IF_ERROR(RequireText("text", absl::GetFlag(FLAGS_text)));
  NIBBLE_ASSIGN_OR_RETURN(const EvalOptions options, EvalOptionsFromFlags());
  if (!absl::GetFlag(FLAGS_retrieval).empty() && !absl::GetFlag(FLAGS_base).empty()) {
    return absl::InvalidArgumentError("--base: has no use with --retrieval");
  }
  NIBBLE_RETURN_IF_ERROR(CheckWritable(absl::GetFlag(FLAGS_json)));
  NIBBLE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(absl::GetFlag(FLAGS_text)));
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel model, OpenModelFromFlags());
  if (!absl::GetFlag(FLAGS_retrieval).empty()) return EvaluateRetrieval(model, text);
  return EvaluateText(model, text, options);
}

}  // namespace nibble::engine
