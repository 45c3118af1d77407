#include "client/exchange_table.h"

#include <algorithm>
#include <utility>

namespace latentd {

Exchange& ExchangeTable::Add(Outgoing out, uint64_t request_id) {
  auto owned = std::make_unique<Exchange>();
  Exchange& exchange = *owned;
  exchange.id = next_id_++;
  exchange.request_id = request_id != 0 ? request_id : exchange.id;
  exchange.out = std::move(out);
  if (request_id != 0) later_[request_id].push_back(exchange.id);
  exchanges_[exchange.id] = std::move(owned);
  return exchange;
}

Exchange* ExchangeTable::Find(uint64_t id) const {
  const auto found = exchanges_.find(id);
  return found == exchanges_.end() ? nullptr : found->second.get();
}

absl::InlinedVector<Exchange*, 2> ExchangeTable::Attempts(uint64_t request_id) const {
  absl::InlinedVector<Exchange*, 2> attempts;
  if (Exchange* first = Find(request_id); first != nullptr && first->request_id == request_id)
    attempts.push_back(first);
  if (later_.empty()) return attempts;
  if (const auto later = later_.find(request_id); later != later_.end()) {
    for (const uint64_t id : later->second) attempts.push_back(Find(id));
  }
  return attempts;
}

std::vector<uint64_t> ExchangeTable::ids() const {
  std::vector<uint64_t> ids;
  for (const auto& [id, exchange] : exchanges_) ids.push_back(id);
  return ids;
}

ExchangeTable::Moved ExchangeTable::Ends(Exchange& exchange, ExchangeResult result) {
  if (StepExchange(exchange.state, ExchangeEvent::kEnds, exchange.lends()).ignored) {
    return {.ignored = true};
  }
  exchange.result = std::move(result);
  return Move(exchange, ExchangeEvent::kEnds);
}

ExchangeTable::Moved ExchangeTable::Move(Exchange& exchange, ExchangeEvent event) {
  const ExchangeStep step = StepExchange(exchange.state, event, exchange.lends());
  exchange.state = step.next;
  Moved moved{.ignored = step.ignored};
  if (step.report) moved.report = std::move(exchange.result);
  if (step.next == ExchangeState::kDone) Forget(exchange);
  return moved;
}

void ExchangeTable::Forget(const Exchange& exchange) {
  if (exchange.request_id != exchange.id) {
    const auto later = later_.find(exchange.request_id);
    auto& ids = later->second;
    ids.erase(std::find(ids.begin(), ids.end(), exchange.id));
    if (ids.empty()) later_.erase(later);
  }
  exchanges_.erase(exchange.id);
}

}  // namespace latentd
