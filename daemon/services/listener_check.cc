#include "daemon/services/listener_check.h"

#include <grpcpp/grpcpp.h>

#include <utility>

#include "absl/time/clock.h"
#include "daemon/process/log.h"
#include "daemon/services/credentials.h"

namespace latentd {
namespace {

constexpr absl::Duration kTlsReload = absl::Seconds(30);

}  // namespace

ListenerCheck::ListenerCheck(std::string address, ListenerCheckOptions options)
    : address_(std::move(address)),
      options_(std::move(options)),
      credentials_(PeerCredentials(options_.tls, kTlsReload)),
      thread_([this] { Run(); }) {}

ListenerCheck::~ListenerCheck() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void ListenerCheck::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stop_) {
    lock.unlock();
    Note(Silent());
    lock.lock();
    changed_.wait_for(lock, absl::ToChronoMilliseconds(options_.interval), [&] { return stop_; });
  }
}

bool ListenerCheck::Silent() const {
  grpc::ChannelArguments arguments;
  // A connection of its own each time: one that stands says nothing of the listener.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  const auto channel = grpc::CreateCustomChannel(address_, credentials_, arguments);
  const absl::Time deadline = absl::Now() + options_.timeout;
  grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
  while (state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING) {
    if (!channel->WaitForStateChange(state, absl::ToChronoTime(deadline))) return true;
    state = channel->GetState(/*try_to_connect=*/true);
  }
  return false;
}

void ListenerCheck::Note(bool silent) {
  silences_ = silent ? silences_ + 1 : 0;
  const bool answers = silences_ < options_.silences;
  if (answers_.exchange(answers) == answers) return;
  if (answers) {
    LogInfo("the control plane takes connections again", {{"address", address_}});
  } else {
    LogError(
        "the control plane takes no more connections (has it run out of descriptors?): the "
        "watchdog is left to bite; without one, restart the daemon",
        {{"address", address_}, {"attempts", silences_}});
  }
}

}  // namespace latentd
