#include "engine/weights/quantized_file.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/config_gguf.h"
#include "engine/weights/gguf.h"
#include "engine/weights/gguf_source.h"
#include "engine/weights/layer_products.h"
#include "engine/weights/safetensors_fields.h"
#include "engine/weights/tokenizer_gguf.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr char kVersion[] = "1";
constexpr char kGgufMetadata[] = "gguf.metadata", kEncodingPrefix[] = "encoding.", kInt8Suffix[] = ".int8_inputs";

std::string ListName(size_t layer, std::string_view product) {
  return absl::StrCat("blk.", layer, ".", std::string(product), kInt8Suffix);
}

absl::StatusOr<GgufFile> ReadGgufMetadata(const SafetensorsFile& file) {
  const SafetensorsTensor* const tensor = file.Find(kGgufMetadata);
  if (tensor == nullptr) {
    return FormatError("tensor " + Quoted(kGgufMetadata), kSafetensorsHeaderOffset, "is missing");
  }
  NIBBLE_ASSIGN_OR_RETURN(GgufFile gguf, GgufFile::Parse(tensor->data));
  if (!gguf.tensors().empty()) return TensorError(*tensor, "has tensors of its own");
  return gguf;
}

absl::StatusOr<const EncodingTraits*> EncodingOf(const SafetensorsFile& file, const SafetensorsTensor& tensor) {
  const std::string* const name = file.FindMetadata(kEncodingPrefix + tensor.name);
  if (name == nullptr) return TensorError(tensor, "has no metadata " + Quoted(kEncodingPrefix + tensor.name));
  for (const EncodingTraits& traits : AllEncodings()) {
    if (traits.name == *name) return &traits;
  }
  return TensorError(tensor, Quoted(*name) + " is not a known encoding");
}

// As the tensor table of a GGUF file would have it. The container proved that the data are as long as the shape says.
absl::StatusOr<GgufTensor> ReadWeight(const SafetensorsFile& file, const SafetensorsTensor& tensor) {
  NIBBLE_ASSIGN_OR_RETURN(const EncodingTraits* traits, EncodingOf(file, tensor));
  if (tensor.type != SafetensorsType::kU8) return TensorError(tensor, "is not of type U8");
  if (tensor.shape.empty() || tensor.shape.size() > kGgufMaxDims || tensor.data.empty()) {
    return TensorError(tensor, absl::StrCat("is not of 1 to ", kGgufMaxDims, " dimensions of 1 or more"));
  }
  GgufTensor weight = {tensor.name, traits, tensor.shape, tensor.header_offset, tensor.header_offset, tensor.data};
  if (tensor.shape.back() % traits->block_bytes != 0) {
    return TensorError(tensor, absl::StrCat("a row of ", tensor.shape.back(), " bytes is not a whole number of ",
                                            std::string(traits->name), " blocks"));
  }
  // At most as many elements to a byte as the densest encoding has: far from 2^63 for data that are in memory.
  weight.shape.back() = tensor.shape.back() / traits->block_bytes * traits->block_elements;
  return weight;
}

absl::StatusOr<std::vector<int32_t>> ReadList(const SafetensorsTensor& tensor, int64_t cols) {
  if (tensor.type != SafetensorsType::kI32 || tensor.shape.size() != 1) {
    return TensorError(tensor, "is not a list of type I32");
  }
  std::vector<int32_t> inputs(tensor.data.size() / sizeof(int32_t));
  if (!inputs.empty()) std::memcpy(inputs.data(), tensor.data.data(), tensor.data.size());
  int64_t least = 0;
  for (const int32_t input : inputs) {
    if (input < least || input >= cols) {
      return TensorError(tensor, absl::StrCat("is not rising, or not in 0 to ", cols - 1));
    }
    least = int64_t{input} + 1;
  }
  return inputs;
}

// `lists` tensors of that kind are in the file.
absl::StatusOr<std::vector<Int8Inputs>> ReadInt8Inputs(const SafetensorsFile& file, const ModelConfig& config,
                                                       size_t lists) {
  std::vector<Int8Inputs> layers(lists == 0 ? 0 : static_cast<size_t>(config.num_layers));
  for (size_t i = 0; i < layers.size(); ++i) {
    for (const LayerProduct& product : LayerProducts()) {
      const SafetensorsTensor* const tensor = file.Find(ListName(i, product.name));
      if (tensor == nullptr) {
        return FormatError("tensor " + Quoted(ListName(i, product.name)), kSafetensorsHeaderOffset, "is missing");
      }
      NIBBLE_ASSIGN_OR_RETURN(layers[i].*product.int8_inputs, ReadList(*tensor, product.cols(config)));
    }
  }
  if (lists == layers.size() * LayerProducts().size()) return layers;
  return FormatError("tensors", kSafetensorsHeaderOffset,
                     absl::StrCat("more ", kInt8Suffix, " than the layers have products"));
}

