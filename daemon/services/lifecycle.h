// `Lifecycle` is the one place where the daemon's state changes, whoever asks: an operator, a
// signal, the start.
//
//     state       entered by                admits  health       left by
//     kStarting   construction              no      NOT_SERVING  Ready, Stop
//     kActive     Ready, Resume             yes     SERVING      Drain, Stop
//     kDraining   Drain                     *       *            Resume, Stop
//     kStopping   Stop                      no      NOT_SERVING  never
//
// * Where the membership hands over the slots of a node that drains, it admits and is healthy until
// it stops: whoever asks it for a slot that has gone is sent on. Otherwise, no and NOT_SERVING.
//
// "Admits" is about ATTEND and PUBLISH on every lane; a daemon that drains still answers FETCH, so
// that others can take over what it holds.
//
// Any thread. Effects are in order: when a call returns, lanes, membership and health have been
// told.
#ifndef LATENTD_DAEMON_SERVICES_LIFECYCLE_H_
#define LATENTD_DAEMON_SERVICES_LIFECYCLE_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace latentd {

class Lane;
class Membership;

enum class LifecycleState : uint8_t { kStarting, kActive, kDraining, kStopping };

std::string_view LifecycleStateName(LifecycleState state);

class Lifecycle {
 public:
  // The lanes and the membership must outlive it. `on_serving` is told at each change whether the
  // node serves; it must not call back.
  Lifecycle(std::vector<Lane*> lanes, Membership* membership, std::function<void(bool)> on_serving);

  // REQUIRES: kStarting.
  void Ready();
  // FAILED_PRECONDITION while starting or stopping. Again: nothing happens.
  absl::Status Drain();
  absl::Status Resume();
  void Stop();

  LifecycleState state() const;
  // Over all lanes, as of now.
  uint64_t RequestsInFlight() const;

 private:
  void Enter(LifecycleState state);  // REQUIRES: mutex_

  const std::vector<Lane*> lanes_;
  Membership* const membership_;
  const std::function<void(bool)> on_serving_;
  mutable std::mutex mutex_;
  LifecycleState state_ = LifecycleState::kStarting;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_LIFECYCLE_H_
