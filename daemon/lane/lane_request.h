// A request that was admitted, until its reply has left the lane.
//
//     receiving   its payload is coming by rendezvous into `received`
//     computing   in the engine; the chunks it reads are pinned
//     forwarding  the store has what it brought; the slot's other nodes are being given it
//     replying    UCX has the reply
//
// UCX, a backend or a replica sink may be at work in its buffers in every stage, so a request whose session ends
// is only marked `dropped`, and goes when that is over.
//
// Lane thread only.
#ifndef LATENTD_DAEMON_LANE_LANE_REQUEST_H_
#define LATENTD_DAEMON_LANE_LANE_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/time/time.h"
#include "daemon/lane/lane_session.h"
#include "daemon/store/latent_store.h"
#include "kernels/mla.h"
#include "transport/payload_pool.h"
#include "transport/wire.h"
#include "transport/wire_parse.h"
#include "transport/worker.h"

namespace latentd {

struct LaneRequest {
  enum class Stage : uint8_t { kReceiving, kComputing, kForwarding, kReplying };

  uint64_t serial = 0;  // unique in the lane; names it to the engine and in callbacks
  std::shared_ptr<LaneSession> session;
  ParsedRequest parsed;
  absl::Time arrival;
  absl::Time deadline;
  uint64_t admitted_bytes = 0;
  Stage stage = Stage::kReceiving;
  bool dropped = false;

  IncomingMessage message;  // owns an eager payload
  PayloadBuffer received;
  std::span<const std::byte> payload;  // in `message` or in `received`
  PayloadBuffer reply;
  std::span<const std::byte> reply_payload;

  // ATTEND.
  std::vector<Group> groups;
  std::vector<Segment> segments;
  std::vector<ChunkPin> pins;
  std::vector<wire::MissingEntry> missing;
  uint64_t queue_ns = 0;
  uint64_t compute_ns = 0;
  uint32_t batch_rows = 0;

  // Makes it as new, but keeps the capacity of its lists.
  void Clear() {
    session.reset();
    dropped = false;
    stage = Stage::kReceiving;
    payload = {};
    reply_payload = {};
    message = IncomingMessage();
    received.Reset();
    reply.Reset();
    groups.clear();
    segments.clear();
    pins.clear();
    missing.clear();
    queue_ns = compute_ns = 0;
    batch_rows = 0;
  }
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_REQUEST_H_
