#include "engine/tools/inspect_calibration.h"

#include <cstdint>
#include <vector>

#include "engine/quant/calibration/calibration_file.h"
#include "engine/tools/inspect_line.h"
#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Of some heads: what their codes take, and what they stand for.
struct Rate {
  int64_t code_bits = 0, elements = 0;

  void Add(const std::vector<kv::HeadCode>& heads) {
    for (const kv::HeadCode& head : heads) {
      code_bits += 8 * int64_t{head.groups()};
      elements += static_cast<int64_t>(head.mean.size());
    }
  }
  double bits() const { return static_cast<double>(code_bits) / static_cast<double>(elements); }
};

template <typename T>
uint64_t BytesOf(const std::vector<T>& values) {
  return values.size() * sizeof(T);
}

uint64_t BytesOf(const kv::HeadCode& head) {
  return BytesOf(head.mean) + BytesOf(head.analysis) + BytesOf(head.synthesis) + BytesOf(head.group_ends) +
         BytesOf(head.centroid_scale) + BytesOf(head.centroids);
}

uint64_t BytesOf(const kv::Calibration& codec) {
  uint64_t bytes = 0;
  for (const kv::LayerCode& layer : codec.layers) {
    for (const kv::HeadCode& head : layer.keys) bytes += BytesOf(head);
    for (const kv::HeadCode& head : layer.values) bytes += BytesOf(head);
  }
  return bytes;
}

std::string BitsText(const Rate& keys, const Rate& values) {
  return absl::StrFormat("%.2f bits of keys, %.2f of values", keys.bits(), values.bits());
}

void PrintProvenance(const CalibrationProvenance& provenance, std::ostream& out) {
  Line(out, "model_sha256", provenance.model_sha256);
  Line(out, "text_sha256", provenance.text_sha256);
  Line(out, "tokens", absl::StrFormat("%d", provenance.tokens));
  Line(out, "method", Quoted(provenance.method));
  Line(out, "seed", absl::StrFormat("%d", provenance.seed));
}

void PrintCodec(const kv::Calibration& codec, std::ostream& out) {
  Rate keys, values;
  for (const kv::LayerCode& layer : codec.layers) {
    keys.Add(layer.keys);
    values.Add(layer.values);
  }
  const std::vector<kv::HeadCode>& heads = codec.layers[0].keys;
  Line(out, "codec " + codec.codec,
       absl::StrFormat("%d layers of %d heads of length %d, %d bytes", codec.layers.size(), heads.size(),
                       heads[0].mean.size(), BytesOf(codec)));
  Line(out, "  all layers", BitsText(keys, values));
  for (size_t i = 0; i < codec.layers.size(); ++i) {
    Rate layer_keys, layer_values;
    layer_keys.Add(codec.layers[i].keys);
    layer_values.Add(codec.layers[i].values);
    Line(out, absl::StrFormat("  layer %d", i), BitsText(layer_keys, layer_values));
  }
}

}  // namespace

absl::Status InspectCalibration(const std::string& path, std::ostream& out) {
  NIBBLE_ASSIGN_OR_RETURN(const CalibrationFile file, ReadCalibration(path));
  uint64_t bytes = 0;
  for (const kv::Calibration& codec : file.codecs) bytes += BytesOf(codec);
  Line(out, "container", absl::StrFormat("KV calibration (safetensors), %d bytes of numbers", bytes));
  PrintProvenance(file.provenance, out);
  for (const kv::Calibration& codec : file.codecs) PrintCodec(codec, out);
  return absl::OkStatus();
}

}  // namespace nibble::engine
