#include "server/log.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace nibble::server {
namespace {

bool NeedsQuotes(std::string_view value) {
  return value.empty() || std::any_of(value.begin(), value.end(), [](unsigned char c) {
           return c <= ' ' || c == '"' || c == '=' || c == '\\' || c >= 0x7f;
         });
}

void Write(std::string_view level, std::string_view event, std::initializer_list<LogField> fields) {
  const std::string time = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone());
  const std::string line = FormatLogLine(time, level, event, fields) + "\n";
  // A log that cannot be written has nowhere to say so.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

std::string FormatLogLine(std::string_view time, std::string_view level, std::string_view event,
                          std::initializer_list<LogField> fields) {
  std::string line;
  line.append(time).append(" ").append(level).append(" ").append(event);
  for (const LogField& field : fields) {
    line.append(" ").append(field.key).append("=");
    line.append(NeedsQuotes(field.value) ? absl::StrCat("\"", absl::CEscape(field.value), "\"") : field.value);
  }
  return line;
}

void LogInfo(std::string_view event, std::initializer_list<LogField> fields) { Write("info", event, fields); }
void LogError(std::string_view event, std::initializer_list<LogField> fields) { Write("error", event, fields); }

}  // namespace nibble::server