// Parts of a product have their inputs in common, turned or not; a list names inputs as they are.
absl::Status CheckRotated(const SafetensorsFile& file, const ModelFile& model) {
  for (int64_t i = 0; i < model.config.num_layers; ++i) {
    for (const LayerProduct& product : LayerProducts()) {
      size_t rotated = 0;
      std::string name;  // of one that is
      for (const std::string_view part : product.parts) {
        const Tensor& tensor = *model.weights->Find(absl::StrCat("blk.", i, ".", std::string(part)));
        if (tensor.encoding != Encoding::kH8_0) continue;
        ++rotated;
        name = tensor.name;
      }
      if (rotated == 0) continue;
      if (rotated != product.parts.size()) {
        return TensorError(*file.Find(name), "is h8_0 where others of its product are not");
      }
      if (!model.config.int8_inputs.empty())
        return TensorError(*file.Find(name), "is h8_0 beside lists of int8 inputs");
    }
  }
  return absl::OkStatus();
}

// The file up to its tensor table, with a tensor count of 0.
std::string GgufMetadataOf(absl::Span<const std::byte> source) {
  constexpr size_t kTensorCountOffset = 8;
  const absl::StatusOr<GgufFile> file = GgufFile::Parse(source);
  NIBBLE_CHECK(file.ok());
  std::string bytes(reinterpret_cast<const char*>(source.data()), file->tensor_table_offset());
  bytes.replace(kTensorCountOffset, sizeof(uint64_t), sizeof(uint64_t), '\0');
  return bytes;
}

absl::Span<const std::byte> AsBytes(const void* data, size_t size) {
  return {static_cast<const std::byte*>(data), size};
}

}  // namespace

std::string SerializeQuantized(const QuantizedModel& model) {
  SafetensorsMetadata metadata = model.choices;
  metadata["format"] = kQuantizedFormat;
  metadata["format_version"] = kVersion;
  const std::string gguf = GgufMetadataOf(model.source);
  std::vector<SafetensorsTensor> tensors = {
      {kGgufMetadata, SafetensorsType::kU8, {static_cast<int64_t>(gguf.size())}, AsBytes(gguf.data(), gguf.size())}};
  for (const Tensor& tensor : model.tensors) {
    metadata[kEncodingPrefix + tensor.name] = TraitsOf(tensor.encoding).name;
    std::vector<int64_t> shape = tensor.shape;
    shape.back() = tensor.row_bytes();
    tensors.push_back({tensor.name, SafetensorsType::kU8, std::move(shape), tensor.data});
  }
  for (size_t i = 0; i < model.int8_inputs.size(); ++i) {
    for (const LayerProduct& product : LayerProducts()) {
      const std::vector<int32_t>& inputs = model.int8_inputs[i].*product.int8_inputs;
      tensors.push_back({ListName(i, product.name),
                         SafetensorsType::kI32,
                         {static_cast<int64_t>(inputs.size())},
                         AsBytes(inputs.data(), inputs.size() * sizeof(int32_t))});
    }
  }
  return SerializeSafetensors(metadata, std::move(tensors));
}

bool LooksLikeSafetensors(absl::Span<const std::byte> bytes) {
  constexpr size_t kLengthBytes = 8;
  return bytes.size() > kLengthBytes && bytes[kLengthBytes] == std::byte{'{'} &&
         std::memcmp(bytes.data(), "GGUF", 4) != 0;
}

absl::StatusOr<ModelFile> ParseQuantized(absl::Span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  NIBBLE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Parse(bytes));
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(file, "format", kQuantizedFormat));
  NIBBLE_RETURN_IF_ERROR(CheckMetadata(file, "format_version", kVersion));
  NIBBLE_ASSIGN_OR_RETURN(const GgufFile metadata, ReadGgufMetadata(file));
  std::vector<GgufTensor> weights;
  size_t lists = 0;
  for (const SafetensorsTensor& tensor : file.tensors()) {
    if (tensor.name == kGgufMetadata) continue;
    if (tensor.name.ends_with(kInt8Suffix)) {
      ++lists;
      continue;
    }
    NIBBLE_ASSIGN_OR_RETURN(GgufTensor weight, ReadWeight(file, tensor));
    weights.push_back(std::move(weight));
  }
  NIBBLE_ASSIGN_OR_RETURN(const GgufFile gguf, metadata.WithTensors(std::move(weights)));
  ModelFile model;
  NIBBLE_ASSIGN_OR_RETURN(model.config, ConfigFromGguf(gguf));
  NIBBLE_ASSIGN_OR_RETURN(model.config.int8_inputs, ReadInt8Inputs(file, model.config, lists));
  NIBBLE_ASSIGN_OR_RETURN(model.tokenizer, TokenizerFromGguf(gguf, model.config.vocab_size));
  model.weights = MakeGgufSource(gguf, std::move(owner));
  NIBBLE_RETURN_IF_ERROR(CheckRotated(file, model));
  return model;
}

}  // namespace nibble::engine
