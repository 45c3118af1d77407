// The life of one request to a lane, from the queue to the moment when nobody holds anything of it
// any more. Two things end it, in either order: its answer (or failure), and UCX letting go of the
// memory that it sends from. The result of a request that is sent from the caller's own memory is
// held back until UCX has let go; then the caller may do with the memory what it likes.
//
//                    kGoesOut    kPayloadTaken   kAnswerBegins        kEnds
//     waiting        sending     -               -                    done, report
//     sending        -           sent            sending_receiving    held_back, or
//                                                                     draining, report
//     sent           -           -               receiving            done, report
//     sending_       -           receiving       -                    held_back, or
//       receiving                                                     draining, report
//     receiving      -           -               -                    done, report
//     held_back      -           done, report    -                    -
//     draining       -           done            -                    -
//     done           -           -               -                    -
//
// held_back where it lends the caller's memory, draining where it does not; "-" is an event that
// comes too late, or twice, and changes nothing. Pure; any thread.
#ifndef LATENTD_CLIENT_EXCHANGE_STATE_H_
#define LATENTD_CLIENT_EXCHANGE_STATE_H_

#include <cstdint>

namespace latentd {

enum class ExchangeState : uint8_t {
  kWaiting,           // in its link's queue
  kSending,           // UCX reads the payload; no answer yet
  kSent,              // no answer yet
  kSendingReceiving,  // UCX reads the payload, and the answer's payload is on its way
  kReceiving,
  kHeldBack,  // has its result; UCX still reads the caller's memory
  kDraining,  // reported; UCX still reads memory of ours
  kDone,
};

enum class ExchangeEvent : uint8_t {
  kGoesOut,       // handed to UCX
  kPayloadTaken,  // UCX lets go of the memory, whatever became of it
  kAnswerBegins,  // its payload has to be waited for
  kEnds,          // there is a result: an answer, a failure, or nobody wants one any more
};

struct ExchangeStep {
  ExchangeState next;
  bool report;   // the result goes out now, once for each exchange
  bool ignored;  // "-" in the table
};

// `lends`: the payload lies in the caller's memory.
ExchangeStep StepExchange(ExchangeState state, ExchangeEvent event, bool lends);

// It was sent and has no result: it occupies the session's window, and its link owes an answer.
bool IsInFlight(ExchangeState state);
bool IsReadByUcx(ExchangeState state);

}  // namespace latentd

#endif  // LATENTD_CLIENT_EXCHANGE_STATE_H_
