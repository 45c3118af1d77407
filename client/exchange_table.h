// `ExchangeTable` keeps the exchanges of a data path, moves them on by exchange_state.h and forgets
// those that are done.
//
// Every exchange has an id of its own, which is never used again. Answers carry a request id: that
// of the request's first attempt, which is the first exchange's own id. A request that is tried
// again, on the same holder or another, keeps it, and two attempts may be under way at once: who
// gets an answer has to tell them apart by its sender. Data thread only; pointers and references
// are valid until the exchange is done.
#ifndef LATENTD_CLIENT_EXCHANGE_TABLE_H_
#define LATENTD_CLIENT_EXCHANGE_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "client/exchange.h"

namespace latentd {

class ExchangeTable {
 public:
  // A new exchange that waits: another attempt at `request_id`, or, if that is 0, a new request.
  Exchange& Add(Outgoing out, uint64_t request_id = 0);

  // Null: no such exchange, or one that is done.
  Exchange* Find(uint64_t id) const;
  // All attempts at a request that are not done, in order.
  absl::InlinedVector<Exchange*, 2> Attempts(uint64_t request_id) const;
  // For who ends some while walking over all.
  std::vector<uint64_t> ids() const;
  size_t size() const { return exchanges_.size(); }

  struct Moved {
    bool ignored = false;
    std::optional<ExchangeResult> report;
  };
  // After PayloadTaken or Ends the exchange may be gone.
  Moved GoesOut(Exchange& exchange) { return Move(exchange, ExchangeEvent::kGoesOut); }
  Moved PayloadTaken(Exchange& exchange) { return Move(exchange, ExchangeEvent::kPayloadTaken); }
  Moved AnswerBegins(Exchange& exchange) { return Move(exchange, ExchangeEvent::kAnswerBegins); }
  // `result` is kept until it may be reported; of an exchange that has one, it is dropped.
  Moved Ends(Exchange& exchange, ExchangeResult result);

 private:
  Moved Move(Exchange& exchange, ExchangeEvent event);
  void Forget(const Exchange& exchange);

  absl::flat_hash_map<uint64_t, std::unique_ptr<Exchange>> exchanges_;
  // Ids of attempts that are not the first, by request.
  absl::flat_hash_map<uint64_t, absl::InlinedVector<uint64_t, 2>> later_;
  uint64_t next_id_ = 1;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_EXCHANGE_TABLE_H_
