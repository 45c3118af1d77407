// `Operation` is one call of the user: what to ask, of whom, and what to do with the answers. The
// dispatcher places its items on holders, sends, tries again where that is allowed, and ends it.
// Data thread only.
//
// An item is the smallest part of a call that has one holder: a piece of a query, a range of
// records, a chunk id. Items are numbered by the operation and stay as they are; splitting makes
// new ones.
#ifndef LATENTD_CLIENT_OPERATION_H_
#define LATENTD_CLIENT_OPERATION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/exchange.h"
#include "client/query.h"
#include "client/session_info.h"
#include "routing/ids.h"
#include "transport/payload_pool.h"

namespace latentd {

using Items = absl::InlinedVector<uint32_t, 8>;

// Where items go.
struct Target {
  const SessionInfo& session;
  uint32_t lane;
  size_t max_header_bytes;
  PayloadPool& pool;
};

// Which of a slot's in-sync holders an operation goes to.
enum class Placement : uint8_t {
  kPrimary,      // what changes a chunk: the primary passes it on
  kAnyHolder,    // what reads
  kEveryHolder,  // leases, which each holder keeps for itself
};

// A message for some of the items.
struct Built {
  Outgoing out;
  Items items;
  uint32_t tag = 0;  // the operation's own
};

class Operation {
 public:
  virtual ~Operation() = default;

  // Items 0 to initial_items() - 1 are what the call consists of; with none it is done at once.
  virtual uint32_t initial_items() const = 0;
  virtual Slot SlotOf(uint32_t item) const = 0;
  virtual Placement placement() const = 0;
  // Whether it is worth a second request to be answered sooner; see hedging.h.
  virtual bool worth_hedging() const { return false; }
  // The one holder that will do, whatever the table says; null for all but measurements.
  virtual const Holder* fixed_holder() const { return nullptr; }

  // Whether what it sends is there by now; asked in every turn until it is. An error ends the call.
  virtual absl::StatusOr<bool> Ready() { return true; }
  // Whether the call has something to do here as well, beside what it asks of holders.
  virtual bool works_here() const { return false; }
  // A bounded piece of that; true once all is done. Asked in every turn until then, with `ended`
  // set when nobody waits for the outcome any more. An error, which is the last that is heard of
  // it, ends the call.
  virtual absl::StatusOr<bool> Work(bool ended) {
    static_cast<void>(ended);
    return true;
  }
  // Makes messages that stand for exactly `items`, within the target's limits.
  virtual absl::Status Build(const Target& target, std::span<const uint32_t> items,
                             std::vector<Built>* built) = 0;
  // Takes an OK answer. An error ends the call.
  virtual absl::Status OnAnswer(std::span<const uint32_t> items, uint32_t tag, bool retried,
                                ExchangeResult result) = 0;
  // Whether the call can do without the items, which failed for good with `status`; of leases, at
  // one of the holders.
  virtual bool Tolerates(std::span<const uint32_t> items, const absl::Status& status) {
    static_cast<void>(items);
    static_cast<void>(status);
    return false;
  }
  // The end: runs the user's callback.
  virtual void Finish(absl::Status status) = 0;

  // Traffic of all attempts.
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_OPERATION_H_
