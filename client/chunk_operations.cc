#include "client/chunk_operations.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/range_body.h"
#include "client/slices.h"
#include "transport/record_checksum.h"
#include "transport/wire_build.h"

namespace latentd {
namespace {

// PUBLISH and FETCH: items are slices of the range; slice 0 is the whole, placed and then cut to
// the holder's limits.
class RangeOperation : public Operation {
 public:
  RangeOperation(const ChunkRange& range, uint64_t record_bytes, DoneCallback done)
      : record_bytes_(record_bytes),
        slices_{{.range = range,
                 .offset_bytes = 0,
                 .bytes = range.layers * range.tokens * record_bytes}},
        done_(std::move(done)) {}

  uint32_t initial_items() const override { return 1; }
  Slot SlotOf(uint32_t item) const override { return slices_[item].range.chunk.slot(); }

  absl::Status Build(const Target& target, std::span<const uint32_t> items,
                     std::vector<Built>* built) override {
    for (const uint32_t item : items) {
      const Slice whole = slices_[item];
      for (Slice& slice :
           SliceRange(whole.range, record_bytes_, MostBytes(target.session.limits))) {
        slice.offset_bytes += whole.offset_bytes;
        Built out;
        out.items.push_back(static_cast<uint32_t>(slices_.size()));
        Fill(slice, &out.out);
        slices_.push_back(slice);
        built->push_back(std::move(out));
      }
    }
    return absl::OkStatus();
  }

  absl::Status OnAnswer(std::span<const uint32_t>, uint32_t, bool, ExchangeResult) override {
    return absl::OkStatus();
  }
  void Finish(absl::Status status) override { done_(std::move(status)); }

 protected:
  virtual void Fill(const Slice& slice, Outgoing* out) const = 0;
  // Of one slice.
  virtual uint64_t MostBytes(const SessionLimits& limits) const {
    return limits.payload_bytes_per_request;
  }

  const uint64_t record_bytes_;
  std::vector<Slice> slices_;
  const DoneCallback done_;
};

class PublishOperation final : public RangeOperation {
 public:
  PublishOperation(const ChunkRange& range, uint64_t record_bytes,
                   std::span<const std::byte> records, DoneCallback done)
      : RangeOperation(range, record_bytes, std::move(done)), records_(records) {}

  Placement placement() const override { return Placement::kPrimary; }

 protected:
  uint64_t MostBytes(const SessionLimits& limits) const override {
    return std::min(limits.payload_bytes_per_request, limits.publish_bytes_per_request);
  }

 private:
  void Fill(const Slice& slice, Outgoing* out) const override {
    out->opcode = wire::Opcode::kPublish;
    out->payload = records_.subspan(slice.offset_bytes, slice.bytes);
    BuildPublish(
        {.flags = wire::kPayloadChecksum, .payload_checksum = PayloadChecksum(out->payload)},
        BodyOf(slice.range), &out->header);
  }

  const std::span<const std::byte> records_;
};

class FetchOperation final : public RangeOperation {
 public:
  FetchOperation(const ChunkRange& range, uint64_t record_bytes, std::span<std::byte> records,
                 DoneCallback done)
      : RangeOperation(range, record_bytes, std::move(done)), records_(records) {}

  Placement placement() const override { return Placement::kAnyHolder; }
  absl::Status OnAnswer(std::span<const uint32_t> items, uint32_t, bool,
                        ExchangeResult result) override {
    const Slice& slice = slices_[items[0]];
    std::memcpy(records_.data() + slice.offset_bytes, result.payload.bytes().data(), slice.bytes);
    return absl::OkStatus();
  }

 private:
  void Fill(const Slice& slice, Outgoing* out) const override {
    out->opcode = wire::Opcode::kFetch;
    out->reply_payload_bytes = slice.bytes;
    BuildFetch({}, BodyOf(slice.range), &out->header);
  }

  const std::span<std::byte> records_;
};

class SealOperation final : public Operation {
 public:
  SealOperation(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, DoneCallback done)
      : body_{.chunk_hi = chunk.hi,
              .chunk_lo = chunk.lo,
              .checksum = checksum,
              .tokens = tokens,
              .reserved = 0},
        slot_(chunk.slot()),
        done_(std::move(done)) {}

