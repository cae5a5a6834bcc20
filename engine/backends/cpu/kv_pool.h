// The bytes of the KV cache: sealed pages, raw slots, and raw places of pages that live only as long as a step. Sealed
// pages lie layer after layer, inside a layer head after head, inside a head page after page: attention reads pages
// with neighbouring numbers of one head at a time, and memory gives them fastest in a row. Raw ones lie layer after
// layer, inside a layer page after page, inside a page head after head.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_KV_POOL_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_KV_POOL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "engine/backends/backend.h"
#include "engine/backends/cpu/aligned_buffer.h"
#include "kvcache/codecs/page_codec.h"
#include "kvcache/codecs/raw_form.h"

namespace nibble::engine {

class KvPool {
 public:
  // `codec` seals pages and must outlive the pool; nullptr: pages stay raw in their own place.
  KvPool(const kv::RawForm& raw_form, const kv::PageCodec* codec) : raw_form_(raw_form), codec_(codec) {}

  // RESOURCE_EXHAUSTED if memory ends.
  absl::Status Allocate(const KvShape& shape, const kv::CacheShape& cache, int64_t step_tokens);

  const kv::RawForm& raw_form() const { return raw_form_; }
  const kv::PageCodec* codec() const { return codec_; }
  const kv::CacheShape& cache_shape() const { return cache_; }

  // One head's part of the raw form of the sequence's page `index`, which must have one.
  std::byte* Raw(const SequenceRows& sequence, int64_t index, kv::HeadId head) const;
  // One head's part of a sealed page. REQUIRES: codec() is not null.
  std::byte* Sealed(kv::PageId page, kv::HeadId head) const;
  // Bytes of that part.
  int64_t sealed_bytes(kv::HeadId head) const { return heads_[HeadIndex(head)].page_bytes; }

  // Pages [first, end) that a query in page `page` reads sealed, of those in [from, to).
  struct PageRange {
    int64_t first, end;
  };
  PageRange SealedIn(int64_t page, int64_t from, int64_t to) const;

  // In builds that check themselves, before a layer's rows are stored: whatever the places of the pages that begin in
  // this step held before becomes NaN.
  void PoisonNewPages(absl::Span<const SequenceRows> batch, int layer) const;

 private:
  // One head's part of all sealed pages.
  struct Head {
    int64_t start;       // in pages_
    int64_t page_bytes;  // of one page
  };

  size_t HeadIndex(kv::HeadId head) const {
    return static_cast<size_t>(head.layer * shape_.num_kv_heads + head.kv_head);
  }
  std::byte* RawPlace(const AlignedBuffer& buffer, int64_t place, kv::HeadId head) const;

  const kv::RawForm& raw_form_;
  const kv::PageCodec* const codec_;
  KvShape shape_;
  kv::CacheShape cache_;
  int64_t raw_head_bytes_ = 0;
  std::vector<Head> heads_;  // [layers * heads]
  AlignedBuffer pages_, raw_slots_;
  AlignedBuffer passing_;  // of the current layer: raw slots numbered from cache_.raw_slots on
};

// Bytes of a page's raw form.
int64_t RawPageBytes(const kv::RawForm& raw_form, const KvShape& shape);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_KV_POOL_H_
