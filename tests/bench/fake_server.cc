// A server that answers at once, or by a fixed delay and gap, to find out what nibble-loadtest itself can take.
//
// usage: fake_server [FIRST_MS [GAP_MS [TOKENS]]]; streams break off after TOKENS. Prints its address, and ends when
// its input does.
#include <cstdio>
#include <cstdlib>

#include "tests/loadtest/timed_server.h"

int main(int argc, char** argv) {
  nibble::loadtest::Script script;
  if (argc > 1) script.first = std::chrono::milliseconds(std::atoi(argv[1]));
  if (argc > 2) script.gap = std::chrono::milliseconds(std::atoi(argv[2]));
  if (argc > 3) script.close_after = std::atoi(argv[3]);
  const nibble::loadtest::TimedServer server(script);
  std::printf("%s\n", server.address().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}
