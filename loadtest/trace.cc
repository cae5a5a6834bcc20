#include "loadtest/trace.h"

#include <cmath>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using nlohmann::json;

constexpr int64_t kMostTokens = 10'000'000;

absl::Status Invalid(absl::string_view key, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat(key, " ", why));
}

absl::Status ReadTokens(const json& object, const char* key, int64_t* tokens) {
  const auto value = object.find(key);
  if (value == object.end() || !value->is_number_integer()) return Invalid(key, "must be an integer");
  *tokens = value->get<int64_t>();
  return *tokens >= 1 && *tokens <= kMostTokens ? absl::OkStatus() : Invalid(key, "must be 1 to 10000000");
}

absl::Status ReadTimestamp(const json& object, double previous_ms, double* timestamp_ms) {
  const auto value = object.find("timestamp");
  if (value == object.end() || !value->is_number()) return Invalid("timestamp", "must be a number of milliseconds");
  *timestamp_ms = value->get<double>();
  if (!(*timestamp_ms >= 0 && *timestamp_ms <= 1e12)) return Invalid("timestamp", "must be 0 to 1e12");
  return *timestamp_ms >= previous_ms ? absl::OkStatus() : Invalid("timestamp", "is before the line above");
}

absl::Status ReadHashIds(const json& object, std::vector<uint64_t>* ids) {
  const auto value = object.find("hash_ids");
  if (value == object.end()) return absl::OkStatus();
  if (!value->is_array()) return Invalid("hash_ids", "must be a list of integers");
  for (const json& id : *value) {
    if (!id.is_number_unsigned()) return Invalid("hash_ids", "must be a list of integers from 0");
    ids->push_back(id.get<uint64_t>());
  }
  return absl::OkStatus();
}

absl::StatusOr<TraceLine> ParseLine(const std::string& text, double previous_ms) {
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object()) return absl::InvalidArgumentError("not a JSON object");
  TraceLine line;
  absl::Status status = ReadTimestamp(object, previous_ms, &line.timestamp_ms);
  if (status.ok()) status = ReadTokens(object, "input_length", &line.input_tokens);
  if (status.ok()) status = ReadTokens(object, "output_length", &line.output_tokens);
  if (status.ok()) status = ReadHashIds(object, &line.hash_ids);
  if (!status.ok()) return status;
  return line;
}

}  // namespace

absl::StatusOr<std::vector<TraceLine>> ParseTrace(std::istream& lines, const std::string& name) {
  std::vector<TraceLine> trace;
  std::string text;
  for (int64_t number = 1; std::getline(lines, text); ++number) {
    if (absl::StripAsciiWhitespace(text).empty()) continue;
    absl::StatusOr<TraceLine> line = ParseLine(text, trace.empty() ? 0 : trace.back().timestamp_ms);
    if (!line.ok()) return absl::InvalidArgumentError(absl::StrCat(name, ":", number, ": ", line.status().message()));
    trace.push_back(*std::move(line));
  }
  if (trace.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": has no requests"));
  return trace;
}

absl::StatusOr<std::vector<TraceLine>> ReadTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  return ParseTrace(file, path);
}

std::vector<double> TraceSeconds(const std::vector<TraceLine>& trace, double rate) {
  const double first_ms = trace.front().timestamp_ms;
  const double span_s = (trace.back().timestamp_ms - first_ms) / 1000;
  const double wanted_s = static_cast<double>(trace.size() - 1) / rate;
  const double stretch = std::isinf(rate) || span_s == 0 ? 1 : wanted_s / span_s;
  std::vector<double> seconds;
  for (const TraceLine& line : trace) seconds.push_back((line.timestamp_ms - first_ms) / 1000 * stretch);
  return seconds;
}

}  // namespace nibble::loadtest
