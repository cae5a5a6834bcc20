#include "server/log.h"

#include "gtest/gtest.h"

namespace nibble::server {
namespace {

TEST(Log, OneLineWhateverTheValues) {
  EXPECT_EQ(FormatLogLine("T", "info", "draining", {{"streams", 3}, {"model", "tiny"}}),
            "T info draining streams=3 model=tiny");
  EXPECT_EQ(FormatLogLine("T", "info", "e", {{"k", "a b\n\"c\"=\x1b[0m"}}), "T info e k=\"a b\\n\\\"c\\\"=\\033[0m\"");
  EXPECT_EQ(FormatLogLine("T", "error", "e", {{"k", ""}}), "T error e k=\"\"");
}

}  // namespace
}  // namespace nibble::server
