#include "engine/tools/flags.h"

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class RunModes : public testing::Test {
 protected:
  static absl::StatusOr<std::vector<RunMode>> Of(std::vector<std::string> weights, std::vector<std::string> activations,
                                                 std::vector<std::string> kv = {"f16"}) {
    absl::SetFlag(&FLAGS_weights, std::move(weights));
    absl::SetFlag(&FLAGS_activations, std::move(activations));
    absl::SetFlag(&FLAGS_kv, std::move(kv));
    return RunModesFromFlags();
  }

 private:
  absl::FlagSaver saver_;
};

TEST_F(RunModes, AreTheProductInOrder) {
  const auto modes = Of({"w8", "file"}, {"f32", "a8"}, {"f16", "f16"});
  ASSERT_THAT(modes, IsOk());
  EXPECT_EQ(modes->size(), 8u);
  EXPECT_EQ((*modes)[2], (RunMode{"w8", "a8", "f16"}));
}

TEST_F(RunModes, WithoutActivationsEachWeightModeTakesItsOwn) {
  const auto modes = Of({"file", "f32"}, {});
  ASSERT_THAT(modes, IsOk());
  EXPECT_THAT(*modes, ElementsAre(RunMode{"file", "a8", "f16"}, RunMode{"f32", "f32", "f16"}));
}

TEST_F(RunModes, PairsThatCannotBeAreLeftOut) {
  const auto modes = Of({"file", "f32"}, {"a8", "f32"});
  ASSERT_THAT(modes, IsOk());
  EXPECT_THAT(*modes,
              ElementsAre(RunMode{"file", "a8", "f16"}, RunMode{"file", "f32", "f16"}, RunMode{"f32", "f32", "f16"}));
}

TEST_F(RunModes, ImpossibleAndUnknownOnesAreRefused) {
  const auto refused = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Of({"f32"}, {"a8"}), StatusIs(refused, HasSubstr("--weights=f32 needs --activations=f32")));
  EXPECT_THAT(Of({"w7"}, {}), StatusIs(refused, HasSubstr("'w7'")));
  EXPECT_THAT(Of({"file"}, {"a9"}), StatusIs(refused, HasSubstr("'a9'")));
  EXPECT_THAT(Of({"file"}, {}, {"f17"}), StatusIs(refused, HasSubstr("'f17'")));
}

TEST_F(RunModes, WithoutACodecTheCacheIsF16) {
  EXPECT_THAT(*Of({"file"}, {}, {}), ElementsAre(RunMode{"file", "a8", "f16"}));
}

TEST(NumbersOf, ReadsAListAndRefusesTheRest) {
  const auto numbers = NumbersOf("batch", {"1", "32"}, 1);
  ASSERT_THAT(numbers, IsOk());
  EXPECT_THAT(*numbers, ElementsAre(1, 32));
  const auto refused = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(NumbersOf("batch", {"0"}, 1), StatusIs(refused, HasSubstr("--batch=0: must be at least 1")));
  EXPECT_THAT(NumbersOf("batch", {"1x"}, 1), StatusIs(refused, HasSubstr("'1x'")));
  EXPECT_THAT(NumbersOf("batch", {}, 1), StatusIs(refused, HasSubstr("empty")));
}

}  // namespace
}  // namespace nibble::engine
