#include "daemon/lane/trial_scratch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>

#include "absl/strings/str_cat.h"
#include "kernels/bf16.h"
#include "kernels/quantize.h"
#include "transport/wire_sizes.h"

namespace latentd {
namespace {

// Copied in one turn of the lane, in which a request that comes waits: some tens of microseconds.
constexpr uint64_t kFillBytes = uint64_t{512} << 10;

// Values between -1 and 1: what is all zeros takes a device less time.
std::vector<Bf16> MakeNoise(const Geometry& geometry) {
  std::minstd_rand random(1);
  std::vector<Bf16> values(uint64_t{kPageTokens} * geometry.row_width());
  for (Bf16& value : values) {
    value = FloatToBf16(static_cast<float>(random() % 2048) / 1024.0f - 1.0f);
  }
  return values;
}

std::vector<std::byte> MakePageRecords(const Layout& layout, std::span<const Bf16> noise) {
  const Geometry geometry = layout.geometry();
  const auto bytes = std::as_bytes(noise);
  if (layout.record_format == RecordFormat::kBf16) return {bytes.begin(), bytes.end()};
  std::vector<std::byte> records(layout.layer_bytes());
  QuantizeRecords(geometry, bytes.data(), kPageTokens, records.data());
  return records;
}

uint64_t AnswerBytes(const BatchTrial& trial, const Geometry& geometry) {
  return AttendReplyBytes(trial.query_tokens, trial.heads, geometry, OutFormat::kBf16).value_or(0);
}

}  // namespace

TrialScratch::TrialScratch(LatentStore* store, PayloadPool* buffers, double high_watermark,
                           uint64_t write_bytes)
    : store_(store),
      buffers_(buffers),
      high_watermark_(high_watermark),
      write_pages_(write_bytes / store->layout().page_bytes() + 1),
      noise_(MakeNoise(store->layout().geometry())),
      page_records_(MakePageRecords(store->layout(), noise_)) {}

TrialScratch::~TrialScratch() {
  for (const uint32_t page : pages_) store_->arena().Free(page);
}

uint64_t TrialScratch::PagesToSpare() const {
  const PageArena& arena = store_->arena();
  const auto high = static_cast<uint64_t>(high_watermark_ * arena.pages_total());
  const uint64_t used = arena.pages_total() - arena.pages_free() - pages_.size();
  const uint64_t room = high > used ? high - used : 0;
  return room - std::min(room, std::max((room + 1) / 2, write_pages_));
}

absl::Status TrialScratch::Reserve(const BatchTrial& trial, uint32_t batches) {
  if (trial.query_tokens == 0 || trial.heads == 0 || trial.heads > kMaxHeads ||
      trial.visible_tokens == 0) {
    return absl::InvalidArgumentError(absl::StrCat("a trial of ", trial.query_tokens, " tokens, ",
                                                   trial.heads, " heads over ",
                                                   trial.visible_tokens, " tokens"));
  }
  const uint64_t wanted = (uint64_t{trial.visible_tokens} + kPageTokens - 1) / kPageTokens;
  if (wanted > std::max<uint64_t>(pages_.size(), PagesToSpare())) {
    return absl::ResourceExhaustedError(absl::StrCat(trial.visible_tokens, " tokens take ", wanted,
                                                     " pages; the cache has ", PagesToSpare(),
                                                     " to spare"));
  }
  while (pages_.size() < wanted) {
    const auto page = store_->arena().Allocate();
    if (!page.has_value()) return absl::ResourceExhaustedError("no page is free");
    pages_.push_back(*page);
  }
  return ReserveBuffers(trial, batches);
}

absl::Status TrialScratch::ReserveBuffers(const BatchTrial& trial, uint32_t batches) {
  const Geometry geometry = store_->layout().geometry();
  const uint64_t rows = uint64_t{trial.query_tokens} * trial.heads;
  const uint64_t row_bytes = rows * geometry.row_width() * sizeof(Bf16);
  if (rows_.bytes().size() < row_bytes) {
    rows_ = buffers_->Take(row_bytes);
    if (rows_.empty()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for ", row_bytes, " bytes of rows"));
    }
    rows_written_ = 0;
  }
  const uint64_t bytes = AnswerBytes(trial, geometry);
  answers_.resize(std::max<size_t>(answers_.size(), batches));
  for (PayloadBuffer& answer : answers_) {
    if (!answer.empty() && answer.bytes().size() >= bytes) continue;
    answer = buffers_->Take(bytes);
    if (answer.empty()) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no memory for ", bytes, " bytes of answers"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> TrialScratch::Fill() {
  if (const uint64_t left = rows_.bytes().size() - rows_written_; left > 0) {
    const auto noise = std::as_bytes(std::span(noise_));
    for (uint64_t filled = 0; filled < std::min(left, kFillBytes);) {
      const uint64_t some = std::min<uint64_t>(left - filled, noise.size());
      std::memcpy(rows_.data() + rows_written_, noise.data(), some);
      rows_written_ += some;
      filled += some;
    }
    return false;
  }
  std::vector<RecordRun> runs;
  const uint64_t bytes = page_records_.size();
  while (written_ < pages_.size() && runs.size() * bytes < kFillBytes) {
    runs.push_back({.memory_offset = store_->arena().page_offset(pages_[written_++]),
                    .host_offset = 0,
                    .bytes = bytes});
  }
  if (runs.empty()) return true;
  if (absl::Status s = store_->arena().memory().Write(runs, page_records_.data()); !s.ok())
    return s;
  return written_ == pages_.size();
}

Problem TrialScratch::ProblemOf(const BatchTrial& trial, size_t i) {
  const Geometry geometry = store_->layout().geometry();
  group_ = {.first_token = 0, .tokens = trial.query_tokens, .first_segment = 0, .segments = 1};
  segment_ = {.page_ids = pages_.data(), .visible_tokens = trial.visible_tokens};
  std::byte* answer = answers_[i].data();
  const uint64_t lse_offset =
      AttendReplyLseOffset(trial.query_tokens, trial.heads, geometry, OutFormat::kBf16).value_or(0);
  return {.layer = 0,
          .tokens = trial.query_tokens,
          .heads = trial.heads,
          // So that no token decides alone: a softmax over few is quicker for some devices.
          .scale = 1.0f / std::sqrt(static_cast<float>(geometry.row_width())),
          .groups = {&group_, 1},
          .segments = {&segment_, 1},
          .rows = reinterpret_cast<const Bf16*>(rows_.data()),
          .out_format = OutFormat::kBf16,
          .out = answer,
          .lse = reinterpret_cast<float*>(answer + lse_offset)};
}

}  // namespace latentd
