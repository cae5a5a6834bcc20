#include "engine/weights/fingerprint.h"

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/weights/model_file.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

std::string HashOf(const GgufBuilder& file) {
  const std::string bytes = file.Build();
  const auto model = ParseModelFile(AsBytes(bytes), nullptr);
  EXPECT_THAT(model, IsOk());
  return model.ok() ? ModelSha256(*model->weights) : "";
}

class TwoTensors : public WeightSource {
 public:
  absl::Span<const Tensor> tensors() const override { return tensors_; }
  const Tensor* Find(std::string_view) const override { return nullptr; }

 private:
  const std::string ones_ = std::string("\0\x3c\0\x3c\0\x3c", 6);
  const std::vector<float> floats_ = {1, 2};
  const std::vector<Tensor> tensors_ = {
      {"b", Encoding::kF16, {3, 1}, AsBytes(ones_)},
      {"a", Encoding::kF32, {2}, {reinterpret_cast<const std::byte*>(floats_.data()), 8}}};
};

// Any change of the rule makes every calibration a foreign one. In Python: hashlib.sha256 over, for each tensor,
// name, encoding, rank, dimensions, size and data, numbers as <Q and texts after their lengths.
TEST(Fingerprint, StaysWhatItIs) {
  EXPECT_EQ(ModelSha256(TwoTensors()), "45d5dfdf3968e246efbf1180c71904b698508443c478763ffb35abd04986f0a6");
}

TEST(Fingerprint, SeesEveryPartOfATensorAndNoOther) {
  const GgufBuilder file = TinyGguf("qwen3");
  const std::string hash = HashOf(file);
  const auto changed = [&](void (*change)(GgufBuilder & file)) {
    GgufBuilder copy = file;
    change(copy);
    return HashOf(copy);
  };
  EXPECT_EQ(changed([](GgufBuilder& f) { f.Set("general.name", "another"); }), hash);
  EXPECT_EQ(changed([](GgufBuilder& f) { f.alignment = 64, f.Set("general.alignment", uint32_t{64}); }), hash);
  const std::set<std::string> hashes = {
      hash,
      changed([](GgufBuilder& f) { f.tensor("blk.0.attn_norm.weight").data[3] ^= 1; }),
      changed([](GgufBuilder& f) {
        f.AddF32("extra", {2, 3}, std::vector<float>(6));
      }),
      changed([](GgufBuilder& f) {
        f.AddF32("extra", {3, 2}, std::vector<float>(6));
      }),
      changed([](GgufBuilder& f) {
        f.AddF32("other", {3, 2}, std::vector<float>(6));
      }),
      changed([](GgufBuilder& f) {
        f.AddRaw("other", {3, 4}, 1, std::string(24, '\0'));
      }),
      changed([](GgufBuilder& f) {
        f.AddRaw("other", {3, 4}, 30, std::string(24, '\0'));
      }),
  };
  EXPECT_EQ(hashes.size(), 7u);
}

TEST(Fingerprint, DoesNotSeeTheOrder) {
  GgufBuilder one = TinyGguf("qwen3"), other = one;
  const std::vector<float> values = {1, 2, 3};
  one.AddF32("a", {3}, values).AddF32("b", {3}, values);
  other.AddF32("b", {3}, values).AddF32("a", {3}, values);
  EXPECT_EQ(HashOf(one), HashOf(other));
}

}  // namespace
}  // namespace nibble::engine
