// The plain codecs against a naive twin that keeps rows apart and adds in the order that the header promises. Every
// instruction set must give the twin's bits.
#include "kvcache/codecs/plain.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/simd/half.h"

namespace nibble::kv {
namespace {

constexpr int kRows = 13;  // more than any block of rows that the kernels take at once, and every rest
constexpr int kGap = 5;    // unused floats between rows
constexpr float kUntouched = -12345.0f;
constexpr std::pair<int, int> kRanges[] = {{0, 32}, {0, 1}, {0, 17}, {5, 6}, {7, 29}, {31, 32}, {4, 4}};

using Rows = std::vector<std::vector<float>>;

Rows RandomRows(int rows, int size, std::mt19937& random) {
  std::normal_distribution<float> normal;
  Rows result(rows, std::vector<float>(size));
  for (auto& row : result) {
    for (float& value : row) value = normal(random);
  }
  return result;
}

// Rows with a gap after each.
std::vector<float> Spread(const Rows& rows, int count) {
  std::vector<float> flat;
  for (int r = 0; r < count; ++r) {
    flat.insert(flat.end(), rows[r].begin(), rows[r].end());
    flat.insert(flat.end(), kGap, kUntouched);
  }
  return flat;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// One head's page, its queries and weights, and what they give.
struct Twin {
  Twin(bool half, int head_dim, std::mt19937& random)
      : keys(RandomRows(kPageTokens, head_dim, random)),
        values(RandomRows(kPageTokens, head_dim, random)),
        queries(RandomRows(kRows, head_dim, random)),
        weights(RandomRows(kRows, kPageTokens, random)),
        start(RandomRows(kRows, head_dim, random)),
        kept_keys(Kept(keys, half)),
        kept_values(Kept(values, half)) {}

  static Rows Kept(Rows rows, bool half) {
    for (auto& row : rows) {
      for (float& value : row) value = half ? simd::HalfToFloat(simd::FloatToHalf(value)) : value;
    }
    return rows;
  }

  Rows Scores() const {
    Rows scores(kRows, std::vector<float>(kPageTokens, 0.0f));
    for (int r = 0; r < kRows; ++r) {
      for (int t = 0; t < kPageTokens; ++t) {
        for (size_t d = 0; d < queries[r].size(); ++d) {
          scores[r][t] = std::fma(queries[r][d], kept_keys[t][d], scores[r][t]);
        }
      }
    }
    return scores;
  }

  Rows Mixed(int first, int last) const {
    Rows mixed = start;
    for (int r = 0; r < kRows; ++r) {
      for (int t = first; t < last; ++t) {
        for (size_t d = 0; d < mixed[r].size(); ++d) {
          mixed[r][d] = std::fma(weights[r][t], kept_values[t][d], mixed[r][d]);
        }
      }
    }
    return mixed;
  }

  const Rows keys, values, queries, weights, start;
  const Rows kept_keys, kept_values;
};

std::vector<std::byte> Page(const CodecKernels& kernels, const Codec& codec, int head_dim, const Twin& twin) {
  std::vector<std::byte> page(codec.head_bytes(head_dim));
  for (int slot = 0; slot < kPageTokens; ++slot) {
    kernels.store(page.data(), head_dim, slot, twin.keys[slot].data(), twin.values[slot].data());
  }
  return page;
}

class PlainCodec : public testing::TestWithParam<int> {
 protected:
  // Calls check(kernels, page, twin, name) for both codecs on every instruction set.
  template <typename Check>
  void ForEach(const Check& check) {
    for (const Codec* codec : {&kF16Codec, &kF32Codec}) {
      std::mt19937 random(static_cast<uint32_t>(GetParam()));
      const Twin twin(codec == &kF16Codec, GetParam(), random);
      for (const simd::Isa isa : simd::SupportedIsas()) {
        SCOPED_TRACE(std::string(codec->name) + " on " + std::string(simd::Name(isa)));
        const CodecKernels& kernels = codec->kernels(isa);
        check(kernels, Page(kernels, *codec, GetParam(), twin), twin);
      }
    }
  }
};

TEST_P(PlainCodec, ScoresHaveTheBitsOfTheTwin) {
  const int dim = GetParam();
  ForEach([dim](const CodecKernels& kernels, const std::vector<std::byte>& page, const Twin& twin) {
    const Rows want = twin.Scores();
    for (int rows = 1; rows <= kRows; ++rows) {
      const std::vector<float> queries = Spread(twin.queries, rows);
      std::vector<float> scores(rows * (kPageTokens + kGap), kUntouched);
      kernels.scores({page.data(), dim, queries.data(), dim + kGap, rows, scores.data(), kPageTokens + kGap});
      EXPECT_TRUE(SameBits(scores, Spread(want, rows))) << rows << " rows";
    }
  });
}

TEST_P(PlainCodec, MixesHaveTheBitsOfTheTwin) {
  const int dim = GetParam();
  ForEach([dim](const CodecKernels& kernels, const std::vector<std::byte>& page, const Twin& twin) {
    for (const auto& [first, last] : kRanges) {
      const Rows want = twin.Mixed(first, last);
      for (int rows = 1; rows <= kRows; ++rows) {
        const std::vector<float> weights = Spread(twin.weights, rows);
        std::vector<float> mixed = Spread(twin.start, rows);
        kernels.mix(
            {page.data(), dim, weights.data(), kPageTokens + kGap, rows, first, last, mixed.data(), dim + kGap});
        EXPECT_TRUE(SameBits(mixed, Spread(want, rows))) << rows << " rows, tokens " << first << " to " << last;
      }
    }
  });
}

TEST_P(PlainCodec, StoringATokenLeavesTheOthers) {
  const int dim = GetParam();
  ForEach([dim](const CodecKernels& kernels, std::vector<std::byte> page, const Twin& twin) {
    const std::vector<std::byte> before = page;
    const std::vector<float> other(dim, 3.0f);
    kernels.store(page.data(), dim, 9, other.data(), other.data());
    EXPECT_NE(page, before);
    kernels.store(page.data(), dim, 9, twin.keys[9].data(), twin.values[9].data());
    EXPECT_EQ(page, before);
  });
}

INSTANTIATE_TEST_SUITE_P(HeadDims, PlainCodec, testing::Values(16, 32, 48, 80, 256));

TEST(Codecs, TheTableFindsByName) {
  EXPECT_EQ(FindCodec("f16"), &kF16Codec);
  EXPECT_EQ(FindCodec("f32"), &kF32Codec);
  EXPECT_EQ(FindCodec("f64"), nullptr);
  EXPECT_EQ(FindCodec(""), nullptr);
}

}  // namespace
}  // namespace nibble::kv
