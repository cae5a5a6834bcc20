// Deltas against a plain reading of their definition, and rows 56 to 59 of the robustness table for the files.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/adapters/compress.h"
#include "engine/adapters/delta_file.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/safetensors.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// Models of three tensors: a projection of 5 x 70 (three words a row, the last in part), one that no test changes, and
// a norm.
struct Weights {
  std::vector<float> q = std::vector<float>(5 * 70), up = std::vector<float>(8), norm = std::vector<float>(70);
  std::unique_ptr<WeightSource> source;

  std::unique_ptr<WeightSource> Source() const {
    const auto bytes = [](const std::vector<float>& values) {
      return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(values.data()), values.size() * sizeof(float));
    };
    return MakeWeightSource({{"blk.0.attn_q.weight", Encoding::kF32, {5, 70}, bytes(q)},
                             {"blk.0.ffn_up.weight", Encoding::kF32, {2, 4}, bytes(up)},
                             {"output_norm.weight", Encoding::kF32, {70}, bytes(norm)}},
                            nullptr);
  }
};

struct Pair {
  Weights base, tuned;
};

Pair MakePair() {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  Pair pair;
  for (float& value : pair.base.q) value = normal(random);
  for (float& value : pair.base.up) value = normal(random);
  for (float& value : pair.base.norm) value = 1 + normal(random);
  pair.tuned = {pair.base.q, pair.base.up, pair.base.norm, nullptr};
  for (float& value : pair.tuned.q) value += 0.1f * normal(random);
  for (float& value : pair.tuned.norm) value += 0.1f * normal(random);
  pair.tuned.q[3] = pair.base.q[3];  // no difference: +
  return pair;
}

DeltaFile Compressed(const Pair& pair, const CompressOptions& options = {}) {
  auto delta = CompressDelta(*pair.base.Source(), *pair.tuned.Source(), options, [](int64_t, int64_t) {});
  EXPECT_THAT(delta, IsOk());
  return *std::move(delta);
}

std::vector<float> Row(const WeightSource& source, const char* name, int64_t row) {
  const Tensor* const tensor = source.Find(name);
  std::vector<float> values(static_cast<size_t>(tensor->cols()));
  DecodeRow(*tensor, row, absl::MakeSpan(values));
  return values;
}

TEST(Delta, OnePlaneIsTheMeanMagnitudeWithTheSign) {
  const Pair pair = MakePair();
  for (const bool per_row : {false, true}) {
    const DeltaFile delta = Compressed(pair, {.planes = 1, .scale_per_row = per_row});
    const auto base = pair.base.Source(), merged = MergedWeights(*base, delta);
    for (int64_t row = 0; row < 5; ++row) {
      const int64_t first = per_row ? row * 70 : 0, count = per_row ? 70 : 350;
      double mean = 0;
      for (int64_t i = first; i < first + count; ++i)
        mean += std::fabs(double{pair.tuned.q[i]} - pair.base.q[i]) / count;
      const std::vector<float> values = Row(*merged, "blk.0.attn_q.weight", row);
      for (int64_t col = 0; col < 70; ++col) {
        const float from = pair.base.q[row * 70 + col], to = pair.tuned.q[row * 70 + col];
        EXPECT_NEAR(values[col], from + (to < from ? -mean : mean), 1e-6) << row << " " << col;
      }
    }
  }
}

TEST(Delta, TheSecondPlaneIsOfWhatTheFirstLeaves) {
  const Pair pair = MakePair();
  const auto base = pair.base.Source(), tuned = pair.tuned.Source();
  const auto left = [&](int64_t planes, bool per_row) {
    const DeltaFile delta = Compressed(pair, {.planes = planes, .scale_per_row = per_row});
    return ResidualShare(*base->Find("blk.0.attn_q.weight"), *tuned->Find("blk.0.attn_q.weight"),
                         &delta.signs.at("blk.0.attn_q.weight"));
  };
  // Of a normal distribution one plane leaves sqrt(1 - 2 / pi) = 60 %, two 34 %.
  EXPECT_NEAR(left(1, false), 0.60, 0.05);
  EXPECT_NEAR(left(2, false), 0.34, 0.05);
  EXPECT_LT(left(1, true), left(1, false));
  EXPECT_LT(left(2, true), left(2, false));
}

