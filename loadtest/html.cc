#include "loadtest/html.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "loadtest/page_html.h"
#include "loadtest/plots.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using Json = nlohmann::ordered_json;

constexpr absl::string_view kPlaceholder = "REPORT_DATA";

Json ToJson(const Histogram& histogram) { return {{"edges_ms", histogram.edges}, {"counts", histogram.counts}}; }

Json ToJson(const TokenRate& rate) { return {{"step_s", rate.step_s}, {"tokens_per_s", rate.tokens_per_s}}; }

}  // namespace

std::string ToHtml(const std::string& report, const Measurement& plotted) {
  const Json plots = {{"ttft", ToJson(TtftHistogram(plotted))},
                      {"itl", ToJson(ItlHistogram(plotted))},
                      {"output", ToJson(OutputTokenRate(plotted))}};
  const std::string data = absl::StrCat("{\"report\":", report, ",\"plots\":", plots.dump(), "}");
  // Inside a script element only "<" could end the data or open a comment; JSON knows it by its number too.
  return absl::StrReplaceAll(kPageHtml, {{kPlaceholder, absl::StrReplaceAll(data, {{"<", "\\u003c"}})}});
}

}  // namespace nibble::loadtest
