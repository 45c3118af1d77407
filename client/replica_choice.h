// Which of the in-sync holders of a slot to ask, by how busy they are: power of two choices between
// the first that may be asked (the primary, while it is well) and one of the others.
//
// What a lane's answers report (how long the request waited, how long its batch was computed, what
// waits there now) is kept as an average that fades: after a second or two of silence nothing is
// held against a lane any more, so that it is tried again. This client's own requests in flight
// there weigh on top, since no report knows of them yet.
//
// A holder that is not clearly better does not take the place of the first: rows of different
// requesters that attend one chunk are cheaper in one batch of one holder.
//
// Pure: time and randomness come in as arguments. Not synchronised.
#ifndef LATENTD_CLIENT_REPLICA_CHOICE_H_
#define LATENTD_CLIENT_REPLICA_CHOICE_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace latentd {

// As the header of an answer has it; see transport/wire.h.
struct LoadReport {
  uint64_t queue_ns = 0;
  uint64_t compute_ns = 0;
  uint32_t batch_rows = 0;
  uint32_t lane_rows_queued = 0;
};

// What the next request to that lane would take there: as long as this one, and its share of the
// work that waits.
uint64_t ExpectedNs(const LoadReport& report);

// One lane of one holder.
class LaneLoad {
 public:
  void OnSent() { ++in_flight_; }
  // REQUIRES: a matching OnSent.
  void OnSettled() { --in_flight_; }
  void OnReport(uint64_t expected_ns, uint64_t now_ns);

  bool reported() const { return reported_; }
  uint32_t in_flight() const { return in_flight_; }
  // The faded average. 0 of a lane that has reported nothing.
  uint64_t AverageNs(uint64_t now_ns) const;
  // Of one more request.
  uint64_t CostNs(uint64_t now_ns) const;

 private:
  bool reported_ = false;
  uint32_t in_flight_ = 0;
  uint64_t average_ns_ = 0;
  uint64_t at_ns_ = 0;
};

// An index into `loads`, which are in the order of the table; null is a lane that was never spoken
// with. While none has reported anything it is 0. REQUIRES: at least one.
size_t ChooseReplica(std::span<const LaneLoad* const> loads, uint64_t now_ns, uint64_t random);

}  // namespace latentd

#endif  // LATENTD_CLIENT_REPLICA_CHOICE_H_
