#include "loadtest/html.h"

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string DataOf(const std::string& page) {
  const std::string open = "<script type=\"application/json\" id=\"data\">";
  const size_t from = page.find(open) + open.size();
  return page.substr(from, page.find("</script>", from) - from);
}

TEST(Html, CarriesTheReportAsItIs) {
  const std::string page = ToHtml(R"({"model_id": "a </script><!-- b", "completed": 3})", {});
  const auto data = nlohmann::json::parse(DataOf(page));
  EXPECT_EQ(data.at("report").at("model_id"), "a </script><!-- b");
  EXPECT_TRUE(data.at("plots").at("ttft").at("counts").empty());
}

TEST(Html, AsksForNothingFromElsewhere) {
  const std::string page = ToHtml("{}", {});
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char* reference : {" src=", " href=", "@import", "url(", "https://"}) {
    EXPECT_THAT(page, Not(HasSubstr(reference)));
  }
}

}  // namespace
}  // namespace nibble::loadtest
