// Rows 55 to 57 of the robustness table, for the files of a Hugging Face folder; those of the safetensors container
// itself are in safetensors_test.cc.
#include "engine/weights/folder_hf.h"

#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "engine/weights/config_hf.h"
#include "engine/weights/shard_index.h"
#include "engine/weights/tensors_hf.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/hf_folder.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::HasSubstr;

HfFolder TinyFolder(std::string_view architecture) {
  const std::string bytes = TinyGguf(architecture).Build();
  return HfFolderFrom(*GgufFile::Parse(AsBytes(bytes)));
}

absl::Status Open(const HfFolder& folder, size_t shards = 1) {
  const WrittenFolder written(folder, "folder_hf", shards);
  return OpenModelFolder(written.path()).status();
}

// Of a right folder in which `change` broke one file.
absl::Status OpenWith(size_t shards, const std::function<void(const WrittenFolder&)>& change) {
  const WrittenFolder written(TinyFolder("llama"), "folder_hf", shards);
  change(written);
  return OpenModelFolder(written.path()).status();
}

auto Refused(const std::string& where, const std::string& what) {
  return StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(where), HasSubstr(what)));
}

TEST(FolderHf, OpensEveryArchitecture) {
  for (const char* architecture : {"llama", "qwen2", "qwen3", "gemma3"}) {
    EXPECT_THAT(Open(TinyFolder(architecture)), IsOk()) << architecture;
    EXPECT_THAT(Open(TinyFolder(architecture), 4), IsOk()) << architecture;
  }
}

TEST(FolderHf, FilesThatNeedNotBeThere) {
  EXPECT_THAT(OpenWith(1,
                       [](const WrittenFolder& written) {
                         written.Remove("tokenizer_config.json");
                         written.Remove("generation_config.json");
                         written.Write("model.safetensors.index.json", "not read where there is one file");
                       }),
              IsOk());
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"}) {
    EXPECT_THAT(OpenWith(1, [file](const WrittenFolder& written) { written.Remove(file); }),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr(file)));
  }
}

TEST(FolderHf, AChatTemplateFileCountsBeforeTheConfigs) {
  HfFolder folder = TinyFolder("qwen2");
  folder.tokenizer_config["chat_template"] = "old";
  const WrittenFolder written(folder, "folder_hf");
  EXPECT_EQ(OpenModelFolder(written.path())->tokenizer.chat_template, "old");
  written.Write("chat_template.jinja", "new");
  EXPECT_EQ(OpenModelFolder(written.path())->tokenizer.chat_template, "new");
  written.Write("chat_template.jinja", std::string((1 << 20) + 1, 'x'));
  EXPECT_THAT(OpenModelFolder(written.path()), Refused("chat_template.jinja", "above the limit"));
}

TEST(FolderHf, ATiedModelsHeadDoesNotCountAndAnotherMustBeThere) {
  HfFolder folder = TinyFolder("llama");
  folder.Add("lm_head.weight", SafetensorsType::kF32, {6, 8}, std::string(6 * 8 * 4, '\0'));
  const WrittenFolder tied(folder, "folder_hf");
  EXPECT_EQ(OpenModelFolder(tied.path())->weights->Find("output.weight"), nullptr);
  folder.config["tie_word_embeddings"] = false;
  const WrittenFolder own(folder, "folder_hf_own");
  EXPECT_NE(OpenModelFolder(own.path())->weights->Find("output.weight"), nullptr);
  folder.tensors.pop_back();
  EXPECT_THAT(Open(folder), Refused("\"lm_head.weight\"", "is missing"));
}

TEST(FolderHf, Row56_BadJsonIsRefusedByFile) {
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    for (const char* text : {"", "[]", "{\"a\":1,\"a\":2}", "{\"a\":1e999}", "{\"a\":\"\xff\"}", "\x1f\x8b"}) {
      EXPECT_THAT(OpenWith(1, [&](const WrittenFolder& written) { written.Write(file, text); }), Refused(file, ""))
          << text;
    }
    EXPECT_THAT(
        OpenWith(1, [&](const WrittenFolder& written) { written.Write(file, "{\"a\":" + std::string(99, '[')); }),
        Refused(file, "nests deeper"));
  }
  EXPECT_THAT(OpenWith(3, [](const WrittenFolder& written) { written.Write("model.safetensors.index.json", "{"); }),
              Refused("model.safetensors.index.json at byte 1", "is not JSON"));
  EXPECT_THAT(OpenWith(1, [](const WrittenFolder& written) { written.Write("model.safetensors", "PK"); }),
              Refused("model.safetensors: magic", "a zip archive"));
}

