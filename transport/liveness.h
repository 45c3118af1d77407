// Decides when a peer that says nothing is asked whether it is alive, and when it counts as dead
// although its connection lives: a process that hangs or is stopped, a host that vanished from a
// network that does not tell.
//
// A pure state machine: time is an argument, nothing is sent. The owner tells it what it hears and
// sends, calls Tick now and then (after it has handled whatever had arrived) and does what Tick
// says. One object per peer; one thread.
//
//   state    event                                    next     Tick says
//   idle     request sent                             waiting
//   idle     tick, silent for idle_ping_after         probing  ping
//   waiting  last request settled                     idle
//   waiting  heard (silence starts anew)              waiting
//   waiting  tick, silent for ping_after              probing  ping
//   probing  heard                                    waiting, or idle when no request is out
//   probing  tick, dead_after since the ping          dead     dead (once)
//   dead     anything                                 dead
//
// Silence counts from the last word heard or, if later, from the first request sent after a pause:
// a peer owes no answer while it is asked nothing. Death counts from the ping, never from the
// silence: an owner that was itself asleep for a minute first asks, and only then buries. One ping
// is enough, since connections are reliable.
#ifndef LATENTD_TRANSPORT_LIVENESS_H_
#define LATENTD_TRANSPORT_LIVENESS_H_

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"

namespace latentd {

struct LivenessOptions {
  absl::Duration ping_after = absl::Milliseconds(500);        // of silence with requests out
  absl::Duration dead_after = absl::Seconds(2);               // of silence after the ping
  absl::Duration idle_ping_after = absl::InfiniteDuration();  // of silence with no request out
};

class Liveness {
 public:
  enum class State : uint8_t { kIdle, kWaiting, kProbing, kDead };
  enum class Action : uint8_t { kNothing, kPing, kDead };

  Liveness(const LivenessOptions& options, absl::Time now);

  // Anything at all came from the peer.
  void OnHeard(absl::Time now);
  // A request went out (pings do not count), or one of those that had gone out ended: answered,
  // failed or given up.
  void OnSent(absl::Time now);
  void OnSettled(absl::Time now);

  // What to do now. kPing and kDead are said once each time they become due.
  Action Tick(absl::Time now);
  // Before then Tick says nothing, unless something happens.
  absl::Time next_tick() const;

  State state() const { return state_; }
  uint64_t outstanding() const { return outstanding_; }

 private:
  enum class Event : uint8_t { kHeard, kSent, kSettled, kTick };

  // The table above; the only place that changes state_.
  Action Apply(Event event, absl::Time now);
  State Resting() const { return outstanding_ > 0 ? State::kWaiting : State::kIdle; }

  LivenessOptions options_;
  State state_ = State::kIdle;
  uint64_t outstanding_ = 0;
  absl::Time now_;           // the latest time seen: clocks that step back do not count
  absl::Time silent_since_;  // see above
  absl::Time pinged_at_;
};

std::string_view ToString(Liveness::State state);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_LIVENESS_H_
