#include "loadtest/sse.h"

#include "gmock/gmock.h"

namespace nibble::loadtest {
namespace {

using testing::ElementsAre;

constexpr std::string_view kStream = "data: {\"a\":1}\r\n\r\n: ping\nevent: x\ndata:two\n\ndata: [DONE]\n\n";

TEST(Sse, KeepsDataLinesOnly) {
  SseReader reader;
  EXPECT_THAT(reader.Add(kStream), ElementsAre("{\"a\":1}", "two", "[DONE]"));
}

TEST(Sse, PiecesMayBeCutAnywhere) {
  for (size_t size = 1; size < kStream.size(); ++size) {
    SseReader reader;
    std::vector<std::string> payloads;
    for (size_t at = 0; at < kStream.size(); at += size) {
      for (std::string& payload : reader.Add(kStream.substr(at, size))) payloads.push_back(std::move(payload));
    }
    EXPECT_THAT(payloads, ElementsAre("{\"a\":1}", "two", "[DONE]")) << size;
  }
}

TEST(Sse, AnUnfinishedLineWaits) {
  SseReader reader;
  EXPECT_THAT(reader.Add("data: half"), ElementsAre());
  EXPECT_THAT(reader.Add(" whole\n"), ElementsAre("half whole"));
}

}  // namespace
}  // namespace nibble::loadtest