TEST(FolderHf, Row56_FilesAreBounded) {
  const std::pair<const char*, uint64_t> limits[] = {{"config.json", kMaxConfigBytes},
                                                     {"generation_config.json", kMaxConfigBytes},
                                                     {"tokenizer_config.json", kMaxTokenizerConfigBytes}};
  for (const auto& [file, most] : limits) {
    const WrittenFolder written(TinyFolder("llama"), "folder_hf");
    const std::string text = written.Read(file);
    written.Write(file, text + std::string(most - text.size(), ' '));
    EXPECT_THAT(OpenModelFolder(written.path()), IsOk()) << file;
    written.Write(file, text + std::string(most + 1 - text.size(), ' '));
    EXPECT_THAT(OpenModelFolder(written.path()), Refused(file, "above the limit"));
  }
  for (const auto& [file, most] : {std::pair("tokenizer.json", kMaxTokenizerBytes),
                                   std::pair("model.safetensors.index.json", kMaxShardIndexBytes)}) {
    EXPECT_THAT(OpenWith(2,
                         [&, file = file, most = most](const WrittenFolder& written) {
                           std::filesystem::resize_file(written.path() + "/" + file, most + 1);  // a hole
                         }),
                Refused(file, "above the limit"));
  }
}

TEST(FolderHf, Row57_CutAnywhereIsRefused) {
  const WrittenFolder written(TinyFolder("qwen3"), "folder_hf");
  for (const char* file : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const std::string bytes = written.Read(file);
    for (size_t size = 0; size < bytes.size(); size += 1 + size / 32) {
      written.Write(file, bytes.substr(0, size));
      ASSERT_THAT(OpenModelFolder(written.path()), Refused(file, "")) << size;
    }
    written.Write(file, bytes);
  }
}

TEST(FolderHf, Row57_TensorsAreHeldAgainstTheTable) {
  const std::pair<const char*, std::function<void(HfFolder*)>> cases[] = {
      {"is missing", [](HfFolder* folder) { folder->tensors.pop_back(); }},
      {"has shape [12, 8], not [8, 12]",
       [](HfFolder* folder) {
         folder->tensor("model.layers.1.mlp.down_proj.weight").shape = {12, 8};
       }},
      {"has shape [8, 12, 1], not [8, 12]",
       [](HfFolder* folder) {
         folder->tensor("model.layers.1.mlp.down_proj.weight").shape = {8, 12, 1};
       }},
      {"has the dtype I32, not BF16, F16 or F32",
       [](HfFolder* folder) { folder->tensor("model.norm.weight").type = SafetensorsType::kI32; }},
      {"is not known to architecture llama",
       [](HfFolder* folder) {
         folder->Add("model.layers.0.self_attn.q_proj.bias", SafetensorsType::kF32, {8}, std::string(32, '\0'));
       }},
      {"is not known to architecture llama",
       [](HfFolder* folder) { folder->Add("score.weight", SafetensorsType::kF32, {0}, ""); }},
      {"has shape [6, 8], not [7, 8]", [](HfFolder* folder) { folder->config["vocab_size"] = 7; }},
      {"\"model.layers.2.input_layernorm.weight\" is missing",
       [](HfFolder* folder) { folder->config["num_hidden_layers"] = 3; }},
      {"\"model.layers.1.input_layernorm.weight\" at byte",
       [](HfFolder* folder) { folder->config["num_hidden_layers"] = 1; }},
  };
  for (const auto& [reason, change] : cases) {
    HfFolder folder = TinyFolder("llama");
    change(&folder);
    EXPECT_THAT(Open(folder), Refused("tensor \"", reason));
  }
  HfFolder folder = TinyFolder("llama");  // tables that old versions stored
  folder.Add("model.layers.0.self_attn.rotary_emb.inv_freq", SafetensorsType::kF32, {2}, std::string(8, '\0'));
  EXPECT_THAT(Open(folder), IsOk());
}

