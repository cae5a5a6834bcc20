// An offline command as the shell sees it: words in, text and an exit status out.
#ifndef NIBBLE_TESTS_ENGINE_TOOLS_RUN_NIBBLE_H_
#define NIBBLE_TESTS_ENGINE_TOOLS_RUN_NIBBLE_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/flags/reflection.h"
#include "engine/tools/command.h"
#include "gtest/gtest.h"

namespace nibble::engine {

struct Outcome {
  int status;
  std::string out, err;
};

inline Outcome RunNibble(std::vector<std::string> words) {
  const absl::FlagSaver saver;
  words.insert(words.begin(), "nibble");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = RunSubcommand("nibble", OfflineCommands(), static_cast<int>(argv.size()), argv.data());
  std::string out = testing::internal::GetCapturedStdout();
  return {status, std::move(out), testing::internal::GetCapturedStderr()};
}

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_TOOLS_RUN_NIBBLE_H_
