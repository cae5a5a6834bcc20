#include "engine/backends/cpu/kv_pool.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::StatusOr<AlignedBuffer> AllocateMany(int64_t count, int64_t bytes_each) {
  int64_t bytes = 0;
  if (__builtin_mul_overflow(count, bytes_each, &bytes)) return absl::ResourceExhaustedError("kv_memory: overflows");
  return AlignedBuffer::Allocate(bytes);
}

}  // namespace

int64_t RawPageBytes(const kv::RawForm& raw_form, const KvShape& shape) {
  return int64_t{shape.num_layers} * shape.num_kv_heads * raw_form.head_bytes(shape.head_dim);
}

absl::Status KvPool::Allocate(const KvShape& shape, const kv::CacheShape& cache, int64_t step_tokens) {
  NIBBLE_CHECK(cache.in_place() == (codec_ == nullptr));
  shape_ = shape;
  cache_ = cache;
  raw_head_bytes_ = raw_form_.head_bytes(shape.head_dim);
  const int64_t raw_page_bytes = RawPageBytes(raw_form_, shape);
  const int64_t page_bytes = codec_ == nullptr ? raw_page_bytes : codec_->page_bytes();
  NIBBLE_ASSIGN_OR_RETURN(pages_, AllocateMany(cache.num_pages, page_bytes));
  if (cache.in_place()) return absl::OkStatus();
  const int heads = shape.num_layers * shape.num_kv_heads;
  const auto offset_of = [&](int head) {
    return head == heads ? page_bytes : codec_->head_offset({head / shape.num_kv_heads, head % shape.num_kv_heads});
  };
  for (int head = 0; head < heads; ++head) {
    heads_.push_back({cache.num_pages * offset_of(head), offset_of(head + 1) - offset_of(head)});
  }
  NIBBLE_ASSIGN_OR_RETURN(raw_slots_, AllocateMany(cache.raw_slots, raw_page_bytes));
  NIBBLE_ASSIGN_OR_RETURN(passing_, AllocateMany(step_tokens / kv::kPageTokens, raw_page_bytes / shape.num_layers));
  return absl::OkStatus();
}

std::byte* KvPool::RawPlace(const AlignedBuffer& buffer, int64_t place, kv::HeadId head) const {
  return buffer.data() + (place * shape_.num_kv_heads + head.kv_head) * raw_head_bytes_;
}

std::byte* KvPool::Raw(const SequenceRows& sequence, int64_t index, kv::HeadId head) const {
  if (cache_.in_place()) return RawPlace(pages_, head.layer * cache_.num_pages + sequence.pages[index], head);
  const kv::RawSlot slot = sequence.raw_slots[index];
  if (slot < cache_.raw_slots) return RawPlace(raw_slots_, head.layer * cache_.raw_slots + slot, head);
  return RawPlace(passing_, slot - cache_.raw_slots, head);
}

std::byte* KvPool::Sealed(kv::PageId page, kv::HeadId head) const {
  const Head& place = heads_[HeadIndex(head)];
  return pages_.data() + place.start + page * place.page_bytes;
}

KvPool::PageRange KvPool::SealedIn(int64_t page, int64_t from, int64_t to) const {
  if (cache_.in_place()) return {from, from};
  const int64_t first = std::max<int64_t>(from, cache_.sink_pages);
  return {first, std::max(first, std::min(to, page - cache_.window_pages))};
}

void KvPool::PoisonNewPages([[maybe_unused]] absl::Span<const SequenceRows> batch, [[maybe_unused]] int layer) const {
#ifndef NDEBUG
  for (const SequenceRows& sequence : batch) {
    const int64_t end = kv::PagesFor(sequence.position + sequence.num_rows);
    for (int64_t page = kv::PagesFor(sequence.position); page < end; ++page) {
      std::memset(Raw(sequence, page, {layer, 0}), 0xFF, static_cast<size_t>(raw_head_bytes_ * shape_.num_kv_heads));
      if (codec_ == nullptr) continue;
      for (int head = 0; head < shape_.num_kv_heads; ++head) {
        std::memset(Sealed(sequence.pages[page], {layer, head}), 0xFF,
                    static_cast<size_t>(sealed_bytes({layer, head})));
      }
    }
  }
#endif
}

}  // namespace nibble::engine
