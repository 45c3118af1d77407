#include "client/exchange_table.h"

namespace latentd {

Exchange& ExchangeTable::Add(Outgoing out, uint64_t reuse_id) {
  auto owned = std::make_unique<Exchange>();
  Exchange& exchange = *owned;
  exchange.id = reuse_id != 0 && !exchanges_.contains(reuse_id) ? reuse_id : next_id_++;
  exchange.serial = next_serial_++;
  exchange.out = std::move(out);
  exchanges_[exchange.id] = std::move(owned);
  return exchange;
}

Exchange* ExchangeTable::Find(uint64_t id) const {
  const auto found = exchanges_.find(id);
  return found == exchanges_.end() ? nullptr : found->second.get();
}

Exchange* ExchangeTable::Find(uint64_t id, uint64_t serial) const {
  Exchange* exchange = Find(id);
  return exchange == nullptr || exchange->serial != serial ? nullptr : exchange;
}

std::vector<std::pair<uint64_t, uint64_t>> ExchangeTable::ids() const {
  std::vector<std::pair<uint64_t, uint64_t>> ids;
  for (const auto& [id, exchange] : exchanges_) ids.emplace_back(id, exchange->serial);
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
  if (step.next == ExchangeState::kDone) exchanges_.erase(exchange.id);
  return moved;
}

}  // namespace latentd
