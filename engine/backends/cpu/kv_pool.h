// The bytes of the KV cache: page after page, inside a page layer after layer, inside a layer head after head.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_KV_POOL_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_KV_POOL_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "engine/backends/backend.h"
#include "engine/backends/cpu/aligned_buffer.h"
#include "kvcache/codecs/codec.h"

namespace nibble::engine {

class KvPool {
 public:
  // `codec` must outlive the pool.
  explicit KvPool(const kv::Codec& codec) : codec_(codec) {}

  // RESOURCE_EXHAUSTED if memory ends.
  absl::Status Allocate(const KvShape& shape, int64_t num_pages);

  const kv::Codec& codec() const { return codec_; }
  std::byte* Head(kv::PageId page, int layer, int kv_head) const {
    return buffer_.data() + page * page_bytes_ + layer * layer_bytes_ + kv_head * head_bytes_;
  }

  static int64_t PageBytes(const kv::Codec& codec, const KvShape& shape) {
    return int64_t{shape.num_layers} * shape.num_kv_heads *
           codec.raw_form(simd::Isa::kScalar).head_bytes(shape.head_dim);
  }

 private:
  const kv::Codec& codec_;
  AlignedBuffer buffer_;
  int64_t page_bytes_ = 0, layer_bytes_ = 0, head_bytes_ = 0;
};

inline absl::Status KvPool::Allocate(const KvShape& shape, int64_t num_pages) {
  head_bytes_ = codec_.raw_form(simd::Isa::kScalar).head_bytes(shape.head_dim);
  layer_bytes_ = shape.num_kv_heads * head_bytes_;
  page_bytes_ = PageBytes(codec_, shape);
  int64_t bytes = 0;
  if (__builtin_mul_overflow(num_pages, page_bytes_, &bytes))
    return absl::ResourceExhaustedError("kv_memory: overflows");
  absl::StatusOr<AlignedBuffer> buffer = AlignedBuffer::Allocate(bytes);
  if (!buffer.ok()) return buffer.status();
  buffer_ = *std::move(buffer);
  return absl::OkStatus();
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_KV_POOL_H_
