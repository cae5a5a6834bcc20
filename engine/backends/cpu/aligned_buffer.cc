#include "engine/backends/cpu/aligned_buffer.h"

#include <sys/mman.h>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"

namespace nibble::engine {

void AlignedBuffer::Unmap::operator()(std::byte* data) const { munmap(data, size); }

absl::StatusOr<AlignedBuffer> AlignedBuffer::Allocate(int64_t bytes) {
  AlignedBuffer buffer;
  NIBBLE_CHECK(bytes >= 0);
  if (bytes == 0) return buffer;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes"));
  madvise(memory, bytes, MADV_HUGEPAGE);  // a hint: refusal costs speed only
  buffer.data_ = {static_cast<std::byte*>(memory), Unmap{bytes}};
  buffer.size_ = bytes;
  return buffer;
}

}  // namespace nibble::engine
