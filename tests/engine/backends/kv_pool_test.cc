#include "engine/backends/cpu/kv_pool.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvcache/codecs/codec.h"
#include "tests/base/status_matchers.h"

namespace nibble::engine {
namespace {

constexpr KvShape kShape = {2, 2, 32};
constexpr std::byte kOld{0x5A};

class Pool {
 public:
  explicit Pool(const char* codec, const KvShape& shape = kShape, int64_t pages = 4) : shape_(shape) {
    const kv::Codec& found = *kv::FindCodec(codec);
    kv::CodecModel model{shape.num_layers, shape.num_kv_heads, shape.head_dim, 8, {}, {}};
    model.ropes.resize(1);
    model.rope_of_layer.resize(shape.num_layers);
    if (found.create != nullptr) codec_ = *found.create(model, nullptr, simd::Isa::kScalar);
    pool_.emplace(found.raw_form(simd::Isa::kScalar), codec_.get());
    EXPECT_THAT(pool_->Allocate(shape, {pages, codec_ == nullptr ? 0 : 4, found.window_pages, found.sink_pages}, 64),
                IsOk());
  }

  KvPool& operator*() { return *pool_; }

  // What each page of the sequence holds in one layer, raw and sealed: as many runs of bytes as there are places.
  std::vector<absl::Span<std::byte>> Places(const SequenceRows& sequence, int64_t index, int layer) {
    std::vector<absl::Span<std::byte>> places;
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      const kv::HeadId id = {layer, head};
      const int64_t raw_bytes = pool_->raw_form().head_bytes(shape_.head_dim);
      places.push_back({pool_->Raw(sequence, index, id), static_cast<size_t>(raw_bytes)});
      if (codec_ == nullptr) continue;
      places.push_back({pool_->Sealed(sequence.pages[index], id), static_cast<size_t>(pool_->sealed_bytes(id))});
    }
    return places;
  }

 private:
  const KvShape shape_;
  std::unique_ptr<kv::PageCodec> codec_;
  std::optional<KvPool> pool_;
};

// Bytes of the page that are not `value`.
int64_t Others(Pool& pool, const SequenceRows& sequence, int64_t index, int layer, std::byte value) {
  int64_t others = 0;
  for (const absl::Span<std::byte> place : pool.Places(sequence, index, layer)) {
    others += std::count_if(place.begin(), place.end(), [value](std::byte b) { return b != value; });
  }
  return others;
}

// A step of 40 tokens behind the first 40: of the pages 0, 1 and 2 it begins the last alone.
TEST(KvPool, Row39_PagesThatAStepBeginsBecomeNanAndNoOthers) {
#ifdef NDEBUG
  GTEST_SKIP() << "this build does not check itself";
#endif
  for (const char* codec : {"f16", "int8", "kivi2"}) {
    Pool pool(codec);
    const std::vector<kv::PageId> pages = {2, 0, 3};
    const std::vector<kv::RawSlot> slots = {1, 3, 0};
    const SequenceRows sequence = {0, 40, 40, pages, slots};
    for (int64_t index = 0; index < 3; ++index) {
      for (int layer = 0; layer < kShape.num_layers; ++layer) {
        for (const auto place : pool.Places(sequence, index, layer)) std::fill(place.begin(), place.end(), kOld);
      }
    }
    (*pool).PoisonNewPages({sequence}, 1);
    EXPECT_EQ(Others(pool, sequence, 2, 1, std::byte{0xFF}), 0) << codec;
    EXPECT_EQ(Others(pool, sequence, 2, 0, kOld), 0) << codec << ": another layer";
    EXPECT_EQ(Others(pool, sequence, 0, 1, kOld), 0) << codec << ": a full page";
    EXPECT_EQ(Others(pool, sequence, 1, 1, kOld), 0) << codec << ": the page being filled";
  }
}

// Pages of some 5 GiB, of which none is written and so none is taken.
TEST(KvPool, Row39_PlacesAreCountedIn64Bits) {
  const std::pair<const char*, kv::PageId> cases[] = {{"f16", 1'300'000}, {"int8", 2'400'000}};
  for (const auto& [codec, count] : cases) {
    Pool pool(codec, {1, 1, 32}, count);
    const std::vector<kv::PageId> pages = {0, count - 1};
    const std::vector<kv::RawSlot> slots = {0, 1};
    const SequenceRows sequence = {0, 1, 0, pages, slots};
    const absl::Span<std::byte> first = pool.Places(sequence, 0, 0).back(), last = pool.Places(sequence, 1, 0).back();
    const int64_t apart = int64_t{count - 1} * static_cast<int64_t>(first.size());
    ASSERT_GT(apart, int64_t{1} << 32);
    EXPECT_EQ(last.data() - first.data(), apart) << codec;
  }
}

}  // namespace
}  // namespace nibble::engine
