#include "client/attend_operation.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/local_part.h"
#include "routing/cost_model.h"
#include "routing/layout_rope.h"
#include "transport/errors.h"
#include "transport/wire_build.h"

namespace latentd {
namespace {

// What routing/, which knows no wire, counts of a request beside its rows.
static_assert(kRouteRequestBytes ==
              sizeof(wire::RequestHeader) + sizeof(wire::AttendBody) + sizeof(wire::GroupEntry));
static_assert(kRouteChunkBytes == sizeof(wire::ChunkEntry));
static_assert(kRouteReplyBytes == sizeof(wire::ReplyHeader));

uint64_t AnswerRowBytes(const Geometry& geometry, OutFormat format) {
  return uint64_t{geometry.latent_width} * OutValueBytes(format) + sizeof(float);
}

// A holder cannot have taken longer than the whole round trip: such a figure is none.
uint64_t Plausible(uint64_t holder_ns, uint64_t rtt_ns) {
  return holder_ns <= rtt_ns ? holder_ns : 0;
}

absl::Status CheckSize(std::string_view what, uint64_t got, uint64_t expected) {
  if (got == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(what), ": got ", got, " elements, expected ", expected));
}

absl::Status CheckShifts(std::span<const QueryGroup> groups, const Layout& layout) {
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const VisibleChunk& chunk : groups[g].chunks) {
      if (chunk.position_shift == 0) continue;
      if (absl::Status s = CheckShift(RopeOf(layout), chunk.position_shift); !s.ok()) {
        return absl::Status(
            s.code(), absl::StrCat("group ", g, ", chunk ", ToString(chunk.id), ": ", s.message()));
      }
    }
  }
  return absl::OkStatus();
}

// A message that was sent, and its answer when it has come.
struct SentMessage {
  std::vector<MessageRun> runs;
  uint32_t tokens = 0;
  ReplyPayload answer;
  bool answered = false;
};

class AttendOperation final : public Operation {
 public:
  // `device` and `rows_there`: of a query on a device. `local`: null where nothing is cached.
  AttendOperation(const AttendQuery& query, const Geometry& geometry, SplitQuery split,
                  ClientDevice* device, std::unique_ptr<StreamMark> rows_there,
                  std::unique_ptr<LocalPart> local, AttendCallback done)
      : query_(query),
        geometry_(geometry),
        device_(device),
        rows_there_(std::move(rows_there)),
        local_(std::move(local)),
        tokens_(split.tokens),
        pieces_(std::move(split.pieces)),
        initial_items_(static_cast<uint32_t>(pieces_.size())),
        done_(std::move(done)) {
    query_.groups = {};  // valid during the call only
  }

  uint32_t initial_items() const override { return initial_items_; }
  Slot SlotOf(uint32_t item) const override { return pieces_[item].chunk.slot(); }
  Placement placement() const override { return Placement::kAnyHolder; }
  bool worth_hedging() const override { return !query_.on_device; }
  absl::StatusOr<bool> Ready() override {
    return rows_there_ == nullptr ? true : rows_there_->Reached();
  }
  bool works_here() const override { return local_ != nullptr; }
  absl::StatusOr<bool> Work(bool ended) override {
    if (ended) local_->Cancel();
    return local_->Work();
  }

  absl::Status Build(const Target& target, std::span<const uint32_t> items,
                     std::vector<Built>* built) override {
    const auto bounds = BoundsOf(target);
    if (!bounds.ok()) return bounds.status();
    std::vector<Piece> pieces;
    for (const uint32_t item : items) pieces.push_back(pieces_[item]);
    for (AttendMessage& message : PackMessages(pieces, *bounds)) {
      Built out;
      out.tag = static_cast<uint32_t>(messages_.size());
      for (const Piece& piece : message.pieces) {
        out.items.push_back(static_cast<uint32_t>(pieces_.size()));
        pieces_.push_back(piece);
      }
      if (auto s = MakeRequest(message, target.pool, &out.out); !s.ok()) return s;
      messages_.push_back({.runs = std::move(message.runs), .tokens = message.tokens});
      built->push_back(std::move(out));
    }
    return absl::OkStatus();
  }

  absl::Status OnAnswer(std::span<const uint32_t>, uint32_t tag, bool retried,
                        ExchangeResult result) override {
    SentMessage& message = messages_[tag];
    if (const auto* reply = std::get_if<AttendReply>(&result.body); reply != nullptr) {
      for (const wire::MissingEntry& entry : reply->missing) {
        const absl::Status reason = FromWireCode(static_cast<wire::Code>(entry.code), "");
        answer_.missing.push_back({{entry.chunk_hi, entry.chunk_lo}, reason.code()});
      }
    }
    message.answer = std::move(result.payload);
    message.answered = true;
    if (!query_.on_device) {
      if (absl::Status s = CheckLse(message, result.node); !s.ok()) return s;
    }
    answer_.holders.push_back({.node = result.node,
                               .lane = result.lane,
                               .rows = result.rows,
                               .queue_ns = Plausible(result.header.queue_ns, result.rtt_ns),
                               .compute_ns = Plausible(result.header.compute_ns, result.rtt_ns),
                               .rtt_ns = result.rtt_ns,
                               .bytes_sent = result.bytes_sent,
                               .bytes_received = result.bytes_received,
                               .batch_rows = result.header.batch_rows,
                               .retried = retried});
    return absl::OkStatus();
  }

