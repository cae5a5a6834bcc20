#include "engine/tokenizer/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace nibble::engine {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& text : stops) {
    Stop stop{text, std::vector<size_t>(text.size() + 1, 0)};
    // The borders of a text are its own progress when it is matched from its second byte on.
    for (size_t i = 1; i < text.size(); ++i) {
      Advance(stop, text[i]);
      stop.border[i + 1] = stop.progress;
    }
    stop.progress = 0;
    stops_.push_back(std::move(stop));
  }
}

void StopMatcher::Advance(Stop& stop, char byte) const {
  if (stop.text.empty()) return;
  size_t& n = stop.progress;
  if (n == stop.text.size()) n = stop.border[n];
  while (n > 0 && stop.text[n] != byte) n = stop.border[n];
  if (stop.text[n] == byte) ++n;
}

int StopMatcher::Matched() const {
  int best = -1;
  for (size_t i = 0; i < stops_.size(); ++i) {
    const Stop& stop = stops_[i];
    if (stop.text.empty() || stop.progress < stop.text.size()) continue;
    if (best < 0 || stop.text.size() > stops_[static_cast<size_t>(best)].text.size()) best = static_cast<int>(i);
  }
  return best;
}

StopMatcher::Result StopMatcher::Push(std::string_view piece) {
  if (done_) return {};
  for (char byte : piece) {
    held_.push_back(byte);
    for (Stop& stop : stops_) Advance(stop, byte);
    const int matched = Matched();
    if (matched < 0) continue;
    done_ = true;
    held_.resize(held_.size() - stops_[static_cast<size_t>(matched)].text.size());
    return {std::exchange(held_, ""), matched};
  }
  size_t keep = 0;
  for (const Stop& stop : stops_) keep = std::max(keep, stop.progress);
  Result result{held_.substr(0, held_.size() - keep), -1};
  held_.erase(0, result.text.size());
  return result;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

}  // namespace nibble::engine
