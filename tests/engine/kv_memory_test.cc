#include "engine/kv_memory.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

using testing::HasSubstr;

KvCosts Banded() {
  KvCosts costs;
  costs.page_bytes = 100, costs.raw_page_bytes = 800, costs.table_bytes = 5000, costs.passing_bytes = 500;
  costs.window_pages = 1, costs.sink_pages = 1;
  return costs;
}

TEST(KvMemory, PagesInPlaceTakeAllOfIt) {
  KvCosts costs;
  costs.page_bytes = 800;
  const auto shape = DivideKvMemory(100'000, costs, 8192, 64);
  ASSERT_THAT(shape, IsOk());
  EXPECT_EQ(shape->num_pages, 125);
  EXPECT_TRUE(shape->in_place());
}

TEST(KvMemory, RawSlotsAreForTheSequencesThatFitWithTheirPages) {
  // A sequence of 1024 tokens: 32 pages and 3 raw slots, 5600 bytes; a chunk: 2 raw slots more.
  const auto shape = DivideKvMemory(5500 + 1600 + 3 * 5600 + 5599, Banded(), 8192, 64);
  ASSERT_THAT(shape, IsOk());
  EXPECT_EQ(shape->raw_slots, 3 * 3 + 2);
  EXPECT_EQ(shape->num_pages, 3 * 32 + 55);
  EXPECT_EQ(DivideKvMemory(100'000, Banded(), 8192, 2)->raw_slots, 2 * 3 + 2);
  EXPECT_EQ(DivideKvMemory(100'000, Banded(), 320, 64)->raw_slots, 27 * 3 + 2);  // sequences of 10 pages
}

TEST(KvMemory, TooLittleSaysWhatIsNeeded) {
  for (const int64_t bytes : {int64_t{-1}, int64_t{0}, int64_t{5500}, int64_t{9599}}) {
    EXPECT_THAT(DivideKvMemory(bytes, Banded(), 8192, 64),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kv_memory")))
        << bytes;
  }
  EXPECT_THAT(DivideKvMemory(9600, Banded(), 8192, 64), IsOk());
  EXPECT_THAT(DivideKvMemory(std::numeric_limits<int64_t>::max(), Banded(), 8192, 64),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("numbered")));
}

}  // namespace
}  // namespace nibble::engine
