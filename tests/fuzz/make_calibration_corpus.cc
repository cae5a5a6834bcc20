// Writes the seeds of calibration_fuzz into the folder named: right files and broken ones. Deterministic:
//   ninja -C build/release calibration_corpus && build/release/bin/calibration_corpus tests/fuzz/calibration_corpus
#include <cstdio>
#include <fstream>
#include <string>

#include "tests/engine/quant/calibration/tiny_calibration.h"

namespace nibble::engine {
namespace {

void Write(const std::string& folder, const std::string& name, const std::string& bytes) {
  std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
}

std::string Replaced(std::string bytes, const std::string& from, const std::string& to) {
  return bytes.replace(bytes.find(from), from.size(), to);
}

void WriteAll(const std::string& folder) {
  CalibrationFile file = TinyCalibrationFile();
  file.codecs = {TinyCalibration("cq1", 1, 1)};
  const std::string one = SerializeCalibration(file);
  Write(folder, "one_codec", one);
  Write(folder, "another_version", Replaced(one, "\"format_version\":\"1\"", "\"format_version\":\"2\""));
  Write(folder, "other_shape", Replaced(one, "[1,2,1,4]", "[2,1,1,4]"));
  Write(folder, "no_heads", Replaced(one, "[1,2,1,4]", "[1,2,0,4]"));
  Write(folder, "missing", Replaced(one, "cq1.groups", "cq1.gruops"));
  std::string flipped = one;
  flipped[flipped.size() - 1] = '\x7f';
  Write(folder, "flipped", flipped);
  Write(folder, "cut", one.substr(0, one.size() / 2));
  file.codecs.push_back(TinyCalibration("klt2", 2, 1));
  Write(folder, "two_codecs", SerializeCalibration(file));  // klt2's codebooks are mirrored
}

}  // namespace
}  // namespace nibble::engine

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  nibble::engine::WriteAll(argv[1]);
  return 0;
}