TEST(Delta, OtherTensorsAreInt8AndWhatDidNotChangeIsNotThere) {
  const Pair pair = MakePair();
  const DeltaFile delta = Compressed(pair);
  EXPECT_EQ(delta.signs.size(), 1u);
  EXPECT_EQ(delta.codes.size(), 1u);
  const auto base = pair.base.Source(), merged = MergedWeights(*base, delta);
  const std::vector<float> norm = Row(*merged, "output_norm.weight", 0);
  for (size_t i = 0; i < norm.size(); ++i) {
    EXPECT_NEAR(norm[i], pair.tuned.norm[i], 0.5 * delta.codes.at("output_norm.weight").scales()[0] + 1e-6);
  }
  EXPECT_EQ(merged->Find("blk.0.ffn_up.weight")->delta, nullptr);
  EXPECT_EQ(Row(*merged, "blk.0.ffn_up.weight", 1), Row(*base, "blk.0.ffn_up.weight", 1));
}

// A checkpoint in BF16 of a file with more digits is the same model.
TEST(Delta, RoundingToBf16IsNoChange) {
  Pair pair = MakePair();
  pair.tuned.norm = pair.base.norm;
  for (float& value : pair.tuned.norm) {
    uint32_t bits = std::bit_cast<uint32_t>(value);
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000u;
    value = std::bit_cast<float>(bits);
  }
  ASSERT_NE(pair.tuned.norm, pair.base.norm);
  EXPECT_TRUE(Compressed(pair).codes.empty());
  pair.tuned.norm[69] *= 1.01f;
  EXPECT_EQ(Compressed(pair).codes.size(), 1u);
}

TEST(Delta, ModelsOfOtherShapesAndDifferencesThatAreNotFiniteAreRefused) {
  Pair pair = MakePair();
  const auto nothing = [](int64_t, int64_t) {};
  const auto tuned = pair.tuned.Source();
  const auto base = pair.base.Source();
  std::vector<Tensor> tensors(tuned->tensors().begin(), tuned->tensors().end());
  const auto refused = [&](std::vector<Tensor> changed, const char* what) {
    EXPECT_THAT(CompressDelta(*base, *MakeWeightSource(std::move(changed), nullptr), {}, nothing),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(what)));
  };
  refused({tensors[0], tensors[1]}, "tensor \"output_norm.weight\" is in the base alone");
  std::vector<Tensor> changed = tensors;
  changed.push_back(tensors[2]);
  changed[3].name = "extra";
  refused(changed, "tensor \"extra\" is in the fine-tune alone");
  changed = tensors;
  changed[0].shape = {70, 5};
  refused(changed, "has shape [70, 5], the base's [5, 70]");
  for (std::vector<float>* values : {&pair.tuned.q, &pair.tuned.norm}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      const float before = (*values)[7];
      (*values)[7] = bad;
      EXPECT_THAT(CompressDelta(*base, *pair.tuned.Source(), {}, nothing),
                  StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("a difference is not finite")));
      (*values)[7] = before;
    }
  }
}

