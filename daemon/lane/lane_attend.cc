// ATTEND: chunks are looked up and pinned, rows are checked, and the engine does the rest.
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "kernels/records.h"
#include "kernels/rotate.h"
#include "kernels/validate.h"
#include "transport/errors.h"
#include "transport/wire_sizes.h"

namespace latentd {

uint64_t AttendWork(const AttendRequest& attend) {
  // tokens_before[i]: of the chunks before i. Groups may name the same ones.
  absl::InlinedVector<uint64_t, 17> tokens_before = {0};
  for (const wire::ChunkEntry& chunk : attend.chunks) {
    tokens_before.push_back(tokens_before.back() + chunk.visible_tokens);
  }
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  uint64_t work = 0;
  for (const wire::GroupEntry& group : attend.groups) {
    const uint64_t rows = uint64_t{group.tokens} * attend.attend.heads;
    const uint64_t seen =
        tokens_before[group.first_chunk + group.chunks] - tokens_before[group.first_chunk];
    if (rows != 0 && seen > (kMax - work) / rows) return kMax;
    work += rows * seen;
  }
  return work;
}

void LaneImpl::Attend(LaneRequest& request) {
  Problem problem;
  if (absl::Status s = PrepareAttend(request, problem); !s.ok()) return Finish(request, s);
  stats_.attend_rows.Add(uint64_t{problem.tokens} * problem.heads);
  request.stage = LaneRequest::Stage::kComputing;
  engine_->Add({.job = request.serial,
                .session = request.session->key,
                .deadline = request.deadline,
                .work = AttendWork(std::get<AttendRequest>(request.parsed.body)),
                .problem = problem});
}

absl::Status LaneImpl::PrepareAttend(LaneRequest& request, Problem& problem) {
  const auto& attend = std::get<AttendRequest>(request.parsed.body);
  // Looking at chunks is quick, looking at rows is not: a request that cannot be answered costs the
  // lane little.
  if (absl::Status s = ResolveChunks(request); !s.ok()) return s;
  if (absl::Status s = PlaceRows(request); !s.ok()) return s;
  if (absl::Status s = CheckRows(request); !s.ok()) return s;
  if (absl::Status s = TurnRows(request); !s.ok()) return s;
  const wire::AttendBody& body = attend.attend;
  const OutFormat format = attend.out_fp32 ? OutFormat::kFp32 : OutFormat::kBf16;
  const Geometry geometry = options_.layout.geometry();
  const uint64_t bytes = *AttendReplyBytes(body.tokens, body.heads, geometry, format);
  request.reply = TakeBuffer(request, bytes);
  if (request.reply.empty()) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for a reply of ", bytes, " bytes"));
  }
  std::byte* lse =
      request.reply.data() + *AttendReplyLseOffset(body.tokens, body.heads, geometry, format);
  problem = {.layer = body.layer,
             .tokens = body.tokens,
             .heads = body.heads,
             .scale = body.scale,
             .groups = request.groups,
             .segments = request.segments,
             .rows = reinterpret_cast<const Bf16*>(request.payload.data()),
             .out_format = format,
             .out = request.reply.data(),
             .lse = reinterpret_cast<float*>(lse)};
  return ValidateProblem(problem, geometry);
}

PayloadBuffer LaneImpl::TakeBuffer(const LaneRequest& request, uint64_t bytes) {
  // Rows that are to be turned are turned by the host.
  const uint16_t flags = request.parsed.header.flags;
  const bool wants_device = (flags & wire::kDeviceMemory) != 0 && (flags & wire::kShifted) == 0;
  if (wants_device && device_buffers_.has_value()) {
    if (PayloadBuffer buffer = device_buffers_->Take(bytes); !buffer.empty()) return buffer;
  }
  return buffers_.Take(bytes);
}

// Rows are read where they arrived, as 16-bit values: a transport that does not align them, or that
// keeps them where the device cannot read, costs a copy; so do rows that are to be turned.
absl::Status LaneImpl::PlaceRows(LaneRequest& request) {
  const bool aligned = reinterpret_cast<uintptr_t>(request.payload.data()) % alignof(Bf16) == 0;
  const bool in_buffer = request.payload.data() == request.received.data();
  const bool read_only = !rows_in_buffers_ && !std::get<AttendRequest>(request.parsed.body).shifted;
  if (aligned && (in_buffer || read_only)) return absl::OkStatus();
  request.received = buffers_.Take(request.payload.size());
  if (request.received.empty()) {
    return absl::ResourceExhaustedError("no memory for the rows");
  }
  std::memcpy(request.received.data(), request.payload.data(), request.payload.size());
  request.payload = request.received.bytes();
  return absl::OkStatus();
}

// The device says itself of rows that arrived there which of them are of no use.
absl::Status LaneImpl::CheckRows(const LaneRequest& request) const {
  if (device_buffers_.has_value() && device_buffers_->Lent(request.received)) {
    return absl::OkStatus();
  }
  const wire::AttendBody& body = std::get<AttendRequest>(request.parsed.body).attend;
  const auto bad =
      FirstNonFiniteRow(reinterpret_cast<const Bf16*>(request.payload.data()),
                        uint64_t{body.tokens} * body.heads, options_.layout.geometry().row_width());
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the row of token ", *bad / body.heads, ", head ",
                                                 *bad % body.heads,
                                                 " has a value that is not finite"));
}

