// Writes the seeds of gguf_fuzz into the folder named: a right file of each architecture, one with every encoding and
// metadata type, and broken ones. Deterministic; run it after a change of the builder:
//   ninja -C build/release gguf_corpus && build/release/bin/gguf_corpus tests/fuzz/gguf_corpus
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

GgufBuilder EveryType() {
  GgufBuilder file = TinyGguf("llama");
  file.Set("t.u8", uint8_t{1}).Set("t.i8", int8_t{-1}).Set("t.u16", uint16_t{2}).Set("t.i16", int16_t{-2});
  file.Set("t.u64", uint64_t{3}).Set("t.i64", int64_t{-3}).Set("t.f64", 0.5).Set("t.bool", true);
  file.Set("t.bools", std::vector<bool>{true, false}).Set("t.doubles", std::vector<double>{1, 2});
  file.Set("general.alignment", uint32_t{8}).Set("llama.rope.scaling.type", "linear");
  file.Set("llama.rope.scaling.factor", 2.0f).Set("llama.vocab_size", uint32_t{6});
  file.Set("tokenizer.chat_template", "{{ m }}").Set("tokenizer.ggml.add_bos_token", true);
  file.alignment = 8;
  for (const EncodingTraits& traits : AllEncodings()) {
    if (traits.gguf_type == kNoGgufType) continue;
    file.AddRaw("extra." + std::string(traits.name), {1, traits.block_elements}, traits.gguf_type,
                std::string(static_cast<size_t>(traits.block_bytes), '\x12'));
  }
  return file.AddF32("rope_freqs.weight", {2}, std::vector<float>{1, 8});
}

void Write(const std::string& folder, const std::string& name, const std::string& bytes) {
  std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
}

void WriteAll(const std::string& folder) {
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    GgufBuilder file = TinyGguf(architecture, 1);
    Write(folder, std::string("tiny_") + architecture, file.Build());
    Write(folder, std::string("cut_") + architecture, file.Build().substr(0, file.HeaderBytes() / 2));
  }
  Write(folder, "every_type", EveryType().Build());
  GgufBuilder file;
  Write(folder, "empty_file", "");
  Write(folder, "no_entries", file.Build());
  file.version = 2;
  Write(folder, "one_tensor", file.AddF32("t", {2, 4}, std::vector<float>(8)).Build());
  file.tensor("t").offset_error = -32;
  Write(folder, "offset_wraps", file.Build());
  file.metadata_count_error = ~uint64_t{0};
  Write(folder, "huge_count", file.Build());
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
