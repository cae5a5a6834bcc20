// Incremental decoding and stop strings: what a stream of ids shows.
#include <random>

#include "engine/tokenizer/incremental_decoder.h"
#include "engine/tokenizer/stop_matcher.h"
#include "engine/tokenizer/utf8.h"
#include "gtest/gtest.h"
#include "tests/engine/tokenizer/golden.h"

namespace nibble::engine {
namespace {

// A vocabulary of the 256 bytes, so that ids are bytes.
std::unique_ptr<Tokenizer> ByteTokenizer() {
  TokenizerData data;
  data.style = TokenizerData::Style::kSentencePiece;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof(name), "<0x%02X>", static_cast<unsigned>(byte));
    data.tokens.push_back(name);
  }
  data.types.assign(256, TokenType::kByte);
  data.scores.assign(256, 0.0f);
  return *Tokenizer::Create(std::move(data));
}

std::string DecodeStream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  IncrementalDecoder decoder(tokenizer);
  std::string text;
  for (int32_t id : ids) {
    const std::string piece = decoder.Push(id);
    EXPECT_EQ(ValidPrefixLength(piece), piece.size());
    text += piece;
  }
  return text + decoder.Flush();
}

std::vector<int32_t> Bytes(const std::string& text) {
  std::vector<int32_t> ids;
  for (char byte : text) ids.push_back(static_cast<uint8_t>(byte));
  return ids;
}

TEST(IncrementalDecoder, NeverSplitsACharacter) {
  for (const char* name : {"qwen2", "sentencepiece"}) {
    const auto tokenizer = TinyTokenizer(name);
    for (const auto& [text_name, text] : GoldenTexts()) {
      if (text.find("\u2581") != std::string::npos || text.size() > 20000) continue;
      const std::string plain = text;
      const std::string prefix = name == std::string("sentencepiece") && !plain.empty() ? " " : "";
      EXPECT_EQ(DecodeStream(*tokenizer, tokenizer->Encode(plain, {.add_special = false})), prefix + plain)
          << text_name;
    }
  }
}

TEST(IncrementalDecoder, IllFormedPartsBecomeOneReplacementCharacterEach) {
  const auto tokenizer = ByteTokenizer();
  const std::string r = "\uFFFD";
  const std::vector<std::pair<std::string, std::string>> cases = {{"a\x80z", "a" + r + "z"},
                                                                  {"\xE6\x97", r},
                                                                  {"\xE6\x97x", r + "x"},
                                                                  {"\xF0\x9F\x98", r},
                                                                  {"\xC0\xAF", r + r},
                                                                  {"\xED\xA0\x80", r + r + r},
                                                                  {"\xF4\x90\x80\x80", r + r + r + r},
                                                                  {"\xE6\xE6\x97\xA5", r + "\u65e5"},
                                                                  {"\xFF\xFE", r + r}};
  for (const auto& [bytes, expected] : cases) EXPECT_EQ(DecodeStream(*tokenizer, Bytes(bytes)), expected);
}

TEST(IncrementalDecoder, ShowsACharacterAsSoonAsItIsWhole) {
  const auto tokenizer = ByteTokenizer();
  IncrementalDecoder decoder(*tokenizer);
  EXPECT_EQ(decoder.Push(0xF0), "");
  EXPECT_EQ(decoder.Push(0x9F), "");
  EXPECT_EQ(decoder.Push(-1), "");
  EXPECT_EQ(decoder.Push(256), "");
  EXPECT_EQ(decoder.Push(0x98), "");
  EXPECT_EQ(decoder.Push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.Flush(), "");
}

struct Stopped {
  std::string text;
  int matched = -1;
};

// What the matcher must say, by looking at every end in turn.
Stopped NaiveStop(const std::string& text, const std::vector<std::string>& stops) {
  for (size_t end = 1; end <= text.size(); ++end) {
    Stopped best;
    for (size_t i = 0; i < stops.size(); ++i) {
      const std::string& stop = stops[i];
      if (stop.empty() || stop.size() > end || text.compare(end - stop.size(), stop.size(), stop) != 0) continue;
      if (best.matched >= 0 && stops[static_cast<size_t>(best.matched)].size() >= stop.size()) continue;
      best = {text.substr(0, end - stop.size()), static_cast<int>(i)};
    }
    if (best.matched >= 0) return best;
  }
  return {text, -1};
}

// How much of the end of `text` could be the beginning of a stop string.
size_t NaiveHeld(const std::string& text, const std::vector<std::string>& stops) {
  size_t held = 0;
  for (const std::string& stop : stops) {
    for (size_t n = 1; n < stop.size() && n <= text.size(); ++n) {
      if (text.compare(text.size() - n, n, stop, 0, n) == 0) held = std::max(held, n);
    }
  }
  return held;
}

TEST(StopMatcher, AgreesWithItsNaiveTwin) {
  std::mt19937 random(5);
  const auto draw = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
  const auto word = [&](size_t longest) {
    std::string text;
    for (size_t n = draw(longest) + 1; n > 0; --n) text.push_back(static_cast<char>('a' + draw(2)));
    return text;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> stops;
    for (size_t n = draw(4); n > 0; --n) stops.push_back(draw(9) == 0 ? "" : word(7));
    StopMatcher matcher(stops);
    std::string all;
    Stopped shown;
    for (size_t n = draw(12); n > 0; --n) {
      const std::string piece = word(4);
      const StopMatcher::Result result = matcher.Push(piece);
      shown.text += result.text;
      if (shown.matched < 0) all += piece;
      if (result.matched >= 0) shown.matched = result.matched;
      if (shown.matched >= 0) continue;
      ASSERT_EQ(all.size() - shown.text.size(), NaiveHeld(all, stops));
    }
    shown.text += matcher.Flush();
    const Stopped expected = NaiveStop(all, stops);
    ASSERT_EQ(shown.text, expected.text) << all;
    ASSERT_EQ(shown.matched, expected.matched) << all;
  }
}

TEST(StopMatcher, KeepsBackOnlyWhatMayBeAStop) {
  StopMatcher matcher({"<end>", "STOP"});
  EXPECT_EQ(matcher.Push("hello <e").text, "hello ");
  EXPECT_EQ(matcher.Push("x ST").text, "<ex ");
  const StopMatcher::Result result = matcher.Push("OP more");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.matched, 1);
  EXPECT_EQ(matcher.Push("later").text, "");
  EXPECT_EQ(matcher.Flush(), "");
}

}  // namespace
}  // namespace nibble::engine
