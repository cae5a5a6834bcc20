#include "server/memory_reserve.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>

namespace nibble::server {
namespace {

// Given back one at a time: threads may run out of memory together.
constexpr int kBlocks = 16;
constexpr int64_t kBlockBytes = kMemoryReserveBytes / kBlocks;

std::array<std::atomic<void*>, kBlocks> blocks;
std::atomic<int> missing = 0;

void* MapBlock() { return mmap(nullptr, kBlockBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

// The new-handler: returning means that the allocation may be tried again.
void GiveBackABlock() {
  for (std::atomic<void*>& place : blocks) {
    if (void* const block = place.exchange(nullptr)) {
      ++missing;
      munmap(block, kBlockBytes);
      return;
    }
  }
  throw std::bad_alloc();
}

// The new-handler until then. Takes no memory.
[[noreturn]] void End() {
  constexpr char kReason[] = "nibbled: no memory is left\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kReason, sizeof(kReason) - 1);
  _exit(1);
}

}  // namespace

void EndWhereMemoryEnds() { std::set_new_handler(End); }

void PutMemoryAside() {
  missing = static_cast<int>(std::count(blocks.begin(), blocks.end(), nullptr));
  RestoreMemoryReserve();
  std::set_new_handler(GiveBackABlock);
}

bool RestoreMemoryReserve() {
  if (missing == 0) return true;
  for (std::atomic<void*>& place : blocks) {
    if (place.load() != nullptr) continue;
    void* const block = MapBlock();
    if (block == MAP_FAILED) return false;
    void* empty = nullptr;
    if (place.compare_exchange_strong(empty, block)) {
      --missing;
    } else {
      munmap(block, kBlockBytes);
    }
  }
  return missing == 0;
}

}  // namespace nibble::server
