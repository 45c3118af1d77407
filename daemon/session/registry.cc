#include "daemon/session/registry.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/lane/lane.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// The one tenant there is until requests carry an identity.
constexpr char kDefaultTenant[] = "default";

absl::StatusOr<SessionToken> DrawToken() {
  SessionToken token;
  do {
    uint64_t words[2];
    // 16 bytes come whole or not at all.
    if (getrandom(words, sizeof(words), 0) != static_cast<ssize_t>(sizeof(words))) {
      return absl::InternalError(absl::StrCat("getrandom: ", std::strerror(errno)));
    }
    token = {.hi = words[0], .lo = words[1]};
  } while (token == SessionToken{});  // on the wire that is "no token"
  return token;
}

// Counts the lanes that know a session. Shared with their callbacks, which may outlive a caller
// that gave up.
class Acknowledgements {
 public:
  explicit Acknowledgements(size_t lanes) : known_(lanes, false) {}

  void Add(size_t lane) {
    const std::lock_guard<std::mutex> lock(mutex_);
    known_[lane] = true;
    changed_.notify_all();
  }
  // The first lane that is missing after `patience`, if any.
  std::optional<size_t> Await(absl::Duration patience) {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto missing = [this] { return std::find(known_.begin(), known_.end(), false); };
    changed_.wait_for(lock, absl::ToChronoMilliseconds(patience),
                      [&] { return missing() == known_.end(); });
    if (missing() == known_.end()) return std::nullopt;
    return static_cast<size_t>(missing() - known_.begin());
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<bool> known_;
};

}  // namespace

SessionRegistry::SessionRegistry(SessionRules rules, std::vector<Lane*> lanes)
    : rules_(rules),
      lanes_(std::move(lanes)),
      table_(rules),
      sweeper_([this] { SweepUntilShutdown(); }) {}

SessionRegistry::~SessionRegistry() {
  Shutdown();
  sweeper_.join();
}

absl::StatusOr<SessionGrant> SessionRegistry::Open(std::string client_name,
                                                   std::string worker_address,
                                                   absl::Duration patience, std::string peer_node) {
  absl::StatusOr<SessionToken> token = DrawToken();
  if (!token.ok()) return token.status();
  SessionGrant grant{.token = *token,
                     .client_name = std::move(client_name),
                     .tenant = kDefaultTenant,
                     .worker_address = std::move(worker_address),
                     .peer_node = std::move(peer_node)};

  const auto acknowledgements = std::make_shared<Acknowledgements>(lanes_.size());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!opening_) {
      ++counts_.refused;
      return absl::UnavailableError("sessions: the daemon is shutting down");
    }
    if (absl::Status added = table_.Add(grant, SteadyNow()); !added.ok()) {
      ++counts_.refused;
      return added;
    }
    for (size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i]->AddSession(grant, [acknowledgements, i] { acknowledgements->Add(i); });
    }
    WakeSweeper();
  }

  if (const std::optional<size_t> missing = acknowledgements->Await(patience)) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (table_.Remove(grant.token)) TellLanesOfEnd(grant, "not every lane took it");
    ++counts_.refused;
    return absl::UnavailableError(absl::StrCat(
        "sessions: lane ", *missing, " did not answer within ", absl::FormatDuration(patience)));
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++counts_.opened;
  }
  return grant;
}

absl::Status SessionRegistry::Renew(const SessionToken& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return table_.Renew(token, SteadyNow());
}

absl::Status SessionRegistry::Close(const SessionToken& token) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::optional<SessionGrant> grant = table_.Remove(token);
  if (!grant) return absl::NotFoundError("session: unknown or already over");
  ++counts_.closed;
  TellLanesOfEnd(*grant, "closed by its client");
  return absl::OkStatus();
}

void SessionRegistry::LostByLane(const SessionToken& token, const absl::Status& why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::optional<SessionGrant> grant = table_.Remove(token);
  if (!grant) return;
  ++counts_.lost;
  // The lane that lost it has forgotten it and will not mind.
  TellLanesOfEnd(*grant, std::string(why.message()));
}

void SessionRegistry::StopOpening() {
  const std::lock_guard<std::mutex> lock(mutex_);
  opening_ = false;
}

void SessionRegistry::Shutdown() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (shutting_down_) return;
  opening_ = false;
  shutting_down_ = true;
  for (const SessionGrant& grant : table_.Clear()) {
    TellLanesOfEnd(grant, "the daemon is shutting down");
  }
  WakeSweeper();
}

SessionCounts SessionRegistry::counts() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  SessionCounts counts = counts_;
  counts.live = table_.size();
  return counts;
}

void SessionRegistry::SweepUntilShutdown() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!shutting_down_) {
    const absl::Time next = table_.NextExpiry();
    if (next == absl::InfiniteFuture()) {
      changed_.wait(lock);
    } else {
      // A millisecond more than is left: waits round down.
      const absl::Duration left = next - SteadyNow() + absl::Milliseconds(1);
      changed_.wait_for(lock, absl::ToChronoMilliseconds(std::max(left, absl::ZeroDuration())));
    }
    for (const SessionGrant& grant : table_.Expire(SteadyNow())) {
      ++counts_.expired;
      TellLanesOfEnd(grant, "not renewed in time");
    }
  }
}

void SessionRegistry::TellLanesOfEnd(const SessionGrant& grant, std::string_view reason) {
  LogInfo("session ended", {{"client", grant.client_name}, {"reason", reason}});
  for (Lane* lane : lanes_) lane->RemoveSession(grant.token, std::string(reason));
}

}  // namespace latentd
