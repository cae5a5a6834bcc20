// The file of `nibble quantize`: a whole model, its weights rounded, in one safetensors file (safetensors.h).
//
// Metadata: format "nibble-quantized", format_version "1"; "encoding.<tensor>", a name of encoding.h, for every weight;
// and the choices that made the file, for people. Tensors:
//   gguf.metadata              U8  [bytes]            the GGUF file that the model came from, up to its tensor table,
//                                                     with a tensor count of 0: architecture and tokenizer
//   <GGUF's name of a weight>  U8  [.., row bytes]    rows of its encoding's blocks; of a product's parts all are h8_0
//                                                     or none, and none where the file has lists of inputs
//   blk.<n>.<product>.int8_inputs  I32  [inputs]      for all products of all layers or none: qkv, attn_output,
//   gate_up,
//                                                     ffn_down; Int8Inputs of model_config.h
#ifndef NIBBLE_ENGINE_WEIGHTS_QUANTIZED_FILE_H_
#define NIBBLE_ENGINE_WEIGHTS_QUANTIZED_FILE_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/weights/model_file.h"
#include "engine/weights/safetensors.h"

namespace nibble::engine {

inline constexpr char kQuantizedFormat[] = "nibble-quantized";

struct QuantizedModel {
  SafetensorsMetadata choices;
  absl::Span<const std::byte> source;   // the GGUF file that the model came from
  std::vector<Tensor> tensors;          // all of the model's
  std::vector<Int8Inputs> int8_inputs;  // [layers], or empty
};

// REQUIRES: `source` parses, and `tensors` and `int8_inputs` are as its architecture has them.
std::string SerializeQuantized(const QuantizedModel& model);

// Whether the bytes begin as a safetensors file does: eight bytes of a length, then a JSON object.
bool LooksLikeSafetensors(absl::Span<const std::byte> bytes);

// Proves everything that a GGUF file of the model would be proven for, and the rest. FAILED_PRECONDITION names the
// field and its offset. `owner` as in ParseModelFile.
absl::StatusOr<ModelFile> ParseQuantized(absl::Span<const std::byte> bytes, std::shared_ptr<const void> owner);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_QUANTIZED_FILE_H_