TEST(FolderHf, Row57_TheIndexAndTheShardsMustAgree) {
  const auto with_map = [](const std::function<void(nlohmann::json*)>& change) {
    return OpenWith(2, [&](const WrittenFolder& written) {
      nlohmann::json index = nlohmann::json::parse(written.Read("model.safetensors.index.json"));
      change(&index["weight_map"]);
      written.Write("model.safetensors.index.json", index.dump());
    });
  };
  using Json = nlohmann::json;
  EXPECT_THAT(with_map([](Json* map) { map->erase("model.norm.weight"); }),
              Refused("\"model.norm.weight\"", "not in the index"));
  EXPECT_THAT(with_map([](Json* map) { (*map)["x"] = "model-0.safetensors"; }), Refused("\"x\"", "is missing"));
  EXPECT_THAT(with_map([](Json* map) { (*map)["x"] = "model-9.safetensors"; }),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("model-9.safetensors")));
  EXPECT_THAT(with_map([](Json* map) { *map = Json::object(); }), Refused("weight_map", "is empty"));
  EXPECT_THAT(with_map([](Json* map) { *map = nullptr; }), Refused("weight_map", "is missing"));
  EXPECT_THAT(with_map([](Json* map) { *map = 3; }), Refused("weight_map", "is not an object"));
  for (const Json& name : {Json("../model-0.safetensors"), Json("/etc/passwd"), Json("a/b.safetensors"),
                           Json("model.bin"), Json(".safetensors"), Json(std::string("a\0.safetensors", 14)), Json(3),
                           Json(nullptr), Json(std::string(kMaxShardNameBytes, 'x') + ".safetensors")}) {
    EXPECT_THAT(with_map([&](Json* map) { (*map)["model.norm.weight"] = name; }),
                Refused("weight_map", "is no name of a .safetensors file"))
        << name;
  }
}

TEST(TensorsHf, Row57_OneNameInTwoShardsIsRefused) {
  const HfFolder folder = TinyFolder("llama");
  const std::string bytes = SerializeSafetensors({}, folder.tensors);
  const SafetensorsFile file = *SafetensorsFile::Parse(AsBytes(bytes));
  const auto config = ConfigFromHf(*JsonDocument::Parse(folder.config.dump(), "config.json"));
  EXPECT_THAT(WeightsFromHf(*config, {{"a", file}}, nullptr), IsOk());
  EXPECT_THAT(WeightsFromHf(*config, {{"a", file}, {"b", file}}, nullptr), Refused("b: tensor \"", "is in a too"));
}

TEST(ShardIndex, Row57_FilesAreCounted) {
  const auto read = [](size_t files) {
    nlohmann::json map;
    for (size_t i = 0; i < files; ++i) map["t" + std::to_string(i)] = std::to_string(i) + ".safetensors";
    return ShardIndexFrom(*JsonDocument::Parse(nlohmann::json{{"weight_map", map}}.dump(), "index.json")).status();
  };
  EXPECT_THAT(read(kMaxShards), IsOk());
  EXPECT_THAT(read(kMaxShards + 1), Refused("weight_map", "more than 1024 files"));
}

TEST(FolderHf, Row55_FailureLeavesNothingBehind) {
  const auto descriptors = [] {
    int count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
  };
  const int before = descriptors();
  const WrittenFolder written(TinyFolder("llama"), "folder_hf", 3);
  for (const char* file : {"config.json", "tokenizer.json", "model-2.safetensors", "model.safetensors.index.json"}) {
    const std::string bytes = written.Read(file);
    written.Write(file, "{");
    EXPECT_THAT(OpenModelFolder(written.path()), Refused(file, ""));
    written.Write(file, bytes);
  }
  EXPECT_THAT(OpenModelFolder(written.path()), IsOk());
  EXPECT_EQ(descriptors(), before);
}

}  // namespace
}  // namespace nibble::engine
