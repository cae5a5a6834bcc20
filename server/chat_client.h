// `nibble chat`: asks a running daemon one question and writes the answer to stdout as it comes, and nothing else.
#ifndef NIBBLE_SERVER_CHAT_CLIENT_H_
#define NIBBLE_SERVER_CHAT_CLIENT_H_

#include "engine/tools/command.h"

namespace nibble::server {

engine::Command ChatCommand();

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_CHAT_CLIENT_H_
