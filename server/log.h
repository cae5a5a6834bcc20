// A line per event on stderr: time, level, event and key=value fields. Callers never pass prompts, answers, keys, file
// paths of clients or addresses of memory.
#ifndef NIBBLE_SERVER_LOG_H_
#define NIBBLE_SERVER_LOG_H_

#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"

namespace nibble::server {

struct LogField {
  LogField(std::string_view key, const absl::AlphaNum& value) : key(key), value(value.Piece()) {}
  std::string_view key;
  std::string value;
};

// Any thread; one write(2) per line, so lines never mix.
void LogInfo(std::string_view event, std::initializer_list<LogField> fields = {});
void LogError(std::string_view event, std::initializer_list<LogField> fields = {});

// "2026-11-24T02:34:47.123Z info draining streams=3"; values with spaces or control characters are quoted and escaped.
std::string FormatLogLine(std::string_view time, std::string_view level, std::string_view event,
                          std::initializer_list<LogField> fields);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_LOG_H_
