// Files of `nibble quantize`: what goes in comes out, and what is wrong is refused naming the field.
#include "engine/weights/quantized_file.h"

#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/weights/mapped_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/weights/tiny_gguf.h"

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// A tiny model and all that points into it.
class Tiny {
 public:
  Tiny() : gguf_(TinyGguf("llama").Build()), source_(*ParseModelFile(AsBytes(gguf_), nullptr)) {
    model_.choices = {{"weights", "w4"}};
    model_.source = AsBytes(gguf_);
    const auto tensors = source_.weights->tensors();
    model_.tensors.assign(tensors.begin(), tensors.end());
    model_.int8_inputs = {{{0, 7}, {}, {3}, {2, 11}}, {{1}, {0, 1, 2, 3, 4, 5, 6, 7}, {}, {}}};
  }

  const ModelFile& source() const { return source_; }
  QuantizedModel& model() { return model_; }

 private:
  const std::string gguf_;
  const ModelFile source_;
  QuantizedModel model_;
};

absl::StatusOr<ModelFile> Reopen(const std::string& bytes) { return ParseModelFile(AsBytes(bytes), nullptr); }

TEST(QuantizedFile, GivesTheModelThatWentIn) {
  Tiny tiny;
  const std::string bytes = SerializeQuantized(tiny.model());
  const auto model = Reopen(bytes);
  ASSERT_THAT(model, IsOk());
  EXPECT_EQ(model->config.architecture, "llama");
  EXPECT_EQ(model->config.intermediate_size, tiny.source().config.intermediate_size);
  EXPECT_EQ(model->tokenizer.tokens, tiny.source().tokenizer.tokens);
  ASSERT_EQ(model->weights->tensors().size(), tiny.source().weights->tensors().size());
  for (const Tensor& want : tiny.source().weights->tensors()) {
    const Tensor* const got = model->weights->Find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->encoding, want.encoding);
    EXPECT_EQ(got->shape, want.shape);
    EXPECT_EQ(got->data, want.data);
  }
  ASSERT_EQ(model->config.int8_inputs.size(), 2u);
  EXPECT_THAT(model->config.int8_inputs[0].qkv, ElementsAre(0, 7));
  EXPECT_THAT(model->config.int8_inputs[0].gate_up, ElementsAre(3));
  EXPECT_THAT(model->config.int8_inputs[0].down, ElementsAre(2, 11));
  EXPECT_THAT(model->config.int8_inputs[1].attention_output, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(QuantizedFile, NeedsNoListOfInputs) {
  Tiny tiny;
  tiny.model().int8_inputs.clear();
  const std::string bytes = SerializeQuantized(tiny.model());
  const auto model = Reopen(bytes);
  ASSERT_THAT(model, IsOk());
  EXPECT_TRUE(model->config.int8_inputs.empty());
}

// The container of a right file, to be broken.
struct Parts {
  SafetensorsMetadata metadata;
  std::vector<SafetensorsTensor> tensors;

  SafetensorsTensor& tensor(std::string_view name) {
    for (SafetensorsTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << "no tensor " << name;
    return tensors.front();
  }
  void Remove(std::string_view name) {
    std::erase_if(tensors, [&](const SafetensorsTensor& tensor) { return tensor.name == name; });
  }
};

constexpr char kQuery[] = "blk.0.attn_q.weight", kList[] = "blk.1.ffn_down.int8_inputs";

absl::Span<const std::byte> Zeros(size_t size) {
  static const std::vector<std::byte> zeros(4096);
  return absl::MakeConstSpan(zeros).subspan(0, size);
}

absl::Span<const std::byte> Ints(std::initializer_list<int32_t> values) {
  static std::vector<int32_t> kept;
  kept = values;
  return absl::MakeConstSpan(reinterpret_cast<const std::byte*>(kept.data()), kept.size() * sizeof(int32_t));
}

struct Breakage {
  const char* error;
  std::function<void(Parts&)> apply;
};

TEST(QuantizedFile, Row57_WhatIsWrongIsRefusedNamingTheField) {
  Tiny tiny;
  const std::string right = SerializeQuantized(tiny.model());
  const Breakage breakages[] = {
      {"\"format\"", [](Parts& p) { p.metadata["format"] = "nibblekv"; }},
      {"\"format_version\"", [](Parts& p) { p.metadata["format_version"] = "2"; }},
      {"\"format_version\"", [](Parts& p) { p.metadata.erase("format_version"); }},
      {"\"gguf.metadata\"", [](Parts& p) { p.Remove("gguf.metadata"); }},
      {"magic", [](Parts& p) { p.tensor("gguf.metadata").data = Zeros(8), p.tensor("gguf.metadata").shape = {8}; }},
      {"encoding.blk.0.attn_q.weight", [](Parts& p) { p.metadata.erase("encoding.blk.0.attn_q.weight"); }},
      {"not a known encoding", [](Parts& p) { p.metadata["encoding.blk.0.attn_q.weight"] = "q3_x"; }},
      {"whole number of q8_0 blocks", [](Parts& p) { p.metadata["encoding.blk.0.attn_q.weight"] = "q8_0"; }},
      {"not of type U8",
       [](Parts& p) {
         p.tensor(kQuery).type = SafetensorsType::kF32, p.tensor(kQuery).shape = {8, 8};
       }},
      {"attn_q.weight",
       [](Parts& p) {
         p.tensor(kQuery).shape = {16, 16};
       }},  // as many bytes
      {"dimensions",
       [](Parts& p) {
         p.tensor(kQuery).shape = {8, 0}, p.tensor(kQuery).data = {};
       }},
      {"dimensions",
       [](Parts& p) {
         p.tensor(kQuery).shape = {1, 1, 1, 8, 32};
       }},
      {"attn_q.weight", [](Parts& p) { p.Remove(kQuery); }},
      {"is missing", [](Parts& p) { p.Remove(kList); }},
      {"I32", [](Parts& p) { p.tensor(kList).type = SafetensorsType::kF32; }},
      {"I32",
       [](Parts& p) {
         p.tensor(kList).shape = {0, 2};
       }},
      {"not rising",
       [](Parts& p) {
         p.tensor(kList).shape = {2}, p.tensor(kList).data = Ints({4, 4});
       }},
      {"not rising", [](Parts& p) { p.tensor(kList).shape = {1}, p.tensor(kList).data = Ints({-1}); }},
      {"0 to 11", [](Parts& p) { p.tensor(kList).shape = {1}, p.tensor(kList).data = Ints({12}); }},
      {"more .int8_inputs",
       [](Parts& p) { p.tensors.push_back(p.tensor(kList)), p.tensors.back().name = "x.int8_inputs"; }},
      {"not known to architecture", [](Parts& p) {
         p.tensors.push_back(p.tensor(kQuery)), p.tensors.back().name = "blk.0.extra.weight";
         p.metadata["encoding.blk.0.extra.weight"] = "f32";
       }}};
  for (const Breakage& breakage : breakages) {
    const SafetensorsFile file = *SafetensorsFile::Parse(AsBytes(right));
    Parts parts = {file.metadata(), {file.tensors().begin(), file.tensors().end()}};
    breakage.apply(parts);
    const std::string bytes = SerializeSafetensors(parts.metadata, parts.tensors);
    EXPECT_THAT(Reopen(bytes), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(breakage.error)));
  }
}

TEST(QuantizedFile, Row57_RotatedPartsComeTogetherAndWithoutLists) {
  const auto source = *MappedFile::Open(NIBBLE_TESTS_DIR "/golden/logits/tiny-gemma3-q8_0.gguf");
  const ModelFile model = *ParseModelFile(source->bytes(), source);
  QuantizedModel file;
  file.source = source->bytes();
  file.tensors.assign(model.weights->tensors().begin(), model.weights->tensors().end());
  const auto reopened = [&] {
    const std::string bytes = SerializeQuantized(file);
    return Reopen(bytes).status();
  };
  const auto rotate = [&](const std::string& name) {
    for (Tensor& tensor : file.tensors) {
      if (tensor.name == name) tensor.encoding = Encoding::kH8_0;
    }
  };
  const auto refused = [](const char* tensor, const char* what) {
    return StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr(tensor), HasSubstr(what)));
  };
  rotate("blk.1.attn_q.weight");
  EXPECT_THAT(reopened(), refused("\"blk.1.attn_q.weight\" at byte", "is h8_0 where others of its product are not"));
  rotate("blk.1.attn_k.weight");
  EXPECT_THAT(reopened(), refused("\"blk.1.attn_k.weight\"", "is h8_0 where others of its product are not"));
  rotate("blk.1.attn_v.weight");
  rotate("blk.0.ffn_down.weight");
  rotate("token_embd.weight");
  EXPECT_THAT(reopened(), IsOk());
  file.int8_inputs.resize(static_cast<size_t>(model.config.num_layers));
  EXPECT_THAT(reopened(), refused("\"blk.0.ffn_down.weight\"", "is h8_0 beside lists of int8 inputs"));
}

TEST(QuantizedFile, MetadataThatHoldsTensorsIsRefused) {
  Tiny tiny;
  const std::string right = SerializeQuantized(tiny.model());
  const SafetensorsFile file = *SafetensorsFile::Parse(AsBytes(right));
  std::vector<SafetensorsTensor> tensors(file.tensors().begin(), file.tensors().end());
  for (SafetensorsTensor& tensor : tensors) {
    if (tensor.name != "gguf.metadata") continue;
    tensor.data = tiny.model().source;
    tensor.shape = {static_cast<int64_t>(tensor.data.size())};
  }
  const std::string bytes = SerializeSafetensors(file.metadata(), tensors);
  EXPECT_THAT(Reopen(bytes), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("tensors of its own")));
}

TEST(QuantizedFile, CutAnywhereItIsRefused) {
  Tiny tiny;
  const std::string right = SerializeQuantized(tiny.model());
  for (size_t size = 0; size < right.size(); size += 97) EXPECT_FALSE(Reopen(right.substr(0, size)).ok()) << size;
}

}  // namespace
}  // namespace nibble::engine
