#include "tests/server/scripted_adapters.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "kvcache/base/check.h"
#include "tests/server/scripted_engine.h"

namespace nibble::server {
namespace {

absl::StatusOr<std::unique_ptr<const engine::Adapter>> Load(absl::Span<const std::byte> bytes,
                                                            absl::FunctionRef<void()> /*pause*/) {
  std::istringstream text(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  auto adapter = std::make_unique<ScriptedAdapter>();
  if (text >> adapter->letter >> adapter->size) return adapter;
  return absl::FailedPreconditionError("is no scripted adapter");
}

}  // namespace

ScriptedAdapters::ScriptedAdapters() {
  std::string pattern = std::filesystem::temp_directory_path() / "nibble_adapters.XXXXXX";
  NIBBLE_CHECK(mkdtemp(pattern.data()) != nullptr);
  folder_ = pattern;
}

ScriptedAdapters::~ScriptedAdapters() { std::filesystem::remove_all(folder_); }

void ScriptedAdapters::Write(const std::string& name, char letter, int64_t bytes) const {
  WriteText(name, std::string(1, letter) + " " + std::to_string(bytes));
}

void ScriptedAdapters::WriteText(const std::string& name, const std::string& text) const {
  const std::filesystem::path beside = folder_ / "new";
  std::ofstream(beside) << text;
  std::filesystem::rename(beside, PathOf(name));
}

std::unique_ptr<AdapterRegistry> ScriptedAdapters::Registry(int64_t memory_bytes,
                                                            std::function<sched::Nanos()> clock) const {
  absl::StatusOr<AdapterFolder> folder = AdapterFolder::Open(folder_);
  NIBBLE_CHECK(folder.ok());
  return std::make_unique<AdapterRegistry>(
      *std::move(folder), memory_bytes, Load, [] { return false; }, std::move(clock));
}

}  // namespace nibble::server