absl::Span<const std::byte> BytesOf(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(DeltaFile, ReadsWhatItWrites) {
  const Pair pair = MakePair();
  for (const int64_t planes : {1, 2}) {
    DeltaFile delta = Compressed(pair, {.planes = planes, .scale_per_row = planes == 2});
    delta.provenance.method = "a method";
    delta.provenance.license = "a license\nof two lines";
    const std::string bytes = SerializeDelta(delta);
    const auto read = ParseDelta(BytesOf(bytes), [] {});
    ASSERT_THAT(read, IsOk());
    EXPECT_EQ(SerializeDelta(*read), bytes);
    EXPECT_EQ(read->provenance.license, "a license\nof two lines");
    const auto base = pair.base.Source();
    EXPECT_EQ(read->provenance.base_sha256, ModelSha256(*base));
    EXPECT_THAT(CheckDelta(*read, *base, ModelSha256(*base)), IsOk());
    EXPECT_EQ(Row(*MergedWeights(*base, *read), "blk.0.attn_q.weight", 4),
              Row(*MergedWeights(*base, delta), "blk.0.attn_q.weight", 4));
  }
}

// A right file, of which a test breaks one part.
struct Parts {
  SafetensorsMetadata metadata;
  std::vector<SafetensorsTensor> tensors;
  std::string bytes;

  explicit Parts(std::string file) : bytes(std::move(file)) {
    const auto parsed = SafetensorsFile::Parse(BytesOf(bytes));
    metadata = parsed->metadata();
    tensors.assign(parsed->tensors().begin(), parsed->tensors().end());
  }
  SafetensorsTensor& tensor(const std::string& name) {
    for (SafetensorsTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << name;
    return tensors[0];
  }
};

TEST(DeltaFile, Row58_AnythingButSafetensorsIsRefused) {
  for (const char* bytes : {"PK\3\4torch", "\x80\2}q", "\x1f\x8b\b", "GGUF\3"}) {
    EXPECT_THAT(ParseDelta(BytesOf(bytes), [] {}),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("not safetensors")));
  }
}

TEST(DeltaFile, Row59_WhatIsNotOfTheFormatIsRefused) {
  const Pair pair = MakePair();
  DeltaFile delta = Compressed(pair);
  delta.provenance.method = "x";
  const std::string bytes = SerializeDelta(delta);
  const float nan = std::numeric_limits<float>::quiet_NaN(), huge = 1e5f;
  const auto float_bytes = [](const float& value) {
    return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&value), sizeof(float));
  };
  const float two_scales[2] = {1, 1};
  const absl::Span<const std::byte> two(reinterpret_cast<const std::byte*>(two_scales), sizeof(two_scales));
  const std::string q = "blk.0.attn_q.weight", norm = "output_norm.weight";
  const std::pair<const char*, std::function<void(Parts*)>> cases[] = {
      {"\"format\"", [](Parts* parts) { parts->metadata["format"] = "pt"; }},
      {"\"format_version\"", [](Parts* parts) { parts->metadata["format_version"] = "2"; }},
      {"\"base_sha256\"", [](Parts* parts) { parts->metadata["base_sha256"] = std::string(64, 'X'); }},
      {"\"tuned_sha256\"", [](Parts* parts) { parts->metadata.erase("tuned_sha256"); }},
      {"\"method\"", [](Parts* parts) { parts->metadata["method"] = std::string(kMaxDeltaTextBytes + 1, 'x'); }},
      {"\"license\"", [](Parts* parts) { parts->metadata["license"] = std::string(kMaxDeltaLicenseBytes + 1, 'x'); }},
      {"has no scale", [&](Parts* parts) { parts->tensor(q + ".scale").name = "x.scale"; }},
      {"is none of a delta file's",
       [&](Parts* parts) {
         parts->tensors.push_back({"x", SafetensorsType::kF32, {1}, float_bytes(huge)});
       }},
      {"is of no projection", [&](Parts* parts) { parts->tensor(q + ".signs").name = "x.signs"; }},
      {"is of a projection", [&](Parts* parts) { parts->tensor(norm + ".codes").name = q + ".codes"; }},
      {"is not of dtype U32", [&](Parts* parts) { parts->tensor(q + ".signs").type = SafetensorsType::kI32; }},
      {"is not of dtype I8", [&](Parts* parts) { parts->tensor(norm + ".codes").type = SafetensorsType::kU8; }},
      {"is not of dtype F32", [&](Parts* parts) { parts->tensor(q + ".scale").type = SafetensorsType::kI32; }},
      {"has not 3 dimensions",
       [&](Parts* parts) {
         parts->tensor(q + ".signs").shape = {5, 3};
       }},
      {"is not one scale a plane",
       [&](Parts* parts) {
         parts->tensor(q + ".scale").shape = {1, 2}, parts->tensor(q + ".scale").data = two;
       }},
      {"more than 2 planes",
       [&](Parts* parts) {
         parts->tensor(q + ".signs").shape = {3, 5, 1};
       }},
      {"is not one scale a row",
       [&](Parts* parts) {
         parts->tensor(norm + ".codes").shape = {2, 35};
       }},
      {"no scale", [&](Parts* parts) { parts->tensor(q + ".scale").data = float_bytes(nan); }},
      {"no scale", [&](Parts* parts) { parts->tensor(norm + ".scale").data = float_bytes(huge); }},
      {"is empty",
       [&](Parts* parts) {
         parts->tensor(q + ".signs").shape = {0, 5, 3}, parts->tensor(q + ".signs").data = {};
       }},
      {"a scale without signs or codes",
       [&](Parts* parts) {
         parts->tensors.push_back({"x.scale", SafetensorsType::kF32, {1}, float_bytes(huge)});
       }},
  };
  for (const auto& [what, change] : cases) {
    Parts parts(bytes);
    change(&parts);
    EXPECT_THAT(ParseDelta(BytesOf(SerializeSafetensors(parts.metadata, parts.tensors)), [] {}),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(what)))
        << what;
  }
}

