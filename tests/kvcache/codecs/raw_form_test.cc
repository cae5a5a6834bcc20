// The raw forms against a naive twin that keeps rows apart and adds in the order that the header promises. Every
// instruction set must give the twin's bits.
#include "kvcache/codecs/raw_form.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kvcache/codecs/codec.h"
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

std::vector<std::byte> Page(const RawForm& form, int head_dim, const Twin& twin) {
  std::vector<std::byte> page(form.head_bytes(head_dim));
  for (int slot = 0; slot < kPageTokens; ++slot) {
    form.store(page.data(), head_dim, slot, twin.keys[slot].data(), twin.values[slot].data());
  }
  return page;
}

class RawForms : public testing::TestWithParam<int> {
 protected:
  // Calls check(form, page, twin) for both forms on every instruction set.
  template <typename Check>
  void ForEach(const Check& check) {
    for (const auto form_for : {RawFormF16, RawFormF32}) {
      std::mt19937 random(static_cast<uint32_t>(GetParam()));
      const Twin twin(form_for == RawFormF16, GetParam(), random);
      for (const simd::Isa isa : simd::SupportedIsas()) {
        const RawForm& form = form_for(isa);
        SCOPED_TRACE(std::to_string(form.element_bytes) + " bytes on " + std::string(simd::Name(isa)));
        check(form, Page(form, GetParam(), twin), twin);
      }
    }
  }
};

TEST_P(RawForms, ScoresHaveTheBitsOfTheTwin) {
  const int dim = GetParam();
  ForEach([dim](const RawForm& form, const std::vector<std::byte>& page, const Twin& twin) {
    const Rows want = twin.Scores();
    for (int rows = 1; rows <= kRows; ++rows) {
      const std::vector<float> queries = Spread(twin.queries, rows);
      std::vector<float> scores(rows * (kPageTokens + kGap), kUntouched);
      form.scores({page.data(), dim, queries.data(), dim + kGap, rows, scores.data(), kPageTokens + kGap});
      EXPECT_TRUE(SameBits(scores, Spread(want, rows))) << rows << " rows";
    }
  });
}

TEST_P(RawForms, MixesHaveTheBitsOfTheTwin) {
  const int dim = GetParam();
  ForEach([dim](const RawForm& form, const std::vector<std::byte>& page, const Twin& twin) {
    for (const auto& [first, last] : kRanges) {
      const Rows want = twin.Mixed(first, last);
      for (int rows = 1; rows <= kRows; ++rows) {
        const std::vector<float> weights = Spread(twin.weights, rows);
        std::vector<float> mixed = Spread(twin.start, rows);
        form.mix({page.data(), dim, weights.data(), kPageTokens + kGap, rows, first, last, mixed.data(), dim + kGap});
        EXPECT_TRUE(SameBits(mixed, Spread(want, rows))) << rows << " rows, tokens " << first << " to " << last;
      }
    }
  });
}

TEST_P(RawForms, StoringATokenLeavesTheOthers) {
  const int dim = GetParam();
  ForEach([dim](const RawForm& form, std::vector<std::byte> page, const Twin& twin) {
    const std::vector<std::byte> before = page;
    const std::vector<float> other(dim, 3.0f);
    form.store(page.data(), dim, 9, other.data(), other.data());
    EXPECT_NE(page, before);
    form.store(page.data(), dim, 9, twin.keys[9].data(), twin.values[9].data());
    EXPECT_EQ(page, before);
  });
}

INSTANTIATE_TEST_SUITE_P(HeadDims, RawForms, testing::Values(16, 32, 48, 80, 256));

TEST(Codecs, TheTableFindsByName) {
  for (const std::string name : {"f16", "f32", "int8", "int4", "kivi4", "kivi2"}) {
    const Codec* codec = FindCodec(name);
    ASSERT_NE(codec, nullptr) << name;
    EXPECT_EQ(codec->name, name);
  }
  EXPECT_EQ(FindCodec("f64"), nullptr);
  EXPECT_EQ(FindCodec(""), nullptr);
}

}  // namespace
}  // namespace nibble::kv