  uint32_t initial_items() const override { return 1; }
  Slot SlotOf(uint32_t) const override { return slot_; }
  Placement placement() const override { return Placement::kPrimary; }
  absl::Status Build(const Target&, std::span<const uint32_t>, std::vector<Built>* built) override {
    Built out;
    out.items.push_back(0);
    out.out.opcode = wire::Opcode::kSeal;
    BuildSeal({}, body_, &out.out.header);
    built->push_back(std::move(out));
    return absl::OkStatus();
  }
  absl::Status OnAnswer(std::span<const uint32_t>, uint32_t, bool, ExchangeResult) override {
    return absl::OkStatus();
  }
  void Finish(absl::Status status) override { done_(std::move(status)); }

 private:
  const wire::SealBody body_;
  const Slot slot_;
  const DoneCallback done_;
};

// PIN, RELEASE and STAT: items are ids.
class IdsOperation final : public Operation {
 public:
  IdsOperation(wire::Opcode opcode, std::span<const ChunkId> chunks, uint32_t lease_ms,
               StatCallback done)
      : opcode_(opcode),
        chunks_(chunks.begin(), chunks.end()),
        lease_ms_(lease_ms),
        done_(std::move(done)) {
    if (opcode == wire::Opcode::kStat) {
      stats_.resize(chunks_.size());
    } else {
      leases_.resize(chunks_.size());
    }
  }

  uint32_t initial_items() const override { return static_cast<uint32_t>(chunks_.size()); }
  Slot SlotOf(uint32_t item) const override { return chunks_[item].slot(); }
  Placement placement() const override {
    return opcode_ == wire::Opcode::kStat ? Placement::kAnyHolder : Placement::kEveryHolder;
  }

  absl::Status Build(const Target& target, std::span<const uint32_t> items,
                     std::vector<Built>* built) override {
    const uint64_t fixed = sizeof(wire::RequestHeader) + sizeof(wire::IdListBody);
    const uint64_t room = target.max_header_bytes > fixed ? target.max_header_bytes - fixed : 0;
    // STAT's reply is longer than its request.
    const uint64_t most =
        std::clamp<uint64_t>(room / sizeof(wire::StatEntry), 1,
                             std::max<uint32_t>(target.session.limits.chunks_per_request, 1));
    while (!items.empty()) {
      const std::span<const uint32_t> some = items.first(std::min<size_t>(items.size(), most));
      items = items.subspan(some.size());
      Built out;
      out.items.assign(some.begin(), some.end());
      out.out.opcode = opcode_;
      std::vector<wire::IdEntry> ids;
      for (const uint32_t item : some) ids.push_back({chunks_[item].hi, chunks_[item].lo});
      if (opcode_ == wire::Opcode::kPin) BuildPin({}, lease_ms_, ids, &out.out.header);
      if (opcode_ == wire::Opcode::kRelease) BuildRelease({}, ids, &out.out.header);
      if (opcode_ == wire::Opcode::kStat) BuildStat({}, ids, &out.out.header);
      built->push_back(std::move(out));
    }
    return absl::OkStatus();
  }

  absl::Status OnAnswer(std::span<const uint32_t> items, uint32_t, bool,
                        ExchangeResult result) override {
    if (opcode_ != wire::Opcode::kStat) {
      for (const uint32_t item : items) leases_[item].done = true;
      return absl::OkStatus();
    }
    const auto& reply = std::get<StatReply>(result.body);  // one entry for each id: it was checked
    for (size_t i = 0; i < items.size(); ++i) {
      const wire::StatEntry& entry = reply.entries[i];
      stats_[items[i]] = {.id = {entry.chunk_hi, entry.chunk_lo},
                          .present = entry.present != 0,
                          .sealed = entry.sealed != 0,
                          .tokens = entry.tokens,
                          .pages = entry.pages,
                          .checksum = entry.checksum};
      if (stats_[items[i]].id != chunks_[items[i]]) {
        return absl::InternalError(
            absl::StrCat("node ", result.node, " answered for another chunk"));
      }
    }
    return absl::OkStatus();
  }

