// A run or a sweep as one self-contained page.
#ifndef NIBBLE_LOADTEST_HTML_H_
#define NIBBLE_LOADTEST_HTML_H_

#include <string>

#include "loadtest/runner.h"

namespace nibble::loadtest {

// `report`: ToJson's or SweepToJson's answer, whose figures the page shows. `plotted`: the run whose distributions and
// times it plots; of a sweep, the one at the highest rate held. Nothing in either can break out of the page's data.
std::string ToHtml(const std::string& report, const Measurement& plotted);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_HTML_H_
