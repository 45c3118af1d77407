// PIN, RELEASE, STAT and ECHO: answered at once.
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"

namespace latentd {
namespace {

ChunkId IdOf(const wire::IdEntry& entry) { return {.hi = entry.chunk_hi, .lo = entry.chunk_lo}; }

}  // namespace

// All of the chunks or none of them.
void LaneImpl::Pin(LaneRequest& request) {
  const auto& pin = std::get<PinRequest>(request.parsed.body);
  const absl::Time now = SteadyNow();
  const absl::Duration ttl =
      pin.lease_ms == 0 ? options_.default_lease : absl::Milliseconds(pin.lease_ms);
  for (const wire::IdEntry& id : pin.ids) {
    absl::Status s = store_->CheckLease(IdOf(id), request.session->grant.token, ttl);
    if (!s.ok()) return Finish(request, s);
  }
  for (const wire::IdEntry& id : pin.ids) {
    if (absl::Status s = store_->Lease(IdOf(id), request.session->grant.token, ttl, now); !s.ok()) {
      return Finish(request, s);
    }
  }
  Finish(request, absl::OkStatus());
}

// A lease that is over already, with its chunk or without, is as good as released.
void LaneImpl::Release(LaneRequest& request) {
  const absl::Time now = SteadyNow();
  for (const wire::IdEntry& id : std::get<ReleaseRequest>(request.parsed.body).ids) {
    store_->Release(IdOf(id), request.session->grant.token, now);
  }
  Finish(request, absl::OkStatus());
}

void LaneImpl::Stat(LaneRequest& request) {
  const auto& stat = std::get<StatRequest>(request.parsed.body);
  const size_t most =
      (worker_->max_header_bytes() - sizeof(wire::ReplyHeader)) / sizeof(wire::StatEntry);
  if (stat.ids.size() > most) {
    return Finish(request, absl::ResourceExhaustedError(absl::StrCat(
                               "STAT of ", stat.ids.size(), " chunks; a reply holds ", most)));
  }
  const absl::Time now = SteadyNow();
  if ((request.parsed.header.flags & wire::kDoubted) != 0) ScrubSoon(stat.ids, now);
  std::vector<wire::StatEntry> entries;
  entries.reserve(stat.ids.size());
  for (const wire::IdEntry& id : stat.ids) {
    wire::StatEntry entry = {.chunk_hi = id.chunk_hi, .chunk_lo = id.chunk_lo};
    if (const auto info = store_->Stat(IdOf(id), now)) {
      entry.present = 1;
      entry.sealed = info->sealed;
      entry.tokens = info->tokens;
      entry.pages = info->pages;
      entry.checksum = info->checksum;
    }
    entries.push_back(entry);
  }
  BuildStatReply(ReplyTo(request.parsed.header.request_id), entries, &scratch_);
  SendReply(request, wire::Code::kOk);
}

// Sends the payload back, cut or filled up with zeros to the size asked for.
void LaneImpl::Echo(LaneRequest& request) {
  const uint64_t bytes = std::get<EchoRequest>(request.parsed.body).reply_bytes;
  if (bytes <= request.payload.size()) {
    request.reply_payload = request.payload.first(bytes);
    return Finish(request, absl::OkStatus());
  }
  request.reply = buffers_.Take(bytes);
  if (request.reply.empty()) {
    return Finish(request, absl::ResourceExhaustedError(
                               absl::StrCat("no memory for a reply of ", bytes, " bytes")));
  }
  const size_t given = request.payload.size();
  if (given > 0) std::memcpy(request.reply.data(), request.payload.data(), given);
  std::memset(request.reply.data() + given, 0, bytes - given);
  request.reply_payload = request.reply.bytes();
  Finish(request, absl::OkStatus());
}

}  // namespace latentd
