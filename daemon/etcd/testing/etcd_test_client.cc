#include "daemon/etcd/testing/etcd_test_client.h"

#include <future>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "tests/cluster/eventually.h"

namespace latentd::testing {
namespace {

template <typename T>
T ValueOrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

}  // namespace

EtcdTestClient::EtcdTestClient(EtcdOptions options)
    : loop_(ValueOrThrow(EventLoop::Start("etcd-test"))),
      client_(ValueOrThrow(EtcdClient::Make(loop_.get(), std::move(options)))) {}

EtcdTestClient::~EtcdTestClient() { Destroy(); }

void EtcdTestClient::OnLoop(const std::function<void()>& closure) {
  std::promise<void> done;
  loop_->Post([&] {
    closure();
    done.set_value();
  });
  done.get_future().wait();
}

void EtcdTestClient::RunOn(const std::function<void(EtcdClient&)>& closure) {
  OnLoop([&] { closure(*client_); });
}

void EtcdTestClient::Destroy() {
  OnLoop([this] { client_ = nullptr; });
}

template <typename T>
absl::StatusOr<T> EtcdTestClient::Wait(std::function<void(EtcdClient&, Etcd::Done<T>)> start) {
  const auto answer = std::make_shared<std::promise<absl::StatusOr<T>>>();
  auto future = answer->get_future();
  RunOn([&](EtcdClient& client) {
    start(client, [answer](absl::StatusOr<T> result) { answer->set_value(std::move(result)); });
  });
  return future.get();
}

absl::StatusOr<EtcdListing> EtcdTestClient::List(const std::string& prefix,
                                                 absl::Duration timeout) {
  return Wait<EtcdListing>(
      [&](EtcdClient& client, auto done) { client.List(prefix, timeout, done); });
}

absl::StatusOr<EtcdOutcome> EtcdTestClient::Commit(const EtcdTransaction& transaction,
                                                   absl::Duration timeout) {
  return Wait<EtcdOutcome>(
      [&](EtcdClient& client, auto done) { client.Commit(transaction, timeout, done); });
}

int64_t EtcdTestClient::Put(const std::string& key, const std::string& value, EtcdLease lease) {
  const EtcdOutcome outcome =
      ValueOrThrow(Commit({.writes = {{.key = key, .value = value, .lease = lease}}}));
  if (!outcome.done) throw std::runtime_error("a transaction without guards was not done");
  return outcome.revision;
}

absl::StatusOr<Etcd::Granted> EtcdTestClient::GrantLease(absl::Duration ttl) {
  return Wait<Etcd::Granted>(
      [&](EtcdClient& client, auto done) { client.GrantLease(ttl, kEtcdPatience, done); });
}

absl::StatusOr<absl::Duration> EtcdTestClient::KeepAlive(EtcdLease lease, absl::Duration timeout) {
  return Wait<absl::Duration>(
      [&](EtcdClient& client, auto done) { client.KeepAlive(lease, timeout, done); });
}

absl::StatusOr<bool> EtcdTestClient::RevokeLease(EtcdLease lease) {
  return Wait<bool>(
      [&](EtcdClient& client, auto done) { client.RevokeLease(lease, kEtcdPatience, done); });
}

EtcdTestWatch::EtcdTestWatch(EtcdTestClient* client, const std::string& prefix, int64_t revision)
    : client_(client) {
  client_->RunOn([&](EtcdClient& etcd) {
    watch_ = etcd.Watch(
        prefix, revision,
        [this](int64_t told_revision, const std::vector<EtcdEvent>& events) {
          const std::lock_guard<std::mutex> lock(mutex_);
          if (events.empty()) return;
          absl::StrAppend(&told_, told_.empty() ? "" : " ", told_revision, ":");
          for (const EtcdEvent& event : events) {
            absl::StrAppend(&told_, &event == &events[0] ? "" : ",", event.entry.key,
                            event.erased ? "!" : absl::StrCat("=", event.entry.value));
          }
        },
        [this](absl::Status status) {
          const std::lock_guard<std::mutex> lock(mutex_);
          end_ = std::move(status);
        });
  });
}

EtcdTestWatch::~EtcdTestWatch() {
  client_->OnLoop([this] { watch_ = nullptr; });
}

std::string EtcdTestWatch::Told() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return told_;
}

std::optional<absl::Status> EtcdTestWatch::End() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return end_;
}

bool EtcdTestWatch::Tells(const std::string& text) const {
  return Eventually(kEtcdPatience, [&] { return Told() == text; });
}

bool EtcdTestWatch::Ends() const {
  return Eventually(kEtcdPatience, [&] { return End().has_value(); });
}

}  // namespace latentd::testing
