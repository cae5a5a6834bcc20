// What attention alone costs a decoded token in each KV codec: all layers of a model, one sequence of --depth tokens.
//
// usage: attention_bench --model FILE [--kv_calibration FILE] [--kv klt2,kivi2] [--depth 6144] [--threads 2]
//                        [--seconds 2]
//
// Between layers 4 MiB of other memory are read, as weights would be, so that caches hold what they would. Layers with
// a sliding window are taken as if they had none. Keys and values are random numbers: what is computed means nothing,
// but no step depends on it. Prints microseconds per token, the median and the least.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "engine/backends/cpu/attention.h"
#include "engine/models/kv_codec_model.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/weights/model_file.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/simd/half.h"

ABSL_FLAG(std::string, model, "", "model file (GGUF)");
ABSL_FLAG(std::string, kv_calibration, "", "file of `nibble calibrate`, for the calibrated codecs");
ABSL_FLAG(std::vector<std::string>, kv, {"klt2"}, "codecs");
ABSL_FLAG(int, depth, 6144, "tokens in the cache");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(double, seconds, 2, "of each codec");

namespace nibble {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kBlock = 512;  // numbers of other memory that a thread reads at once

// A sequence in a cache of its own, every page sealed and raw.
class Cache {
 public:
  Cache(const kv::CodecModel& model, const kv::Codec& codec, const kv::PageCodec* made, simd::Isa isa, int64_t depth)
      : model_(model), codec_(codec), pool_(kv::RawFormF16(isa), made) {
    const auto count = static_cast<int32_t>(kv::PagesFor(depth + 1));
    for (int32_t page = 0; page < count; ++page) pages_.push_back(page), slots_.push_back(page);
    sequence_ = {0, 1, depth, pages_, slots_};
  }

  absl::Status Fill() {
    const auto count = static_cast<int64_t>(pages_.size());
    NIBBLE_RETURN_IF_ERROR(pool_.Allocate({model_.num_layers, model_.num_kv_heads, model_.head_dim},
                                          {count, count, codec_.window_pages, codec_.sink_pages}, 512));
    for (int layer = 0; layer < model_.num_layers; ++layer) {
      for (int head = 0; head < model_.num_kv_heads; ++head) FillHead({layer, head});
    }
    return absl::OkStatus();
  }

  const engine::KvPool& pool() const { return pool_; }
  const engine::SequenceRows& sequence() const { return sequence_; }

 private:
  // Sealing takes long: a page serves for all of a head's.
  void FillHead(kv::HeadId head) {
    std::normal_distribution<float> normal;
    std::vector<uint16_t> raw(2 * kv::kPageTokens * model_.head_dim);
    for (uint16_t& number : raw) number = simd::FloatToHalf(normal(random_));
    std::vector<std::byte> sealed(pool_.sealed_bytes(head));
    pool_.codec()->Encode(head, 0, raw.data(), sealed.data());
    for (const kv::PageId page : pages_) {
      std::memcpy(pool_.Sealed(page, head), sealed.data(), sealed.size());
      std::memcpy(pool_.Raw(sequence_, page, head), raw.data(), raw.size() * sizeof(uint16_t));
    }
  }

  const kv::CodecModel model_;
  const kv::Codec& codec_;
  engine::KvPool pool_;
  std::vector<kv::PageId> pages_;
  std::vector<kv::RawSlot> slots_;
  engine::SequenceRows sequence_;
  std::mt19937 random_{1};
};

class Decoder {
 public:
  Decoder(const engine::ModelConfig& config, const Cache& cache, simd::Isa isa)
      : config_(config),
        cache_(cache),
        workers_(absl::GetFlag(FLAGS_threads)),
        attention_(isa, workers_, cache.pool()),
        qkv_((config.num_heads + 2 * config.num_kv_heads) * config.head_dim, 0.1f),
        out_(config.num_heads * config.head_dim),
        sums_(absl::GetFlag(FLAGS_threads)),
        others_(config.num_layers * kBlock * 1024) {}

  // Microseconds of attention in all layers.
  double Step() {
    double micros = 0;
    for (int layer = 0; layer < config_.num_layers; ++layer) {
      ReadOthers(layer);
      engine::AttentionCall call;
      call.shape = {static_cast<int>(config_.num_heads), static_cast<int>(config_.num_kv_heads),
                    static_cast<int>(config_.head_dim)};
      call.layer = layer;
      call.qkv = {qkv_.data(), 1, static_cast<int64_t>(qkv_.size())};
      call.out = {out_.data(), 1, static_cast<int64_t>(out_.size())};
      const auto begin = Clock::now();
      attention_.Run({&cache_.sequence(), 1}, call);
      micros += std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
    }
    return micros;
  }

 private:
  // 4 MiB a layer.
  void ReadOthers(int layer) {
    workers_.ParallelRuns(1024, [&](int64_t first, int64_t end, int thread) {
      const uint64_t* stretch = &others_[layer * kBlock * 1024];
      for (int64_t i = first * kBlock; i < end * kBlock; ++i) sums_[thread] += stretch[i];
    });
  }

  const engine::ModelConfig& config_;
  const Cache& cache_;
  engine::WorkerPool workers_;
  engine::CpuAttention attention_;
  std::vector<float> qkv_, out_;
  std::vector<uint64_t> sums_, others_;
};

absl::Status Measure(const engine::ModelConfig& config, const engine::CalibrationFile& calibration,
                     const std::string& name) {
  kv::CodecModel model = engine::CodecModelOf(config);
  const int64_t depth = absl::GetFlag(FLAGS_depth);
  model.max_pages = static_cast<int>(kv::PagesFor(depth + 1));
  const kv::Codec* codec = kv::FindCodec(name);
  if (codec == nullptr || codec->create == nullptr) return absl::InvalidArgumentError("no codec seals as " + name);
  std::shared_ptr<const kv::Calibration> of_codec;
  if (codec->calibrated) {
    NIBBLE_ASSIGN_OR_RETURN(of_codec, engine::CodecOf(calibration, name, absl::GetFlag(FLAGS_kv_calibration)));
  }
  const simd::Isa isa = simd::SupportedIsas().back();
  NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<kv::PageCodec> made, codec->create(model, of_codec.get(), isa));
  Cache cache(model, *codec, made.get(), isa, depth);
  NIBBLE_RETURN_IF_ERROR(cache.Fill());
  Decoder decoder(config, cache, isa);
  std::vector<double> micros;
  const auto end = Clock::now() + std::chrono::duration<double>(absl::GetFlag(FLAGS_seconds));
  while (micros.size() < 3 || Clock::now() < end) micros.push_back(decoder.Step());
  std::sort(micros.begin(), micros.end());
  std::printf("%s median %.0f least %.0f\n", name.c_str(), micros[micros.size() / 2], micros[0]);
  return absl::OkStatus();
}

absl::Status MeasureAll() {
  NIBBLE_ASSIGN_OR_RETURN(const engine::ModelFile file, engine::OpenModelFile(absl::GetFlag(FLAGS_model)));
  engine::CalibrationFile calibration;
  if (const std::string path = absl::GetFlag(FLAGS_kv_calibration); !path.empty()) {
    NIBBLE_ASSIGN_OR_RETURN(calibration, engine::ReadCalibration(path));
  }
  for (const std::string& name : absl::GetFlag(FLAGS_kv)) {
    NIBBLE_RETURN_IF_ERROR(Measure(file.config, calibration, name));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  if (const absl::Status status = nibble::MeasureAll(); !status.ok()) {
    std::fprintf(stderr, "attention_bench: %s\n", std::string(status.message()).c_str());
    return 1;
  }
}
