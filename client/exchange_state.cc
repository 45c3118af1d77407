#include "client/exchange_state.h"

namespace latentd {
namespace {

using State = ExchangeState;
using Event = ExchangeEvent;

constexpr ExchangeStep Go(State next) { return {next, false, false}; }
constexpr ExchangeStep Report(State next) { return {next, true, false}; }

}  // namespace

ExchangeStep StepExchange(State state, Event event, bool lends) {
  const ExchangeStep ignored = {state, false, true};
  switch (event) {
    case Event::kGoesOut:
      return state == State::kWaiting ? Go(State::kSending) : ignored;
    case Event::kPayloadTaken:
      switch (state) {
        case State::kSending:
          return Go(State::kSent);
        case State::kSendingReceiving:
          return Go(State::kReceiving);
        case State::kHeldBack:
          return Report(State::kDone);
        case State::kDraining:
          return Go(State::kDone);
        default:
          return ignored;
      }
    case Event::kAnswerBegins:
      if (state == State::kSending) return Go(State::kSendingReceiving);
      return state == State::kSent ? Go(State::kReceiving) : ignored;
    case Event::kEnds:
      switch (state) {
        case State::kSending:
        case State::kSendingReceiving:
          return lends ? Go(State::kHeldBack) : Report(State::kDraining);
        case State::kWaiting:
        case State::kSent:
        case State::kReceiving:
          return Report(State::kDone);
        default:
          return ignored;
      }
  }
  return ignored;
}

bool IsInFlight(State state) {
  return state == State::kSending || state == State::kSent || state == State::kSendingReceiving ||
         state == State::kReceiving;
}

bool IsReadByUcx(State state) {
  return state == State::kSending || state == State::kSendingReceiving ||
         state == State::kHeldBack || state == State::kDraining;
}

}  // namespace latentd
