// What LoadModel makes of a calibration, and of a folder.
#include "server/load_model.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/models/kv_codec_model.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/model_file.h"
#include "engine/weights/quantized_file.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/gguf_builder.h"
#include "tests/engine/weights/hf_folder.h"
#include "tests/law1/random_calibration.h"

namespace nibble::server {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string ModelPath(const std::string& name) {
  return std::string(NIBBLE_TESTS_DIR) + "/golden/logits/" + name + ".gguf";
}

std::string FileBytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class LoadModelTest : public testing::Test {
 protected:
  LoadModelTest() : calibration_(testing::TempDir() + "load_model_" + std::to_string(getpid()) + ".nibblekv") {
    const auto model = engine::OpenModelFile(ModelPath("tiny-llama-f32"));
    EXPECT_THAT(model, IsOk());
    engine::CalibrationFile file;
    file.provenance = {engine::ModelSha256(*model->weights), std::string(64, '0'), "random", 0, 0};
    file.codecs = {*RandomCalibration("klt2", engine::CodecModelOf(model->config))};
    std::ofstream(calibration_, std::ios::binary) << engine::SerializeCalibration(file);
  }
  ~LoadModelTest() override { std::filesystem::remove(calibration_); }

  static absl::StatusOr<std::unique_ptr<ServedModel>> Load(const std::string& model, const std::string& codec,
                                                           const std::string& calibration) {
    LoadOptions options;
    options.path = ModelPath(model);
    options.kv_calibration = calibration;
    options.engine.kv_codec = codec;
    options.engine.kv_memory_bytes = 4 << 20;
    return LoadModel(options);
  }

  const std::string calibration_;
};

TEST_F(LoadModelTest, ACalibratedCodecTakesItsCalibration) {
  const auto model = Load("tiny-llama-f32", "klt2", calibration_);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ((*model)->kv_bits, 2.0);
}

TEST_F(LoadModelTest, ACodecWithoutOneNamesTheCommand) {
  EXPECT_THAT(Load("tiny-llama-f32", "klt2", ""),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("calibration"), HasSubstr("klt2"), HasSubstr("nibble calibrate"))));
}

TEST_F(LoadModelTest, AFileThatCannotServeIsRefusedWhateverTheCodec) {
  const auto refused = absl::StatusCode::kFailedPrecondition;
  for (const char* codec : {"klt2", "f16"}) {
    EXPECT_THAT(Load("tiny-llama-f32", codec, "/nonexistent.nibblekv"),
                StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent.nibblekv")));
    EXPECT_THAT(Load("tiny-llama-f32", codec, ModelPath("tiny-llama-f32")),
                StatusIs(refused, HasSubstr("a GGUF file")));
    EXPECT_THAT(Load("tiny-qwen3-f16", codec, calibration_), StatusIs(refused, HasSubstr("was made from the model")));
  }
  EXPECT_THAT(Load("tiny-llama-f32", "klt3", calibration_), StatusIs(refused, HasSubstr("klt3, only for klt2")));
  EXPECT_THAT(Load("tiny-llama-f32", "f16", calibration_), IsOk());
}

TEST_F(LoadModelTest, AFolderServesUnderItsWholeName) {
  const std::string bytes = FileBytes(ModelPath("tiny-qwen2-bf16"));
  const engine::WrittenFolder folder(engine::HfFolderFrom(*engine::GgufFile::Parse(engine::AsBytes(bytes))),
                                     "Tiny-2.5-0.1B");
  const std::string name = std::filesystem::path(folder.path()).filename().string();  // with the process
  LoadOptions options;
  options.engine.kv_memory_bytes = 4 << 20;
  for (const char* end : {"", "/", "/."}) {
    options.path = folder.path() + end;
    const auto model = LoadModel(options);
    ASSERT_THAT(model, IsOk());
    EXPECT_EQ((*model)->name, name);
    EXPECT_EQ((*model)->architecture, "qwen2");
  }
  options.path = ModelPath("tiny-qwen2-bf16");
  EXPECT_EQ((*LoadModel(options))->name, "tiny-qwen2-bf16");
}

// What `nibble quantize` rotates runs no adapters: said at the start, not to each of them.
TEST(LoadModelOfAFile, AdaptersOverRotatedWeightsAreRefused) {
  const std::string path = ModelPath("tiny-gemma3-q8_0"), bytes = FileBytes(path);
  const auto source = engine::OpenModelFile(path);
  ASSERT_THAT(source, IsOk());
  engine::QuantizedModel quantized;
  quantized.source = {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()};
  for (engine::Tensor tensor : source->weights->tensors()) {
    if (tensor.name == "blk.0.ffn_down.weight") tensor.encoding = engine::Encoding::kH8_0;
    quantized.tensors.push_back(tensor);
  }
  const std::string file = testing::TempDir() + "rotated_" + std::to_string(getpid()) + ".safetensors";
  std::ofstream(file, std::ios::binary) << engine::SerializeQuantized(quantized);
  LoadOptions options;
  options.path = file;
  options.engine.kv_memory_bytes = 4 << 20;
  EXPECT_THAT(LoadModel(options), IsOk());
  options.adapters = testing::TempDir();
  EXPECT_THAT(LoadModel(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("--adapters: tensor \"blk.0.ffn_down.weight\" of the base is rotated")));
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace nibble::server