  // A holder that is not there, or has lost the chunk, keeps no lease and needs none.
  bool Tolerates(std::span<const uint32_t> items, const absl::Status& status) override {
    if (opcode_ == wire::Opcode::kStat) return false;
    if (!absl::IsUnavailable(status) && !absl::IsNotFound(status)) return false;
    for (const uint32_t item : items) {
      absl::Status& said = leases_[item].failed;
      if (said.ok() || absl::IsUnavailable(status)) said = status;
    }
    return true;
  }

  void Finish(absl::Status status) override {
    for (size_t i = 0; i < leases_.size() && status.ok(); ++i) {
      if (leases_[i].done) continue;
      status = !leases_[i].failed.ok()
                   ? leases_[i].failed
                   : absl::UnavailableError(
                         absl::StrCat("chunk ", ToString(chunks_[i]), ": no holder was asked"));
    }
    if (!status.ok()) {
      done_(std::move(status));
    } else {
      done_(std::move(stats_));
    }
  }

 private:
  // Of one chunk: some holder did as it was told; what a holder that could not said.
  struct Lease {
    bool done = false;
    absl::Status failed;
  };

  const wire::Opcode opcode_;
  const std::vector<ChunkId> chunks_;
  const uint32_t lease_ms_;
  const StatCallback done_;
  std::vector<ChunkStat> stats_;  // STAT
  std::vector<Lease> leases_;     // PIN and RELEASE
};

class EchoOperation final : public Operation {
 public:
  EchoOperation(Holder holder, std::span<const std::byte> payload, uint64_t reply_bytes,
                EchoCallback done)
      : holder_(std::move(holder)),
        payload_(payload),
        reply_bytes_(reply_bytes),
        done_(std::move(done)) {}

  uint32_t initial_items() const override { return 1; }
  Slot SlotOf(uint32_t) const override { return Slot{}; }
  Placement placement() const override { return Placement::kPrimary; }
  const Holder* fixed_holder() const override { return &holder_; }
  absl::Status Build(const Target&, std::span<const uint32_t>, std::vector<Built>* built) override {
    Built out;
    out.items.push_back(0);
    out.out.opcode = wire::Opcode::kEcho;
    out.out.payload = payload_;
    out.out.reply_payload_bytes = reply_bytes_;
    BuildEcho({}, reply_bytes_, &out.out.header);
    built->push_back(std::move(out));
    return absl::OkStatus();
  }
  absl::Status OnAnswer(std::span<const uint32_t>, uint32_t, bool retried,
                        ExchangeResult result) override {
    timing_ = {.node = result.node,
               .lane = result.lane,
               .queue_ns = result.header.queue_ns,
               .rtt_ns = result.rtt_ns,
               .bytes_sent = result.bytes_sent,
               .bytes_received = result.bytes_received,
               .retried = retried};
    return absl::OkStatus();
  }
  void Finish(absl::Status status) override {
    if (!status.ok()) {
      done_(std::move(status));
    } else {
      done_(std::move(timing_));
    }
  }

 private:
  const Holder holder_;
  const std::span<const std::byte> payload_;
  const uint64_t reply_bytes_;
  const EchoCallback done_;
  HolderTiming timing_;
};

class FailedOperation final : public Operation {
 public:
  FailedOperation(absl::Status status, DoneCallback done)
      : status_(std::move(status)), done_(std::move(done)) {}

  uint32_t initial_items() const override { return 0; }
  Slot SlotOf(uint32_t) const override { return Slot{}; }
  Placement placement() const override { return Placement::kPrimary; }
  absl::Status Build(const Target&, std::span<const uint32_t>, std::vector<Built>*) override {
    return status_;
  }
  absl::Status OnAnswer(std::span<const uint32_t>, uint32_t, bool, ExchangeResult) override {
    return status_;
  }
  void Finish(absl::Status) override { done_(status_); }

