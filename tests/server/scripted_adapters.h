// A folder of files "LETTER BYTES" that load as adapters with which the scripted engine says LETTER and nothing else,
// and that claim to take so many bytes of memory.
#ifndef NIBBLE_TESTS_SERVER_SCRIPTED_ADAPTERS_H_
#define NIBBLE_TESTS_SERVER_SCRIPTED_ADAPTERS_H_

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "server/adapter_registry.h"

namespace nibble::server {

class ScriptedAdapters {
 public:
  ScriptedAdapters();
  ~ScriptedAdapters();

  std::filesystem::path PathOf(const std::string& name) const { return folder_ / (name + ".safetensors"); }
  // Takes the file's place in one step.
  void Write(const std::string& name, char letter, int64_t bytes = 1000) const;
  void WriteText(const std::string& name, const std::string& text) const;

  std::unique_ptr<AdapterRegistry> Registry(int64_t memory_bytes, std::function<sched::Nanos()> clock) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_SCRIPTED_ADAPTERS_H_
