#include "loadtest/sse.h"

namespace nibble::loadtest {
namespace {

constexpr std::string_view kField = "data:";

std::string_view Payload(std::string_view line) {
  line.remove_prefix(kField.size());
  if (!line.empty() && line.front() == ' ') line.remove_prefix(1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

}  // namespace

std::vector<std::string> SseReader::Add(std::string_view bytes) {
  std::vector<std::string> payloads;
  for (size_t end; (end = bytes.find('\n')) != std::string_view::npos; bytes.remove_prefix(end + 1)) {
    line_.append(bytes.substr(0, end));
    if (std::string_view(line_).substr(0, kField.size()) == kField) payloads.emplace_back(Payload(line_));
    line_.clear();
  }
  line_.append(bytes);
  return payloads;
}

}  // namespace nibble::loadtest