// A group of chunks that are used elsewhere than where they were made: its rows are turned back by
// the difference, in the lane's own buffer, and from there on are rows like any others, that share
// passes over records with whoever attends them.
absl::Status LaneImpl::TurnRows(LaneRequest& request) const {
  const auto& attend = std::get<AttendRequest>(request.parsed.body);
  if (!attend.shifted) return absl::OkStatus();
  const Geometry geometry = options_.layout.geometry();
  auto* rows = reinterpret_cast<Bf16*>(request.received.data());
  int32_t shift = 0;
  Rotation back;
  for (const wire::GroupEntry& group : attend.groups) {
    if (group.position_shift == 0) continue;
    if (group.position_shift != shift) {
      if (!rope_.ok()) return rope_.status();
      auto rotation = rope_->RotationBy(-int64_t{group.position_shift});
      if (!rotation.ok()) return rotation.status();
      back = *std::move(rotation);
      shift = group.position_shift;
    }
    const uint64_t first_row = uint64_t{group.first_token} * attend.attend.heads;
    Bf16* turned = rows + first_row * geometry.row_width();
    RotateRows(geometry, back, turned, uint64_t{group.tokens} * attend.attend.heads, turned);
  }
  return absl::OkStatus();
}

absl::Status LaneImpl::ResolveChunks(LaneRequest& request) {
  const auto& attend = std::get<AttendRequest>(request.parsed.body);
  const absl::Time now = SteadyNow();
  // first_segment[i]: segments that entries before i became. A chunk that best effort leaves out
  // becomes none, and the clipping of the others does not depend on it.
  absl::InlinedVector<uint32_t, 17> first_segment;
  for (const wire::ChunkEntry& chunk : attend.chunks) {
    first_segment.push_back(static_cast<uint32_t>(request.segments.size()));
    const ChunkId id = {.hi = chunk.chunk_hi, .lo = chunk.chunk_lo};
    auto pin = store_->PinForAttend(id, attend.attend.layer, chunk.visible_tokens, now);
    if (!pin.ok()) {
      if (!attend.best_effort) return pin.status();
      request.missing.push_back({.chunk_hi = chunk.chunk_hi,
                                 .chunk_lo = chunk.chunk_lo,
                                 .code = static_cast<uint16_t>(ToWireCode(pin.status()))});
      continue;
    }
    request.pins.push_back(*pin);
    request.segments.push_back({.page_ids = pin->page_ids,
                                .visible_tokens = chunk.visible_tokens,
                                .tokens_after = chunk.tokens_after});
  }
  first_segment.push_back(static_cast<uint32_t>(request.segments.size()));
  for (const wire::GroupEntry& group : attend.groups) {
    const uint32_t first = first_segment[group.first_chunk];
    request.groups.push_back({.first_token = group.first_token,
                              .tokens = group.tokens,
                              .first_segment = first,
                              .segments = first_segment[group.first_chunk + group.chunks] - first,
                              .causal = group.causal != 0});
  }
  const size_t meta_bytes = request.missing.size() * sizeof(wire::MissingEntry);
  if (sizeof(wire::ReplyHeader) + meta_bytes > worker_->max_header_bytes()) {
    return absl::ResourceExhaustedError(
        absl::StrCat(request.missing.size(), " chunks are missing: more than one reply can list"));
  }
  return absl::OkStatus();
}

void LaneImpl::OnComputed(const EngineDone& done, absl::Time now) {
  const auto it = requests_.find(done.job);
  if (it == requests_.end()) return;
  LaneRequest& request = *it->second;
  if (done.started != absl::InfinitePast()) {
    request.queue_ns = absl::ToInt64Nanoseconds(done.started - request.arrival);
    request.compute_ns = done.compute_ns;
    request.batch_rows = done.batch_rows;
    stats_.queue_latency.Observe(request.queue_ns);
    stats_.compute_latency.Observe(request.compute_ns);
    stats_.attend_batched_requests.Add();
  }
  if (request.dropped) return Forget(request);
  if (!done.status.ok()) {
    if (absl::IsDeadlineExceeded(done.status)) stats_.deadline_dropped.Add();
    return Finish(request, Judge(done.status));
  }
  wire::ReplyHeader header = ReplyTo(request.parsed.header.request_id);
  request.reply_payload = request.reply.bytes();
  header.payload_bytes = request.reply_payload.size();
  header.queue_ns = request.queue_ns;
  header.compute_ns = request.compute_ns;
  header.batch_rows = request.batch_rows;
  BuildAttendReply(header, request.missing, &scratch_);
  SendReply(request, wire::Code::kOk);
  stats_.attend_latency.Observe(absl::ToInt64Nanoseconds(now - request.arrival));
}

void LaneImpl::Unpin(LaneRequest& request) {
  if (request.pins.empty()) return;
  const absl::Time now = SteadyNow();
  for (const ChunkPin& pin : request.pins) store_->Unpin(pin, now);
  request.pins.clear();
}

}  // namespace latentd
