// The `nibble` command: the engine's offline commands and the client of a daemon, in one table.
#include <vector>

#include "engine/tools/command.h"
#include "server/chat_client.h"

int main(int argc, char** argv) {
  std::vector<nibble::engine::Command> commands = nibble::engine::OfflineCommands();
  commands.push_back(nibble::server::ChatCommand());
  return nibble::engine::RunSubcommand("nibble", commands, argc, argv);
}
