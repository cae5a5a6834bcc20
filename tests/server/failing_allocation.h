// An operator new that fails when it is told to, of the whole program that links failing_allocation.cc. Where the
// new-handler has returned, the same allocation succeeds.
#ifndef NIBBLE_TESTS_SERVER_FAILING_ALLOCATION_H_
#define NIBBLE_TESTS_SERVER_FAILING_ALLOCATION_H_

#include <cstdint>

namespace nibble::server {

// The n-th allocation from now on (0: the next), of whatever thread, finds no memory.
void FailAllocation(int64_t n);
// Nothing fails from now on. True: something has.
bool StopFailing();

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_FAILING_ALLOCATION_H_
