// What this machine can do at most, measured: the yardsticks of `nibble bench`.
#ifndef NIBBLE_ENGINE_TOOLS_MACHINE_H_
#define NIBBLE_ENGINE_TOOLS_MACHINE_H_

#include <cstdint>
#include <string>

#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct BenchMachine {
  std::string cpu;  // the model name of the first processor
  std::string isa;
  int threads = 1;
  double int8_gmacs = 0.0;  // 1e9 multiply-adds of bytes into int32 per second, all threads, operands in registers
  double read_gbps = 0.0;   // 1e9 bytes read from memory per second, all threads
};

// Takes about a second and 256 MiB.
BenchMachine MeasureMachine(simd::Isa isa, int threads);

// Memory that can be had without swapping, by the system's estimate.
int64_t AvailableMemoryBytes();

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_MACHINE_H_
