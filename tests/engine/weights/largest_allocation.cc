#include "tests/engine/weights/largest_allocation.h"

#include <algorithm>
#include <cstdlib>
#include <new>

// Apart from the tests that use it: inlined into one, they would look mismatched to the compiler.
void* operator new(size_t size) {
  nibble::largest_allocation_bytes = std::max(nibble::largest_allocation_bytes, size);
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
