// PUBLISH, SEAL, FETCH: records come in and go out. Copies are made on the lane's thread: a payload
// is bounded, and copying it takes less time than it took to come.
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

ChunkId IdOf(const wire::RangeBody& body) { return {.hi = body.chunk_hi, .lo = body.chunk_lo}; }

RecordRange RangeOf(const wire::RangeBody& body) {
  return {.first_layer = body.first_layer,
          .layers = body.layers,
          .first_token = body.first_token,
          .tokens = body.tokens};
}

}  // namespace

void LaneImpl::Publish(LaneRequest& request) {
  const wire::RangeBody& range = std::get<PublishRequest>(request.parsed.body).range;
  if (absl::Status s = CheckPayload(request); !s.ok()) return Finish(request, s);
  YieldTrial();
  // What a primary passes on is the node's, not that of the session by which it came.
  const SessionToken publisher =
      request.parsed.replica() ? kNodeSession : request.session->grant.token;
  const absl::Status s =
      Judge(store_->Publish(IdOf(range), RangeOf(range), request.payload, publisher, SteadyNow()));
  if (!s.ok() || request.parsed.replica()) return Finish(request, s);
  ReplicaWrite write;
  write.kind = ReplicaWrite::Kind::kPublish;
  write.chunk = IdOf(range);
  write.range = RangeOf(range);
  write.records = request.payload;
  Replicate(request, std::move(write));
}

absl::Status LaneImpl::CheckPayload(const LaneRequest& request) {
  const wire::RequestHeader& header = request.parsed.header;
  if ((header.flags & wire::kPayloadChecksum) == 0) return absl::OkStatus();
  const uint64_t arrived = PayloadChecksum(request.payload);
  if (arrived == header.payload_checksum) return absl::OkStatus();
  stats_.corrupt_payloads.Add();
  const wire::RangeBody& range = std::get<PublishRequest>(request.parsed.body).range;
  return absl::DataLossError(
      absl::StrCat("chunk ", ToString(IdOf(range)), ", layers ", range.first_layer, " to ",
                   range.first_layer + range.layers - 1, ", tokens ", range.first_token, " to ",
                   range.first_token + range.tokens - 1, ": the payload came with checksum ",
                   absl::Hex(arrived, absl::kZeroPad16), ", was sent with ",
                   absl::Hex(header.payload_checksum, absl::kZeroPad16)));
}

void LaneImpl::Seal(LaneRequest& request) {
  const wire::SealBody& seal = std::get<SealRequest>(request.parsed.body).seal;
  const ChunkId id = {.hi = seal.chunk_hi, .lo = seal.chunk_lo};
  const absl::Status s = store_->Seal(id, seal.tokens, seal.checksum, SteadyNow());
  if (!s.ok() || request.parsed.replica()) return Finish(request, s);
  ReplicaWrite write;
  write.kind = ReplicaWrite::Kind::kSeal;
  write.chunk = id;
  write.tokens = seal.tokens;
  write.checksum = seal.checksum;
  Replicate(request, std::move(write));
}

void LaneImpl::Fetch(LaneRequest& request) {
  const wire::RangeBody& range = std::get<FetchRequest>(request.parsed.body).range;
  const auto bytes = store_->FetchBytes(IdOf(range), RangeOf(range));
  if (!bytes.ok()) return Finish(request, bytes.status());
  request.reply = buffers_.Take(*bytes);
  if (request.reply.empty()) {
    return Finish(request, absl::ResourceExhaustedError(
                               absl::StrCat("no memory for a reply of ", *bytes, " bytes")));
  }
  request.reply_payload = request.reply.bytes();
  Finish(request,
         Judge(store_->Fetch(IdOf(range), RangeOf(range), request.reply.bytes(), SteadyNow())));
}

}  // namespace latentd
