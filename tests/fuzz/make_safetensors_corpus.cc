// Writes the seeds of safetensors_fuzz into the folder named: right files and broken ones. Deterministic:
//   ninja -C build/release safetensors_corpus && build/release/bin/safetensors_corpus tests/fuzz/safetensors_corpus
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "engine/weights/model_file.h"
#include "engine/weights/quantized_file.h"
#include "engine/weights/safetensors.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

constexpr char kBytes[] = "0123456789abcdef0123456789abcdef";

SafetensorsTensor TensorOf(const std::string& name, const std::string& type, std::vector<int64_t> shape) {
  const SafetensorsType found = FindSafetensorsType(type)->type;
  uint64_t size = TraitsOf(found).bytes;
  for (const int64_t dim : shape) size *= static_cast<uint64_t>(dim);
  return {name, found, std::move(shape), {reinterpret_cast<const std::byte*>(kBytes), size}};
}

std::string FileOf(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + header + data;
}

void Write(const std::string& folder, const std::string& name, const std::string& bytes) {
  std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
}

std::string TinyQuantized() {
  const std::string gguf = TinyGguf("llama", 1).Build();
  const ModelFile model = *ParseModelFile(AsBytes(gguf), nullptr);
  const auto tensors = model.weights->tensors();
  return SerializeQuantized({{}, AsBytes(gguf), {tensors.begin(), tensors.end()}, {{{0, 7}, {1}, {}, {11}}}});
}

void WriteAll(const std::string& folder) {
  Write(folder, "quantized", TinyQuantized());
  const std::string adapter = SerializeSafetensors(
      {{"format", "pt"}, {"note", "caf\xc3\xa9 \"quoted\"\n"}},
      {TensorOf("layers.0.lora_A.weight", "BF16", {2, 4}), TensorOf("layers.0.lora_B.weight", "F32", {4, 2}),
       TensorOf("scale", "F64", {}), TensorOf("empty", "I64", {3, 0}), TensorOf("mask", "BOOL", {5})});
  Write(folder, "adapter", adapter);
  Write(folder, "cut_header", adapter.substr(0, 60));
  Write(folder, "cut_data", adapter.substr(0, adapter.size() - 3));
  Write(folder, "nothing", SerializeSafetensors({}, {}));
  std::vector<SafetensorsTensor> all;
  for (const char* type : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32", "F32",
                           "F64", "I64", "U64"}) {
    all.push_back(TensorOf(type, type, {1}));
  }
  Write(folder, "every_type", SerializeSafetensors({}, all));
  const std::string field = R"({"dtype":"U8","shape":[2],"data_offsets":)";
  Write(folder, "overlap", FileOf("{\"a\":" + field + "[0,2]},\"b\":" + field + "[1,3]}}", "abc"));
  Write(folder, "hole", FileOf("{\"a\":" + field + "[0,2]},\"b\":" + field + "[3,5]}}", "abcde"));
  Write(folder, "backwards", FileOf("{\"a\":" + field + "[2,0]}}", "ab"));
  Write(folder, "number", FileOf("{\"a\":" + field + "[0,1e999]}}", "ab"));
  Write(folder, "overflow",
        FileOf(R"({"a":{"dtype":"F64","shape":[4611686018427387904,8],"data_offsets":[0,0]}})", ""));
  Write(folder, "duplicate", FileOf("{\"a\":" + field + "[0,2]},\"\\u0061\":" + field + "[0,2]}}", "ab"));
  Write(folder, "deep", FileOf("{\"a\":{\"shape\":" + std::string(100, '['), ""));
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
