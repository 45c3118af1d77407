// `ExchangeTable` keeps the exchanges of a data path under the ids that their answers carry, moves
// them on by exchange_state.h and forgets those that are done.
//
// An id may stand for several exchanges in turn: a request that is tried again keeps it. Answers
// find an exchange by its id alone; what UCX calls back finds it by its serial as well, which is
// never used again. Data thread only; pointers and references are valid until the exchange is done.
#ifndef LATENTD_CLIENT_EXCHANGE_TABLE_H_
#define LATENTD_CLIENT_EXCHANGE_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/exchange.h"

namespace latentd {

class ExchangeTable {
 public:
  // A new exchange that waits. It takes `reuse_id`, if that is not 0, unless an exchange has it
  // still: an earlier attempt that UCX is still sending.
  Exchange& Add(Outgoing out, uint64_t reuse_id = 0);

  // Null: no such exchange, or one that is done.
  Exchange* Find(uint64_t id) const;
  Exchange* Find(uint64_t id, uint64_t serial) const;
  // (id, serial) of each: for who ends some while walking over all.
  std::vector<std::pair<uint64_t, uint64_t>> ids() const;
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

  absl::flat_hash_map<uint64_t, std::unique_ptr<Exchange>> exchanges_;
  uint64_t next_id_ = 1;
  uint64_t next_serial_ = 1;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_EXCHANGE_TABLE_H_
