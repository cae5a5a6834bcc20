// What happens where operator new finds no memory. Nothing is unwound: Abseil's containers, gRPC and a step of the loop
// do not bear std::bad_alloc.
//
// Before the daemon serves, the process ends and says why. From then on it has memory put aside: an allocation that
// fails, on whatever thread and in whatever library, gets from that and goes on, so that what is being served is served
// to its end, and new requests are refused until the reserve is whole again.
//
// The reserve is address space that nothing is written to, so it takes no memory where the system promises more than it
// has. It helps where allocations fail: under RLIMIT_AS and strict overcommit. A cgroup's limit kills instead, and what
// C code takes by malloc (gRPC's core) is not covered.
#ifndef NIBBLE_SERVER_MEMORY_RESERVE_H_
#define NIBBLE_SERVER_MEMORY_RESERVE_H_

#include <cstdint>

namespace nibble::server {

// More than the requests that run together allocate until they end.
inline constexpr int64_t kMemoryReserveBytes = int64_t{32} << 20;

// First in main(). From now on the process ends with status 1 and a line on stderr.
void EndWhereMemoryEnds();

// Before threads that serve. From now on there is the reserve; std::bad_alloc is thrown only where that is used up too,
// which ends the process except where one large piece is asked for (adapters).
void PutMemoryAside();

// Any thread; a few nanoseconds while nothing is missing. Puts aside what has been used. False: the system has none to
// spare now. True also where PutMemoryAside was not called.
bool RestoreMemoryReserve();

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_MEMORY_RESERVE_H_
