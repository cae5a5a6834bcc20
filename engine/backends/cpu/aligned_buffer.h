// Zeroed memory, page-aligned and marked for huge pages.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_ALIGNED_BUFFER_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

namespace nibble::engine {

class AlignedBuffer {
 public:
  AlignedBuffer() {}
  // RESOURCE_EXHAUSTED where the system refuses, which with overcommit it does for absurd sizes only: memory is taken
  // page by page as it is written, and who must not run out compares with what is free beforehand. `bytes` >= 0; none:
  // data() is null.
  static absl::StatusOr<AlignedBuffer> Allocate(int64_t bytes);

  std::byte* data() const { return data_.get(); }
  int64_t size() const { return size_; }

 private:
  struct Unmap {
    int64_t size;
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Unmap> data_{nullptr, Unmap{0}};
  int64_t size_ = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_ALIGNED_BUFFER_H_
