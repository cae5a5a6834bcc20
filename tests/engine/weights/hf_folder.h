// Hugging Face folders made from GGUF files, as their makers would have published them: what a test writes, right or
// with one thing broken. Written apart from the tables of engine/weights, so that a wrong row there shows.
#ifndef NIBBLE_TESTS_ENGINE_WEIGHTS_HF_FOLDER_H_
#define NIBBLE_TESTS_ENGINE_WEIGHTS_HF_FOLDER_H_

#include <deque>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tokenizer/data.h"
#include "engine/weights/gguf.h"
#include "engine/weights/safetensors.h"

namespace nibble::engine {

struct HfFolder {
  nlohmann::json config, tokenizer, tokenizer_config, generation_config;
  std::vector<SafetensorsTensor> tensors;
  std::deque<std::string> data;  // of the tensors

  // REQUIRES: there is such a tensor.
  SafetensorsTensor& tensor(std::string_view name);
  void Add(const std::string& name, SafetensorsType type, std::vector<int64_t> shape, std::string bytes);
};

// Encodings that safetensors files do not have become F32. REQUIRES: the file holds a model of a known architecture.
HfFolder HfFolderFrom(const GgufFile& file);

// The tokenizer part alone, for a vocabulary of any GGUF file. Merges of the SentencePiece style are made of the scores
// as `transformers` makes them.
nlohmann::json HfTokenizerFrom(const TokenizerData& data);

// A folder on the disk, gone when this is.
class WrittenFolder {
 public:
  // `name` and the process tell it from others. One safetensors file, or as many as asked for and their index.
  WrittenFolder(const HfFolder& folder, const std::string& name, size_t shards = 1);
  ~WrittenFolder();
  WrittenFolder(const WrittenFolder&) = delete;
  WrittenFolder& operator=(const WrittenFolder&) = delete;

  std::string path() const { return path_.string(); }
  // Replaces or adds a file.
  void Write(const std::string& file, const std::string& bytes) const;
  std::string Read(const std::string& file) const;
  void Remove(const std::string& file) const;

 private:
  void WriteShards(const HfFolder& folder, size_t shards) const;

  const std::filesystem::path path_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_TESTS_ENGINE_WEIGHTS_HF_FOLDER_H_
