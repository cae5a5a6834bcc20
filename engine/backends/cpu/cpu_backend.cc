#include "engine/backends/cpu/cpu_backend.h"

#include <algorithm>
#include <iterator>

#include "engine/backends/cpu/delta_kernels.h"
#include "engine/backends/rope_frequencies.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/simd/portable_math.h"

namespace nibble::engine {
namespace {

// Work items are cut so that each takes some ten microseconds: much longer than handing it out.
constexpr int64_t kRowsPerItem = 8, kFewestRowsPerItem = 4;
// Rows that meet a panel together: the most that a kernel takes at once on any target.
constexpr int64_t kRowBlock = 8;
// Panels that each of several blocks of rows meets while its codes are in the L1 cache.
constexpr int64_t kPanelsTogether = 4;

// Rows that are enough for a thread to read all weights for them alone; their codes then stay in its own cache. With
// many threads the weights would be read too often for fewer: a part then has several threads.
constexpr int64_t kRowsPerPart = 128;

int64_t Items(int64_t count, int64_t per_item) { return (count + per_item - 1) / per_item; }

// Calls body(row) for every row, a few rows at a time, on the pool.
template <typename Body>
void ForRows(WorkerPool& pool, int64_t rows, const Body& body) {
  const int64_t per_item = std::clamp(Items(rows, pool.threads()), kFewestRowsPerItem, kRowsPerItem);
  pool.ParallelFor(Items(rows, per_item), [&](int64_t item, int) {
    const int64_t end = std::min(rows, (item + 1) * per_item);
    for (int64_t row = item * per_item; row < end; ++row) body(row);
  });
}

// Calls body(sequence, r) for row r of every sequence, a few rows of the batch at a time, on the pool.
template <typename Body>
void ForBatchRows(WorkerPool& pool, absl::Span<const SequenceRows> batch, const Body& body) {
  ForRows(pool, batch.back().first_row + batch.back().num_rows, [&](int64_t row) {
    const auto after = std::upper_bound(batch.begin(), batch.end(), row,
                                        [](int64_t at, const SequenceRows& s) { return at < s.first_row; });
    const SequenceRows& sequence = *std::prev(after);
    body(sequence, row - sequence.first_row);
  });
}

}  // namespace

CpuBackend::CpuBackend(simd::Isa isa, WorkerPool& pool, const kv::RawForm& raw_form, const kv::PageCodec* codec)
    : isa_(isa), pool_(pool), rows_(RowKernelsFor(isa)), kv_(raw_form, codec), attention_(isa, pool, kv_) {}

absl::StatusOr<std::unique_ptr<Matrix>> CpuBackend::LoadMatrix(absl::Span<const Tensor* const> parts,
                                                               WeightMode weights, const InputRounding& inputs) {
  return PackedMatrix::Pack(parts, weights, inputs, pool_);
}

absl::StatusOr<std::unique_ptr<MatrixDelta>> CpuBackend::LoadDelta(absl::Span<const PartDelta> parts,
                                                                   absl::FunctionRef<void()> pause) const {
  return PackedDelta::Pack(parts, pause);
}

absl::Span<const float> CpuBackend::LoadVector(absl::Span<const Tensor* const> parts) {
  auto values = std::make_unique<std::vector<float>>();
  for (const Tensor* part : parts) {
    const size_t at = values->size();
    values->resize(at + part->cols());
    DecodeRow(*part, 0, absl::MakeSpan(*values).subspan(at));
  }
  vectors_.push_back(std::move(values));
  return *vectors_.back();
}

absl::StatusOr<View> CpuBackend::AllocateView(int64_t rows, int64_t cols) {
  NIBBLE_ASSIGN_OR_RETURN(AlignedBuffer buffer,
                          AlignedBuffer::Allocate(rows * cols * static_cast<int64_t>(sizeof(float))));
  buffers_.push_back(std::move(buffer));
  return View{reinterpret_cast<float*>(buffers_.back().data()), rows, cols};
}

int64_t CpuBackend::workspace_bytes() const {
  int64_t bytes = 0;
  for (const AlignedBuffer& buffer : buffers_) bytes += buffer.size();
  return bytes;
}

absl::Status CpuBackend::AllocateKv(const KvShape& shape, const kv::CacheShape& cache, int64_t step_tokens) {
  return kv_.Allocate(shape, cache, step_tokens);
}

void CpuBackend::Embed(const Tensor& table, absl::Span<const int32_t> ids, float scale, View out) {
  ForRows(pool_, static_cast<int64_t>(ids.size()), [&](int64_t row) {
    DecodeRow(table, ids[row], absl::MakeSpan(out.row(row), out.cols));
    if (scale != 1.0f) rows_.scale(scale, out.cols, out.row(row));
  });
}

void CpuBackend::Gather(View x, absl::Span<const int64_t> rows, View out) {
  for (size_t i = 0; i < rows.size(); ++i) std::copy_n(x.row(rows[i]), x.cols, out.row(static_cast<int64_t>(i)));
}

void CpuBackend::Norm(View x, absl::Span<const float> weight, float epsilon, View out) {
  ForRows(pool_, x.rows,
          [&](int64_t row) { rows_.rms_norm(x.row(row), weight.data(), x.cols, epsilon, out.row(row)); });
}

void CpuBackend::NormHeads(View x, int64_t first_col, int heads, absl::Span<const float> weight, float epsilon) {
  const int64_t dim = static_cast<int64_t>(weight.size());
  ForRows(pool_, x.rows, [&](int64_t row) {
    for (int h = 0; h < heads; ++h) {
      float* head = x.row(row) + first_col + h * dim;
      rows_.rms_norm(head, weight.data(), dim, epsilon, head);
    }
  });
}

void CpuBackend::AddVector(absl::Span<const float> values, View x) {
  ForRows(pool_, x.rows, [&](int64_t row) { rows_.add(x.row(row), values.data(), x.cols, x.row(row)); });
}

void CpuBackend::Add(View x, View y, View out) {
  ForRows(pool_, x.rows, [&](int64_t row) { rows_.add(x.row(row), y.row(row), x.cols, out.row(row)); });
}

void CpuBackend::Quantize(View x, const PackedMatrix& matrix) {
  const RowForm form = matrix.row_form();
  quantized_ = quantized_buffer_.Fit(x.rows, matrix.groups());
  ForRows(pool_, x.rows, [&](int64_t row) { QuantizeRow(isa_, x.row(row), x.cols, row, form, quantized_); });
}

void CpuBackend::MatMul(View x, const Matrix& matrix, absl::Span<const float> bias, absl::Span<const DeltaRows> deltas,
                        Epilogue epilogue, View out) {
  const auto& packed = static_cast<const PackedMatrix&>(matrix);
  const auto& sections = packed.sections();
  if (std::any_of(sections.begin(), sections.end(), [](const Section& s) { return !s.f32; })) {
    Quantize(x, packed);
  }
  // One loop for all sections: a loop for each would wait for that section's last item.
  section_work_.clear();
  int64_t panels = 0;
  for (const Section& section : sections) {
    NIBBLE_CHECK(deltas.empty() || (!section.f32 && !packed.row_form().rotated));
    const PanelKernel kernel = section.f32 ? FloatPanelKernel(isa_) : QuantizedPanelKernel(isa_, section.format);
    section_work_.push_back({&section, kernel, panels});
    panels += section.panels();
  }
  const Product product = {x, bias, deltas, epilogue, out};
  const int64_t parts = std::clamp<int64_t>(x.rows / kRowsPerPart, 1, pool_.threads());
  pool_.ParallelRuns(parts * panels, [&](int64_t first, int64_t end, int) {
    for (int64_t part = first / panels; part * panels < end; ++part) {
      const int64_t first_panel = std::max<int64_t>(0, first - part * panels);
      MultiplyPart(product, PartOf(x.rows, part, parts), first_panel, std::min(panels, end - part * panels));
    }
  });
}

CpuBackend::RowRange CpuBackend::PartOf(int64_t rows, int64_t part, int64_t parts) {
  static_assert(kRowBlock == kRowsPerItem);
  const int64_t blocks = Items(rows, kRowBlock);
  return {WorkerPool::BeginOfShare(blocks, part, parts) * kRowBlock,
          std::min(rows, WorkerPool::BeginOfShare(blocks, part + 1, parts) * kRowBlock)};
}

void CpuBackend::MultiplyPart(const Product& product, RowRange rows, int64_t first_panel, int64_t end_panel) {
  for (const SectionWork& work : section_work_) {
    const int64_t end = std::min(work.section->panels(), end_panel - work.first_panel);
    for (int64_t first = std::max<int64_t>(0, first_panel - work.first_panel); first < end; first += kPanelsTogether) {
      MultiplyPanels(product, rows, work, first, std::min(end, first + kPanelsTogether));
      AddDeltas(product, rows, work, first, std::min(end, first + kPanelsTogether));
    }
  }
}

void CpuBackend::MultiplyPanels(const Product& product, RowRange rows, const SectionWork& work, int64_t first_panel,
                                int64_t end_panel) {
  const Section& section = *work.section;
  for (int64_t row = rows.first; row < rows.end; row += kRowBlock) {
    for (int64_t panel = first_panel; panel < end_panel; ++panel) {
      const int64_t output = section.first_output + panel * kPanelOutputs;
      PanelArgs args;
      args.panel = section.data.data() + panel * section.panel_bytes;
      args.rows = std::min(kRowBlock, rows.end - row);
      args.x = &quantized_;
      args.first_row = row;
      args.x_f32 = product.x.row(row);
      args.cols = product.x.cols;
      args.bias = product.bias.empty() ? nullptr : product.bias.data() + output;
      args.add = product.epilogue == Epilogue::kAdd;
      args.out = product.out.row(row) + output;
      args.out_stride = product.out.cols;
      args.outputs = static_cast<int>(std::min<int64_t>(kPanelOutputs, section.num_outputs - panel * kPanelOutputs));
      work.kernel(args);
    }
  }
}

// To what MultiplyPanels has just left in the cache.
void CpuBackend::AddDeltas(const Product& product, RowRange rows, const SectionWork& work, int64_t first_panel,
                           int64_t end_panel) {
  const auto index = static_cast<size_t>(&work - section_work_.data());
  for (const DeltaRows& delta : product.deltas) {
    const auto& sections = static_cast<const PackedDelta*>(delta.delta)->sections();
    NIBBLE_CHECK(sections.size() == section_work_.size());
    NIBBLE_CHECK(sections[index].num_outputs == work.section->num_outputs);
    const RowRange adapted = {std::max(rows.first, delta.first_row),
                              std::min(rows.end, delta.first_row + delta.num_rows)};
    AddDeltaPanels(adapted, sections[index], work.section->first_output, first_panel, end_panel, product.out);
  }
}

// Plane after plane.
void CpuBackend::AddDeltaPanels(RowRange rows, const DeltaSection& section, int64_t first_output, int64_t first_panel,
                                int64_t end_panel, View out) {
  if (section.planes == 0) return;
  const DeltaPanelKernel kernel = DeltaPanelKernelFor(isa_, section.bits);
  for (int64_t row = rows.first; row < rows.end; row += kRowBlock) {
    for (int64_t panel = first_panel; panel < end_panel; ++panel) {
      const int64_t output = panel * kPanelOutputs;
      DeltaPanelArgs args;
      args.rows = std::min(kRowBlock, rows.end - row);
      args.x = &quantized_;
      args.first_row = row;
      args.out = out.row(row) + first_output + output;
      args.out_stride = out.cols;
      args.outputs = static_cast<int>(std::min<int64_t>(kPanelOutputs, section.num_outputs - output));
      for (int64_t plane = 0; plane < section.planes; ++plane) {
        args.panel = section.data.data() + (plane * section.panels() + panel) * section.panel_bytes;
        args.scales = section.ScalesOf(plane, panel);
        kernel(args);
      }
    }
  }
}

void CpuBackend::RopeAngles(absl::Span<const SequenceRows> batch, const RopeShape& shape, double base,
                            double linear_factor, View angles) {
  const int half = shape.dims / 2;
  const std::vector<double> frequencies = RopeFrequencies(shape, base, linear_factor);
  ForBatchRows(pool_, batch, [&](const SequenceRows& sequence, int64_t r) {
    float* row = angles.row(sequence.first_row + r);
    const double position = static_cast<double>(sequence.position + r);
    for (int i = 0; i < half; ++i) {
      const simd::SineCosine angle = simd::PortableSineCosine(position * frequencies[i]);
      row[i] = static_cast<float>(angle.cosine);
      row[half + i] = static_cast<float>(angle.sine);
    }
  });
}

void CpuBackend::RopeStoreKv(absl::Span<const SequenceRows> batch, const AttentionShape& shape, const RopeShape& rope,
                             View angles, int layer, View qkv) {
  const int dim = shape.head_dim, half = rope.dims / 2;
  const auto store = kv_.raw_form().store;
  kv_.PoisonNewPages(batch, layer);
  const auto rotate = rope.interleaved ? rows_.rope_pairs : rows_.rope_halves;
  ForBatchRows(pool_, batch, [&](const SequenceRows& sequence, int64_t r) {
    const int64_t position = sequence.position + r;
    const float* angle = angles.row(sequence.first_row + r);
    float* row = qkv.row(sequence.first_row + r);
    for (int h = 0; h < shape.num_heads + shape.num_kv_heads; ++h) {
      rotate(angle, angle + half, rope.dims, row + h * dim);
    }
    const int slot = static_cast<int>(position % kv::kPageTokens);
    for (int h = 0; h < shape.num_kv_heads; ++h) {
      const float* key = row + (shape.num_heads + h) * dim;
      store(kv_.Raw(sequence, position / kv::kPageTokens, {layer, h}), dim, slot, key, key + shape.num_kv_heads * dim);
    }
  });
  if (kv_.codec() != nullptr) SealFullPages(batch, layer, shape.num_kv_heads);
}

// Sinks are never sealed.
void CpuBackend::SealFullPages(absl::Span<const SequenceRows> batch, int layer, int num_kv_heads) {
  full_pages_.clear();
  for (const SequenceRows& sequence : batch) {
    const int64_t end = (sequence.position + sequence.num_rows) / kv::kPageTokens;
    const int64_t first = std::max<int64_t>(sequence.position / kv::kPageTokens, kv_.cache_shape().sink_pages);
    for (int64_t page = first; page < end; ++page) full_pages_.emplace_back(&sequence, page);
  }
  pool_.ParallelFor(static_cast<int64_t>(full_pages_.size()) * num_kv_heads, [&](int64_t i, int) {
    const auto& [sequence, page] = full_pages_[i / num_kv_heads];
    const kv::HeadId head = {layer, static_cast<int>(i % num_kv_heads)};
    const auto* raw = reinterpret_cast<const uint16_t*>(kv_.Raw(*sequence, page, head));
    kv_.codec()->Encode(head, page, raw, kv_.Sealed(sequence->pages[page], head));
  });
}

void CpuBackend::Attend(absl::Span<const SequenceRows> batch, const AttentionShape& shape, int layer, float scale,
                        int64_t window, float softcap, View qkv, View out) {
  attention_.Run(batch, {shape, layer, scale, window, softcap, qkv, out});
}

void CpuBackend::GatedAct(Activation activation, View gate_up, View out) {
  const auto kernel = activation == Activation::kSilu ? rows_.silu_mul : rows_.gelu_tanh_mul;
  ForRows(pool_, gate_up.rows, [&](int64_t row) {
    const float* gate = gate_up.row(row);
    kernel(gate, gate + out.cols, out.cols, out.row(row));
  });
}

void CpuBackend::SoftCap(float cap, View x) {
  ForRows(pool_, x.rows, [&](int64_t row) { rows_.soft_cap(cap, x.cols, x.row(row)); });
}

}  // namespace nibble::engine