TEST(DeltaFile, Row57_CutAnywhereIsRefused) {
  DeltaFile delta = Compressed(MakePair());
  const std::string bytes = SerializeDelta(delta);
  for (size_t size = 0; size < bytes.size(); size += 1 + size / 64) {
    ASSERT_THAT(ParseDelta(BytesOf(bytes.substr(0, size)), [] {}),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
  }
}

TEST(DeltaFile, Row59_AnotherBaseIsRefused) {
  const Pair pair = MakePair();
  const auto base = pair.base.Source();
  DeltaFile delta = Compressed(pair);
  const std::string hash = delta.provenance.base_sha256;
  const auto refused = [&](const DeltaFile& file, const char* what) {
    EXPECT_THAT(CheckDelta(file, *base, hash), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(what)));
  };
  EXPECT_THAT(
      CheckDelta(delta, *base, std::string(64, '0')),
      StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("base_sha256"), HasSubstr(hash.substr(0, 12)))));
  DeltaFile changed = delta;
  changed.signs.emplace("blk.1.attn_q.weight", SignDelta(1, 5, 3, false));
  refused(changed, "\"blk.1.attn_q.weight\" is not in the base");
  changed = delta;
  changed.signs.at("blk.0.attn_q.weight") = SignDelta(1, 6, 3, false);
  refused(changed, "has 6 rows, the base's 5");
  changed = delta;
  changed.signs.at("blk.0.attn_q.weight") = SignDelta(1, 5, 2, false);
  refused(changed, "has 2 words a row, not 3");
  changed = delta;
  changed.signs.at("blk.0.attn_q.weight").MutableSignsOf(0, 3)[2] |= uint32_t{1} << 6;
  refused(changed, "has bits past the last column");
  changed = delta;
  changed.codes.at("output_norm.weight") = CodeDelta(1, 71);
  refused(changed, "has 71 columns, the base's 70");
}

TEST(DeltaFile, ABaseWithARotatedTensorIsRefused) {
  const Pair pair = MakePair();
  const auto base = pair.base.Source();
  const DeltaFile delta = Compressed(pair);
  for (const Tensor& tensor : base->tensors()) {
    std::vector<Tensor> tensors(base->tensors().begin(), base->tensors().end());
    std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& t) { return t.name == tensor.name; })->encoding =
        Encoding::kH8_0;
    const auto rotated = MakeWeightSource(std::move(tensors), nullptr);
    const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition,
                                  HasSubstr("tensor \"" + tensor.name + "\" of the base is rotated (h8_0)"));
    EXPECT_THAT(CheckDelta(delta, *rotated, delta.provenance.base_sha256), refused);
    EXPECT_THAT(CompressDelta(*rotated, *pair.tuned.Source(), {}, [](int64_t, int64_t) {}), refused);
  }
}

}  // namespace
}  // namespace nibble::engine
