// PUBLISH, SEAL, FETCH: records come in and go out. Copies are made on the lane's thread: a payload
// is bounded, and copying it takes less time than it took to come.
#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"

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
  Finish(request, Judge(store_->Publish(IdOf(range), RangeOf(range), request.payload,
                                        request.session->grant.token, SteadyNow())));
}

void LaneImpl::Seal(LaneRequest& request) {
  const wire::SealBody& seal = std::get<SealRequest>(request.parsed.body).seal;
  Finish(request, store_->Seal({.hi = seal.chunk_hi, .lo = seal.chunk_lo}, seal.tokens,
                               seal.checksum, SteadyNow()));
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
