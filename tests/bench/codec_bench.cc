// What one head's page costs in each KV codec: encoded, scored and mixed by rows of queries, on one core from its
// caches.
//
// usage: codec_bench --model FILE [--kv_calibration FILE] [Google Benchmark's flags, e.g. --benchmark_filter=klt2]
//
// Times are per head and page of 32 tokens. Pages are random numbers, so the calibrated codecs' distortion means
// nothing here; their shapes (coefficients, groups, tables) are those of the calibration.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "engine/models/kv_codec_model.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/weights/model_file.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/simd/half.h"

ABSL_FLAG(std::string, model, "", "model file (GGUF)");
ABSL_FLAG(std::string, kv_calibration, "", "file of `nibble calibrate`, for the calibrated codecs");

namespace nibble {
namespace {

constexpr int kPages = 48;  // of each head: what one worker reads in a row
constexpr int kRunPages = 8;

// A codec with some sealed pages of every head.
class Sealed {
 public:
  Sealed(const kv::CodecModel& model, std::unique_ptr<kv::PageCodec> codec) : model_(model), codec_(std::move(codec)) {
    std::normal_distribution<float> normal;
    raw_.resize(2 * kv::kPageTokens * model.head_dim);
    for (uint16_t& number : raw_) number = simd::FloatToHalf(normal(random_));
  }

  // Before pages are read; takes long, so those that the filter leaves out are not sealed.
  void Seal() {
    if (!bytes_.empty()) return;
    bytes_.resize(codec_->page_bytes() * kPages);
    for (int page = 0; page < kPages; ++page) {
      for (int head = 0; head < heads(); ++head) codec_->Encode(Head(head), page, raw_.data(), Page(head, page));
    }
  }

  int heads() const { return model_.num_layers * model_.num_kv_heads; }
  kv::HeadId Head(int i) const { return {i / model_.num_kv_heads, i % model_.num_kv_heads}; }
  // The pool keeps the pages of a head together.
  std::byte* Page(int head, int page) {
    const int64_t first = codec_->head_offset(Head(head));
    const int64_t end = head + 1 < heads() ? codec_->head_offset(Head(head + 1)) : codec_->page_bytes();
    return bytes_.data() + first * kPages + page * (end - first);
  }
  const kv::PageCodec& codec() const { return *codec_; }
  const uint16_t* raw() const { return raw_.data(); }
  int head_dim() const { return model_.head_dim; }

  std::vector<float> Numbers(int64_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> numbers(n);
    for (float& number : numbers) number = std::abs(normal(random_));
    return numbers;
  }

 private:
  const kv::CodecModel model_;
  std::unique_ptr<kv::PageCodec> codec_;
  std::vector<std::byte> bytes_;
  std::vector<uint16_t> raw_;
  std::mt19937 random_{1};
};

// visit(head, run) for all runs of the next head in turn, once an iteration; time is told per head and page.
template <typename Visit>
void OverHeads(benchmark::State& state, Sealed& sealed, const Visit& visit) {
  sealed.Seal();
  int head = 0;
  for (auto unused : state) {
    std::vector<const std::byte*> pages;
    for (int page = 0; page < kPages; ++page) pages.push_back(sealed.Page(head, page));
    for (int first = 0; first < kPages; first += kRunPages) {
      visit(sealed.Head(head), kv::PageRun{absl::MakeConstSpan(pages).subspan(first, kRunPages), first});
    }
    head = (head + 1) % sealed.heads();
  }
  state.counters["page"] = benchmark::Counter(static_cast<double>(state.iterations()) * kPages,
                                              benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void Encode(benchmark::State& state, Sealed& sealed) {
  std::vector<std::byte> out(sealed.codec().page_bytes());
  OverHeads(state, sealed, [&](kv::HeadId head, const kv::PageRun& run) {
    for (int p = 0; p < kRunPages; ++p) sealed.codec().Encode(head, run.first_index + p, sealed.raw(), out.data());
  });
}

void Scores(benchmark::State& state, Sealed& sealed) {
  const int rows = static_cast<int>(state.range(0));
  const std::vector<float> queries = sealed.Numbers(rows * sealed.head_dim());
  std::vector<float> prepared(rows * sealed.codec().query_floats()), scores(rows * kRunPages * kv::kPageTokens);
  sealed.codec().PrepareQueries({0, 0}, queries.data(), rows, prepared.data());
  OverHeads(state, sealed, [&](kv::HeadId head, const kv::PageRun& run) {
    sealed.codec().Scores(head, run, prepared.data(), rows, scores.data(), kRunPages * kv::kPageTokens);
  });
}

void Mix(benchmark::State& state, Sealed& sealed) {
  const int rows = static_cast<int>(state.range(0));
  const std::vector<float> weights = sealed.Numbers(rows * kRunPages * kv::kPageTokens);
  std::vector<float> accumulators(rows * sealed.codec().mix_floats());
  OverHeads(state, sealed, [&](kv::HeadId head, const kv::PageRun& run) {
    sealed.codec().Mix(head, run, weights.data(), kRunPages * kv::kPageTokens, rows, accumulators.data());
  });
}

void Register(const std::string& name, const std::string& isa, std::shared_ptr<Sealed> sealed) {
  const auto add = [&](const char* what, auto* run, std::vector<int64_t> rows) {
    auto* made = benchmark::RegisterBenchmark((name + "/" + isa + "/" + what).c_str(),
                                              [sealed, run](benchmark::State& state) { run(state, *sealed); });
    for (const int64_t count : rows) made->Arg(count)->ArgName("rows");
  };
  add("encode", Encode, {});
  add("scores", Scores, {1, 3, 48});
  add("mix", Mix, {1, 3, 48});
}

absl::Status RegisterAll() {
  const absl::StatusOr<engine::ModelFile> file = engine::OpenModelFile(absl::GetFlag(FLAGS_model));
  if (!file.ok()) return file.status();
  engine::CalibrationFile calibration;
  if (const std::string path = absl::GetFlag(FLAGS_kv_calibration); !path.empty()) {
    absl::StatusOr<engine::CalibrationFile> read = engine::ReadCalibration(path);
    if (!read.ok()) return read.status();
    calibration = *std::move(read);
  }
  kv::CodecModel model = engine::CodecModelOf(file->config);
  model.max_pages = kPages;
  for (const simd::Isa isa : simd::SupportedIsas()) {
    for (const char* name : {"int8", "int4", "kivi4", "kivi2", "cq2", "cq1", "klt3", "klt2", "klt1"}) {
      const kv::Codec& codec = *kv::FindCodec(name);
      const auto of_codec = [&](const kv::Calibration& one) { return one.codec == name; };
      const auto found = std::find_if(calibration.codecs.begin(), calibration.codecs.end(), of_codec);
      if (codec.calibrated && found == calibration.codecs.end()) continue;
      auto created = codec.create(model, codec.calibrated ? &*found : nullptr, isa);
      if (!created.ok()) return created.status();
      Register(name, std::string(simd::Name(isa)), std::make_shared<Sealed>(model, *std::move(created)));
    }
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace nibble

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  absl::ParseCommandLine(argc, argv);
  if (const absl::Status status = nibble::RegisterAll(); !status.ok()) {
    std::fprintf(stderr, "codec_bench: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  benchmark::RunSpecifiedBenchmarks();
}
