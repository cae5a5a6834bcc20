// A subcommand of a program as one row of a table, and the front that chooses a row, reads its flags and turns its
// Status into an exit status. Flags are Abseil flags; on the command line `-` and `_` in a name are the same, so
// ABSL_FLAG(int, max_tokens, …) is read from --max-tokens. Thread: main only.
#ifndef NIBBLE_ENGINE_TOOLS_COMMAND_H_
#define NIBBLE_ENGINE_TOOLS_COMMAND_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace nibble::engine {

struct Command {
  std::string_view name;       // "eval"; empty for a program without subcommands
  std::string_view summary;    // one line for the list of commands
  std::string_view arguments;  // what follows the name in the usage line: "--model FILE --text F [--chunks N]"
  // Flags it accepts, as on the command line ("max-tokens"); each must be defined by ABSL_FLAG in the program. Any
  // other flag, defined or not, is wrong usage.
  std::vector<std::string_view> flags;
  int min_positionals = 0;
  int max_positionals = 0;
  absl::Status (*run)(const std::vector<std::string>& positionals) = nullptr;
};

// The offline commands: generate, inspect, tokenize, eval, calibrate, quantize, delta, bench.
std::vector<Command> OfflineCommands();

// Reads `args` (without the program's and the command's name) into the command's Abseil flags: --name=value,
// --name value, --bool, --nobool; `--` ends the flags. Returns the positionals, or INVALID_ARGUMENT in one line.
absl::StatusOr<std::vector<std::string>> ParseCommandLine(const Command& command, absl::Span<char* const> args);

// Usage, summary and the command's own flags with their defaults.
std::string HelpOf(std::string_view program, const Command& command);

// 0 for OK; 2 for what the user asked wrongly (INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED); 1 for everything else.
int ExitStatusOf(const absl::Status& status);

// main() of a program with one command: parses argv[1…], answers --help on stdout, runs, prints a failure as one line
// on stderr. Returns the exit status.
int RunCommand(std::string_view program, const Command& command, int argc, char** argv);
// main() of a program with subcommands: argv[1] names the row.
int RunSubcommand(std::string_view program, absl::Span<const Command> commands, int argc, char** argv);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_COMMAND_H_
