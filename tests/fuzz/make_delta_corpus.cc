// Writes the seeds of delta_fuzz into the folder named: right files and broken ones. Deterministic:
//   ninja -C build/release delta_corpus && build/release/bin/delta_corpus tests/fuzz/delta_corpus
#include <cstdio>
#include <fstream>
#include <string>

#include "engine/adapters/delta_file.h"

namespace nibble::engine {
namespace {

DeltaFile Delta(int64_t planes, bool scale_per_row) {
  DeltaFile file;
  file.provenance = {std::string(64, '1'), std::string(64, '2'), "a method", "a license"};
  SignDelta signs(planes, 2, 2, scale_per_row);
  for (uint32_t& word : signs.mutable_signs()) word = 0x5A5A5A5A;
  for (float& scale : signs.mutable_scales()) scale = 0.001f;
  file.signs.emplace("blk.0.attn_q.weight", signs);
  CodeDelta codes(1, 8);
  const float values[8] = {1, -2, 3, -4, 5, -6, 7, -8};
  codes.SetRow(0, values);
  file.codes.emplace("output_norm.weight", codes);
  return file;
}

void Write(const std::string& folder, const std::string& name, const std::string& bytes) {
  std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
}

void WriteAll(const std::string& folder) {
  const std::string one = SerializeDelta(Delta(1, false));
  Write(folder, "by_matrix", one);
  Write(folder, "by_row", SerializeDelta(Delta(1, true)));
  Write(folder, "two_planes", SerializeDelta(Delta(2, true)));
  Write(folder, "cut", one.substr(0, one.size() - 3));
  std::string other = one;
  other.replace(other.find("\"1\""), 3, "\"2\"");
  Write(folder, "other_version", other);
}

}  // namespace
}  // namespace nibble::engine

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: delta_corpus FOLDER\n");
    return 2;
  }
  nibble::engine::WriteAll(argv[1]);
  return 0;
}