  bool Tolerates(std::span<const uint32_t> items, const absl::Status& status) override {
    if (!query_.best_effort || !absl::IsUnavailable(status)) return false;
    for (const uint32_t item : items)
      answer_.missing.push_back({pieces_[item].chunk, status.code()});
    return true;
  }

  void Finish(absl::Status status) override {
    if (!status.ok()) {
      done_(std::move(status));
      return;
    }
    status = Assemble();
    messages_.clear();  // before the callback: buffers go back to the pool
    if (local_ != nullptr) {
      answer_.cached_chunks = local_->chunks();
      answer_.cached_ns = local_->compute_ns();
      local_.reset();
    }
    if (!status.ok()) {
      done_(std::move(status));
      return;
    }
    answer_.bytes_sent = bytes_sent;
    answer_.bytes_received = bytes_received;
    done_(std::move(answer_));
  }

 private:
  absl::Status CheckLse(const SentMessage& message, const NodeId& node) const {
    for (uint64_t row = 0; row < uint64_t{message.tokens} * query_.heads; ++row) {
      const float lse = Lse(message)[row];
      if (std::isnan(lse) || lse == std::numeric_limits<float>::infinity()) {
        return absl::InternalError(
            absl::StrCat("node ", node, " answered with a log-sum-exp of ", lse));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Assemble() {
    std::vector<MessagePartial> partials;
    for (const SentMessage& message : messages_) {
      if (!message.answered) continue;
      partials.push_back(
          {message.runs, {message.answer.bytes().data(), Lse(message), query_.out_format}});
    }
    if (local_ != nullptr) partials.push_back(local_->partial());
    if (!query_.on_device) {
      AssemblePartials(partials, tokens_, query_.heads, geometry_.latent_width, query_.out_format,
                       query_.out.data(), query_.lse.data());
      return absl::OkStatus();
    }
    std::vector<ReplyPayload> answers;
    for (SentMessage& message : messages_) answers.push_back(std::move(message.answer));
    return device_->Assemble(partials, query_, tokens_, geometry_.latent_width, std::move(answers));
  }

  absl::StatusOr<MessageBounds> BoundsOf(const Target& target) const {
    const SessionLimits& limits = target.session.limits;
    const uint64_t larger_row =
        std::max(RowBytes(geometry_), AnswerRowBytes(geometry_, query_.out_format));
    const uint64_t rows =
        std::min<uint64_t>(limits.rows_per_request, limits.payload_bytes_per_request / larger_row);
    // Each chunk may come with a group of its own.
    const uint64_t fixed = sizeof(wire::RequestHeader) + sizeof(wire::AttendBody);
    const uint64_t room = target.max_header_bytes > fixed ? target.max_header_bytes - fixed : 0;
    const uint64_t chunks = std::min<uint64_t>(
        limits.chunks_per_request, room / (sizeof(wire::GroupEntry) + sizeof(wire::ChunkEntry)));
    if (rows < query_.heads || chunks == 0) {
      return absl::ResourceExhaustedError(
          absl::StrCat("it takes requests of at most ", rows, " rows and ", chunks,
                       " chunks; one query token has ", query_.heads, " rows"));
    }
    return MessageBounds{
        .chunks = static_cast<uint32_t>(std::min<uint64_t>(chunks, 1 << 20)),
        .tokens = static_cast<uint32_t>(std::min<uint64_t>(rows / query_.heads, 1 << 20)),
        .work = limits.work_per_request / query_.heads};
  }

  absl::Status MakeRequest(const AttendMessage& message, PayloadPool& pool, Outgoing* out) const {
    out->opcode = wire::Opcode::kAttend;
    out->rows = uint64_t{message.tokens} * query_.heads;
    wire::RequestHeader header{};
    if (query_.out_format == OutFormat::kFp32) header.flags |= wire::kOutFp32;
    if (query_.best_effort) header.flags |= wire::kBestEffort;
    if (query_.on_device) header.flags |= wire::kDeviceMemory;
    out->on_device = query_.on_device;
    BuildAttend(header,
                {.layer = query_.layer,
                 .scale = query_.scale,
                 .heads = query_.heads,
                 .tokens = message.tokens},
                message.groups, message.chunks, &out->header);
    out->reply_payload_bytes = out->rows * AnswerRowBytes(geometry_, query_.out_format);
    return SetRows(message, pool, out);
  }

  // Rows that lie together in the query go from where they are; others are gathered.
  absl::Status SetRows(const AttendMessage& message, PayloadPool& pool, Outgoing* out) const {
    const uint64_t token_bytes = query_.heads * RowBytes(geometry_);
    const std::span<const std::byte> rows = std::as_bytes(query_.rows);
    const MessageRun& first = message.runs.front();
    const auto follows = [&](const MessageRun& run) {
      return run.first_token - first.first_token == run.message_token;
    };
    if (std::all_of(message.runs.begin(), message.runs.end(), follows)) {
      out->payload = rows.subspan(first.first_token * token_bytes, message.tokens * token_bytes);
      return absl::OkStatus();
    }
    out->owned = (query_.on_device ? device_->pool() : pool).Take(message.tokens * token_bytes);
    if (out->owned.empty()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "rows: no memory for the ", message.tokens * token_bytes, " bytes of a request"));
    }
    for (const MessageRun& run : message.runs) {
      std::byte* to = out->owned.data() + run.message_token * token_bytes;
      const std::byte* from = rows.data() + run.first_token * token_bytes;
      if (!query_.on_device) {
        std::memcpy(to, from, run.tokens * token_bytes);
      } else if (absl::Status s = device_->CopyNow(to, from, run.tokens * token_bytes); !s.ok()) {
        return s;
      }
    }
    out->payload = out->owned.bytes();
    return absl::OkStatus();
  }

  const float* Lse(const SentMessage& message) const {
    const uint64_t out_bytes = uint64_t{message.tokens} * query_.heads * geometry_.latent_width *
                               OutValueBytes(query_.out_format);
    return reinterpret_cast<const float*>(message.answer.bytes().data() + out_bytes);
  }

  AttendQuery query_;
  const Geometry geometry_;
  ClientDevice* const device_;
  const std::unique_ptr<StreamMark> rows_there_;
  std::unique_ptr<LocalPart> local_;
  const uint32_t tokens_;
  std::vector<Piece> pieces_;  // the query's, then those of each message
  const uint32_t initial_items_;
  const AttendCallback done_;
  std::vector<SentMessage> messages_;
  AttendAnswer answer_;
};

// Where the rows of a query on a device are in its stream.
absl::StatusOr<std::unique_ptr<StreamMark>> MarkRows(const AttendQuery& query,
                                                     ClientDevice* device) {
  if (device == nullptr) {
    return absl::FailedPreconditionError(
        "a query on a device by a client without one (ClientOptions::device)");
  }
  constexpr uintptr_t kAlignment = 8;
  const std::pair<std::string_view, const void*> memory[] = {
      {"rows", query.rows.data()}, {"out", query.out.data()}, {"lse", query.lse.data()}};
  for (const auto& [what, pointer] : memory) {
    if (absl::Status s = device->Check(what, pointer); !s.ok()) return s;
    const bool aligned = reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0;
    if (!aligned && what != "lse") {
      return absl::InvalidArgumentError(absl::StrCat(std::string(what), ": memory of the device, ",
                                                     "expected it aligned to ", kAlignment));
    }
  }
  return device->Mark(query.stream);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakeAttendOperation(const AttendQuery& query,
                                                               const Layout& layout,
                                                               ClientDevice* device,
                                                               ChunkCache* cache,
                                                               AttendCallback done) {
  const Geometry geometry = layout.geometry();
  if (query.heads == 0 || query.heads > kMaxHeads) {
    return absl::InvalidArgumentError(
        absl::StrCat("heads: got ", query.heads, ", expected 1 to ", kMaxHeads));
  }
  if (!std::isfinite(query.scale))
    return absl::InvalidArgumentError("scale: got a value that is not finite");
  if (query.layer >= layout.layers) {
    return absl::OutOfRangeError(
        absl::StrCat("layer: got ", query.layer, ", expected less than ", layout.layers));
  }
  if (absl::Status s = CheckShifts(query.groups, layout); !s.ok()) return s;
  absl::StatusOr<SplitQuery> split = SplitIntoPieces(query.groups);
  if (!split.ok()) return split.status();
  const uint64_t rows = uint64_t{split->tokens} * query.heads;
  if (auto s = CheckSize("rows", query.rows.size(), rows * geometry.row_width()); !s.ok()) return s;
  if (auto s = CheckSize("out", query.out.size(),
                         rows * geometry.latent_width * OutValueBytes(query.out_format));
      !s.ok()) {
    return s;
  }
  if (auto s = CheckSize("lse", query.lse.size(), rows); !s.ok()) return s;
  if (query.use_cache && query.on_device) {
    return absl::FailedPreconditionError(
        "use_cache: the client's pages are host memory, and the query's rows are a device's");
  }
  std::unique_ptr<StreamMark> rows_there;
  if (query.on_device && rows > 0) {
    absl::StatusOr<std::unique_ptr<StreamMark>> mark = MarkRows(query, device);
    if (!mark.ok()) return mark.status();
    rows_there = *std::move(mark);
  }
  std::unique_ptr<LocalPart> local;
  if (query.use_cache && cache != nullptr && rows > 0) {
    absl::StatusOr<std::unique_ptr<LocalPart>> taken =
        LocalPart::Take(query, *cache, &split->pieces);
    if (!taken.ok()) return taken.status();
    local = *std::move(taken);
  }
  return std::make_unique<AttendOperation>(query, geometry, *std::move(split), device,
                                           std::move(rows_there), std::move(local),
                                           std::move(done));
}

}  // namespace latentd
