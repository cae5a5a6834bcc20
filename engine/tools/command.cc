#include "engine/tools/command.h"

#include <algorithm>
#include <cstdio>
#include <optional>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::string_view View(std::string_view text) { return absl::string_view(text.data(), text.size()); }

std::string Dashed(absl::string_view name) { return absl::StrReplaceAll(name, {{"_", "-"}}); }

bool Accepts(const Command& command, const std::string& dashed_name) {
  return std::find(command.flags.begin(), command.flags.end(), std::string_view(dashed_name)) != command.flags.end();
}

absl::CommandLineFlag* FlagOf(absl::string_view name) {
  return absl::FindCommandLineFlag(absl::StrReplaceAll(name, {{"-", "_"}}));
}

// A flag as written: its name with dashes, and the value where the word itself gives one.
struct Written {
  absl::CommandLineFlag* flag;
  std::string name;
  std::optional<std::string> value;
};

absl::StatusOr<Written> ReadWord(const Command& command, absl::string_view word) {
  absl::string_view body = word.substr(2);
  Written written{nullptr, Dashed(body.substr(0, body.find('='))), std::nullopt};
  if (const size_t equals = body.find('='); equals != absl::string_view::npos) {
    written.value = std::string(body.substr(equals + 1));
  }
  if (!Accepts(command, written.name) && absl::StartsWith(written.name, "no") && !written.value) {
    const std::string positive = written.name.substr(2);
    if (Accepts(command, positive) && FlagOf(positive)->IsOfType<bool>()) written = {nullptr, positive, "false"};
  }
  if (!Accepts(command, written.name)) {
    const bool elsewhere = FlagOf(written.name) != nullptr;
    return absl::InvalidArgumentError(
        absl::StrCat(elsewhere ? "this command has no flag --" : "unknown flag --", written.name, "; see --help"));
  }
  written.flag = FlagOf(written.name);
  NIBBLE_CHECK(written.flag != nullptr);
  return written;
}

// Sets one flag from args[i]; returns how many words it took.
absl::StatusOr<size_t> ReadFlag(const Command& command, absl::Span<char* const> args, size_t i) {
  NIBBLE_ASSIGN_OR_RETURN(Written written, ReadWord(command, args[i]));
  size_t taken = 1;
  if (!written.value && written.flag->IsOfType<bool>()) written.value = "true";
  if (!written.value) {
    if (i + 1 >= args.size()) return absl::InvalidArgumentError(absl::StrCat("--", written.name, " needs a value"));
    written.value = args[i + 1];
    taken = 2;
  }
  std::string error;
  if (!written.flag->ParseFrom(*written.value, &error)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", written.name, "=", *written.value, ": ", error.empty() ? "cannot be read" : error));
  }
  return taken;
}

bool AsksForHelp(absl::Span<char* const> args) {
  for (const char* arg : args) {
    const std::string_view word(arg);
    if (word == "--") return false;
    if (word == "--help" || word == "-h") return true;
  }
  return false;
}

std::string TitleOf(std::string_view program, const Command& command) {
  return command.name.empty() ? std::string(program) : absl::StrCat(View(program), " ", View(command.name));
}

// One line whatever the message holds.
void PrintFailure(const std::string& title, absl::string_view message) {
  const std::string line = absl::StrReplaceAll(message, {{"\n", " "}});
  std::fprintf(stderr, "%s: %s\n", title.c_str(), line.c_str());
}

std::string ListOf(std::string_view program, absl::Span<const Command> commands) {
  std::string text = absl::StrCat("usage: ", View(program), " COMMAND …\n\ncommands (each has --help):\n");
  for (const Command& command : commands) {
    absl::StrAppend(&text, "  ", View(command.name), std::string(10 - std::min<size_t>(9, command.name.size()), ' '),
                    View(command.summary), "\n");
  }
  return text;
}

int Execute(std::string_view program, const Command& command, absl::Span<char* const> args) {
  if (AsksForHelp(args)) {
    std::fputs(HelpOf(program, command).c_str(), stdout);
    return 0;
  }
  absl::StatusOr<std::vector<std::string>> positionals = ParseCommandLine(command, args);
  const absl::Status status = positionals.ok() ? command.run(*positionals) : positionals.status();
  if (!status.ok()) PrintFailure(TitleOf(program, command), status.message());
  return ExitStatusOf(status);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ParseCommandLine(const Command& command, absl::Span<char* const> args) {
  std::vector<std::string> positionals;
  bool flags_ended = false;
  for (size_t i = 0; i < args.size();) {
    const std::string_view word(args[i]);
    if (!flags_ended && word == "--") {
      flags_ended = true;
      ++i;
    } else if (!flags_ended && word.size() > 2 && word.substr(0, 2) == "--") {
      NIBBLE_ASSIGN_OR_RETURN(const size_t taken, ReadFlag(command, args, i));
      i += taken;
    } else if (!flags_ended && word.size() > 1 && word[0] == '-') {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", View(word), "; see --help"));
    } else {
      positionals.emplace_back(word);
      ++i;
    }
  }
  const int count = static_cast<int>(positionals.size());
  if (count < command.min_positionals) return absl::InvalidArgumentError("an argument is missing; see --help");
  if (count > command.max_positionals) {
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", positionals.back(), "\"; see --help"));
  }
  return positionals;
}

std::string HelpOf(std::string_view program, const Command& command) {
  std::string text = absl::StrCat("usage: ", TitleOf(program, command), " ", View(command.arguments), "\n\n",
                                  View(command.summary), "\n\nflags:\n");
  for (const std::string_view name : command.flags) {
    const absl::CommandLineFlag* flag = FlagOf(View(name));
    NIBBLE_CHECK(flag != nullptr);
    absl::StrAppend(&text, "  --", View(name), "  ", flag->Help());
    if (!flag->DefaultValue().empty()) absl::StrAppend(&text, " (default ", flag->DefaultValue(), ")");
    absl::StrAppend(&text, "\n");
  }
  return text;
}

int ExitStatusOf(const absl::Status& status) {
  if (status.ok()) return 0;
  const bool asked_wrongly =
      absl::IsInvalidArgument(status) || absl::IsNotFound(status) || absl::IsPermissionDenied(status);
  return asked_wrongly ? 2 : 1;
}

int RunCommand(std::string_view program, const Command& command, int argc, char** argv) {
  return Execute(program, command, absl::MakeConstSpan(argv + 1, static_cast<size_t>(argc - 1)));
}

int RunSubcommand(std::string_view program, absl::Span<const Command> commands, int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    std::fputs(ListOf(program, commands).c_str(), stdout);
    return 0;
  }
  for (const Command& command : commands) {
    if (command.name == name)
      return Execute(program, command, absl::MakeConstSpan(argv + 2, static_cast<size_t>(argc - 2)));
  }
  PrintFailure(std::string(program), name.empty() ? "a command is needed; see --help"
                                                  : absl::StrCat("unknown command \"", View(name), "\"; see --help"));
  return 2;
}

}  // namespace nibble::engine
