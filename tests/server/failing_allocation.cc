#include "tests/server/failing_allocation.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace nibble::server {
namespace {

std::atomic<int64_t> before_failure = -1;  // allocations; negative: none fails
std::atomic<bool> failed = false;

bool Fails() {
  if (before_failure < 0 || before_failure.fetch_sub(1) != 0) return false;
  failed = true;
  return true;
}

void* Allocate(size_t size) {
  void* memory = Fails() ? nullptr : std::malloc(size);
  while (memory == nullptr) {
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
    memory = std::malloc(size);
  }
  return memory;
}

}  // namespace

void FailAllocation(int64_t n) {
  failed = false;
  before_failure = n;
}

bool StopFailing() {
  before_failure = -1;
  return failed;
}

}  // namespace nibble::server

void* operator new(size_t size) { return nibble::server::Allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