 private:
  const absl::Status status_;
  const DoneCallback done_;
};

absl::Status CheckRange(const ChunkRange& range, uint64_t bytes, const Layout& layout) {
  if (range.layers == 0 || range.tokens == 0) {
    return absl::InvalidArgumentError(absl::StrCat("range: got ", range.layers, " layers of ",
                                                   range.tokens,
                                                   " tokens, expected at least one of each"));
  }
  if (uint64_t{range.first_layer} + range.layers > layout.layers) {
    return absl::OutOfRangeError(absl::StrCat("layers: got ", range.first_layer, " to ",
                                              uint64_t{range.first_layer} + range.layers - 1,
                                              ", the layout has ", layout.layers));
  }
  if (uint64_t{range.first_token} + range.tokens > std::numeric_limits<uint32_t>::max()) {
    return absl::OutOfRangeError("tokens: beyond what 32 bits count");
  }
  // Both factors are below 2^32 and a record is small: 64 bits are enough once tokens of one layer
  // are checked.
  const unsigned __int128 expected =
      static_cast<unsigned __int128>(range.layers) * range.tokens * layout.record_bytes();
  if (expected != bytes) {
    return absl::InvalidArgumentError(absl::StrCat("records: got ", bytes, " bytes, expected ",
                                                   range.layers, " layers x ", range.tokens,
                                                   " tokens x ", layout.record_bytes()));
  }
  return absl::OkStatus();
}

absl::Status CheckIds(std::span<const ChunkId> chunks) {
  if (chunks.empty()) return absl::InvalidArgumentError("chunks: got none, expected at least 1");
  return absl::OkStatus();
}

StatCallback WithoutStats(DoneCallback done) {
  return [done = std::move(done)](const absl::StatusOr<std::vector<ChunkStat>>& stats) {
    done(stats.status());
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<Operation>> MakePublish(const ChunkRange& range,
                                                       std::span<const std::byte> records,
                                                       const Layout& layout, DoneCallback done) {
  if (auto s = CheckRange(range, records.size(), layout); !s.ok()) return s;
  return std::make_unique<PublishOperation>(range, layout.record_bytes(), records, std::move(done));
}

absl::StatusOr<std::unique_ptr<Operation>> MakeFetch(const ChunkRange& range,
                                                     std::span<std::byte> records,
                                                     const Layout& layout, DoneCallback done) {
  if (auto s = CheckRange(range, records.size(), layout); !s.ok()) return s;
  return std::make_unique<FetchOperation>(range, layout.record_bytes(), records, std::move(done));
}

absl::StatusOr<std::unique_ptr<Operation>> MakeSeal(const ChunkId& chunk, uint32_t tokens,
                                                    uint64_t checksum, DoneCallback done) {
  if (tokens == 0) return absl::InvalidArgumentError("tokens: got 0, expected at least 1");
  return std::make_unique<SealOperation>(chunk, tokens, checksum, std::move(done));
}

absl::StatusOr<std::unique_ptr<Operation>> MakePin(std::span<const ChunkId> chunks,
                                                   absl::Duration lease, DoneCallback done) {
  if (auto s = CheckIds(chunks); !s.ok()) return s;
  const int64_t ms = absl::ToInt64Milliseconds(lease);
  if (ms < 1 || ms > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("lease: got ", absl::FormatDuration(lease), ", expected at least 1 ms"));
  }
  return std::make_unique<IdsOperation>(wire::Opcode::kPin, chunks, static_cast<uint32_t>(ms),
                                        WithoutStats(std::move(done)));
}

absl::StatusOr<std::unique_ptr<Operation>> MakeRelease(std::span<const ChunkId> chunks,
                                                       DoneCallback done) {
  if (auto s = CheckIds(chunks); !s.ok()) return s;
  return std::make_unique<IdsOperation>(wire::Opcode::kRelease, chunks, 0,
                                        WithoutStats(std::move(done)));
}

absl::StatusOr<std::unique_ptr<Operation>> MakeStat(std::span<const ChunkId> chunks,
                                                    StatCallback done) {
  if (auto s = CheckIds(chunks); !s.ok()) return s;
  return std::make_unique<IdsOperation>(wire::Opcode::kStat, chunks, 0, std::move(done));
}

absl::StatusOr<std::unique_ptr<Operation>> MakeEcho(const Holder& holder,
                                                    std::span<const std::byte> payload,
                                                    uint64_t reply_bytes, EchoCallback done) {
  if (holder.node.empty()) return absl::InvalidArgumentError("holder: no node");
  return std::make_unique<EchoOperation>(holder, payload, reply_bytes, std::move(done));
}

std::unique_ptr<Operation> MakeFailed(absl::Status status, DoneCallback done) {
  return std::make_unique<FailedOperation>(std::move(status), std::move(done));
}

}  // namespace latentd
