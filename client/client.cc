#include "client/client.h"

#include <unistd.h>

#include <algorithm>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/attend_operation.h"
#include "client/cache_fetch.h"
#include "client/chunk_cache.h"
#include "client/chunk_operations.h"
#include "client/clock.h"
#include "client/control.h"
#include "client/data_path.h"
#include "client/device.h"
#include "client/dispatcher.h"
#include "client/handover.h"
#include "client/staged_publish.h"
#include "client/waiter.h"
#include "transport/worker.h"

namespace latentd {
namespace {

std::string DefaultName() {
  char host[256] = "unknown";
  gethostname(host, sizeof(host) - 1);
  return absl::StrCat(host, "/", getpid());
}

uint64_t Nanos(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Nanoseconds(duration), 0));
}

class UcxClient final : public Client {
 public:
  static absl::StatusOr<std::unique_ptr<Client>> Make(ClientOptions options) {
    if (options.client_name.empty()) options.client_name = DefaultName();
    std::unique_ptr<ClientDevice> device;
    if (!options.device.empty()) {
      auto made = ClientDevice::Create(options.device);
      if (!made.ok()) return made.status();
      device = *std::move(made);
      device->EnterThread();
    }
    auto context = Context::Create({.transports = options.transports, .cuda = device != nullptr});
    if (!context.ok()) return context.status();
    std::shared_ptr<void> registration;
    if (device != nullptr) {
      const std::span<std::byte> slab = device->slab();
      auto registered = (*context)->RegisterMemory(slab.data(), slab.size());
      if (!registered.ok()) return registered.status();
      registration = *std::move(registered);
    }
    auto worker = Worker::Create(*context);
    if (!worker.ok()) return worker.status();
    auto client = std::unique_ptr<UcxClient>(new UcxClient(
        std::move(options), std::move(device), std::move(registration), *std::move(worker)));
    if (absl::Status status = client->Init(); !status.ok()) return status;
    return client;
  }

  ~UcxClient() override {
    if (dispatcher_ == nullptr) return;
    closing_ = true;
    dispatcher_->EndAll(absl::CancelledError("the client is closing"));
    // Calls end as soon as UCX lets go of their memory, which closing its endpoints makes it do.
    const uint64_t give_up_ns = SteadyNanos() + 1'000'000'000;
    while (dispatcher_->in_flight() > 0 && SteadyNanos() < give_up_ns) dispatcher_->Progress();
  }

  const Layout& layout() const override { return layout_; }
  LayoutHash layout_hash() const override { return layout_hash_; }
  const SessionLimits& limits() const override { return control_->first_session().limits; }
  std::shared_ptr<const RoutingTable> table() const override { return dispatcher_->table(); }
  std::string TransportsTo(const Holder& holder) const override {
    return path_->TransportsTo(holder.node, holder.lane);
  }
  ClientCounters counters() const override {
    const DataPathCounters& path = path_->counters();
    const DispatcherCounters& calls = dispatcher_->counters();
    return {.table_conflicts = calls.table_conflicts,
            .late_answers = path.late_answers,
            .connections_lost = path.links_failed,
            .pings_sent = path.pings_sent,
            .pings_answered = path.pings_answered,
            .attempts_timed_out = calls.attempts_timed_out,
            .hedges_sent = calls.hedges_sent,
            .hedges_won = calls.hedges_won,
            .breakers_opened = calls.breakers_opened,
            .cache = cache_ != nullptr ? cache_->counters() : CacheCounters()};
  }
  std::vector<NodeHealth> health() const override { return dispatcher_->Health(); }

  CallId StartPublish(const ChunkRange& range, std::span<const std::byte> records,
                      absl::Duration timeout, Done done) override {
    return Start(MakePublish(range, records, layout_, done), timeout, done);
  }
  CallId StartPublishFromDevice(const ChunkRange& range, std::span<const std::byte> records,
                                CudaStream stream, absl::Duration timeout, Done done) override {
    if (device_ == nullptr) {
      return Start(absl::StatusOr<std::unique_ptr<Operation>>(absl::FailedPreconditionError(
                       "publishing from a device by a client without one (ClientOptions::device)")),
                   timeout, done);
    }
    EnterThread();
    return Start(MakeStagedPublish(range, records, layout_, *device_, stream, done), timeout, done);
  }
  CallId StartSeal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, absl::Duration timeout,
                   Done done) override {
    return Start(MakeSeal(chunk, tokens, checksum, done), timeout, done);
  }
  CallId StartAttend(const AttendQuery& query, absl::Duration timeout, AttendDone done) override {
    EnterThread();
    return Start(MakeAttendOperation(query, layout_, device_.get(), cache_.get(), done), timeout,
                 done);
  }
  CallId StartFetch(const ChunkRange& range, std::span<std::byte> records, absl::Duration timeout,
                    Done done) override {
    return Start(MakeFetch(range, records, layout_, done), timeout, done);
  }
  CallId StartFetchToCache(std::span<const CachePart> parts, absl::Duration timeout,
                           CacheFetchDone done) override {
    if (cache_ == nullptr) {
      return Start(
          absl::StatusOr<std::unique_ptr<Operation>>(absl::FailedPreconditionError(
              "fetching to the cache of a client without one (ClientOptions::cache_bytes)")),
          timeout, done);
    }
    auto tasks = CheckCacheParts(parts, *cache_);
    if (!tasks.ok())
      return Start(absl::StatusOr<std::unique_ptr<Operation>>(tasks.status()), timeout, done);
    const std::vector<ChunkId> unknown = UnknownChunks(*tasks);
    if (unknown.empty())
      return Start(MakeCacheFetch(*std::move(tasks), *cache_, done), timeout, done);
    return StatThenFetch(unknown, *std::move(tasks), Deadline(timeout), std::move(done));
  }
  void DropFromCache(std::span<const ChunkId> chunks) override {
    if (cache_ == nullptr) return;
    for (const ChunkId& chunk : chunks) cache_->pages().Drop(chunk);
  }
  CallId StartPin(std::span<const ChunkId> chunks, absl::Duration lease, absl::Duration timeout,
                  Done done) override {
    return Start(MakePin(chunks, lease, done), timeout, done);
  }
  CallId StartRelease(std::span<const ChunkId> chunks, absl::Duration timeout, Done done) override {
    return Start(MakeRelease(chunks, done), timeout, done);
  }
  CallId StartStat(std::span<const ChunkId> chunks, absl::Duration timeout,
                   StatDone done) override {
    return Start(MakeStat(chunks, done), timeout, done);
  }
  CallId StartEcho(const Holder& holder, std::span<const std::byte> payload, uint64_t reply_bytes,
                   absl::Duration timeout, EchoDone done) override {
    return Start(MakeEcho(holder, payload, reply_bytes, done), timeout, done);
  }
  void Cancel(CallId call) override {
    auto id = static_cast<uint64_t>(call);
    if (const auto found = second_steps_.find(id); found != second_steps_.end()) id = found->second;
    dispatcher_->End(id, absl::CancelledError("cancelled by the caller"));
  }

  bool Progress() override {
    if (std::exchange(slept_, false)) handover_.ClearWake();
    EnterThread();
    return dispatcher_->Progress();
  }
  int event_fd() const override { return waiter_->fd(); }
  bool Arm() override {
    if (dispatcher_->has_work()) return false;
    const uint64_t due_ns = dispatcher_->next_timer_ns();
    if (due_ns <= SteadyNanos()) return false;
    waiter_->SetTimer(due_ns);
    slept_ = true;
    return worker_->Arm();
  }
  void RunUntil(const std::function<bool()>& stop) override {
    const uint64_t spin_ns = Nanos(options_.spin);
    uint64_t idle_since_ns = SteadyNanos();
    while (!stop()) {
      if (Progress()) {
        idle_since_ns = SteadyNanos();
      } else if (SteadyNanos() - idle_since_ns < spin_ns) {
        // The holder may be on this very core, woken by our request and waiting for us to let go.
        std::this_thread::yield();
      } else if (Arm()) {
        waiter_->Wait();
      }
    }
  }
  size_t in_flight() const override { return dispatcher_->in_flight(); }

 private:
  UcxClient(ClientOptions options, std::unique_ptr<ClientDevice> device,
            std::shared_ptr<void> registration, std::unique_ptr<Worker> worker)
      : options_(std::move(options)),
        device_(std::move(device)),
        registration_(std::move(registration)),
        worker_(std::move(worker)) {}

  // A frontend may call from another thread than before, which has yet to hear of the device.
  void EnterThread() {
    if (device_ == nullptr || thread_ == std::this_thread::get_id()) return;
    device_->EnterThread();
    thread_ = std::this_thread::get_id();
  }

  absl::Status Init() {
    ControlOptions control{.endpoints = options_.endpoints,
                           .tls = options_.tls,
                           .client_name = options_.client_name,
                           .worker_address = worker_->address(),
                           .expected_layout = options_.expected_layout};
    auto started = ControlPlane::Start(std::move(control), options_.connect_timeout, &handover_);
    if (!started.ok()) return started.status();
    control_ = *std::move(started);

    layout_ = control_->first_session().layout;
    layout_hash_ = HashLayout(layout_);

    if (options_.cache_bytes > 0) {
      auto cache =
          ChunkCache::Create(layout_, options_.cache_bytes, std::max(options_.cache_threads, 0));
      if (!cache.ok()) return cache.status();
      cache_ = *std::move(cache);
    }

    auto waiter = Waiter::Create(worker_->event_fd(), handover_.wake_fd());
    if (!waiter.ok()) return waiter.status();
    waiter_ = *std::move(waiter);

    DataPathOptions path;
    path.liveness = {.ping_after = options_.ping_after, .dead_after = options_.dead_after};
    path.wire = {.geometry = layout_.geometry(),
                 .format = layout_.record_format,
                 .layers = layout_.layers,
                 .layout_hash = static_cast<uint64_t>(layout_hash_)};
    path.max_waiting = options_.max_waiting_per_lane;
    if (device_ != nullptr) path.device_pool = &device_->pool();
    path_ = std::make_unique<DataPath>(worker_.get(), std::move(path));
    dispatcher_ = std::make_unique<Dispatcher>(
        path_.get(), control_.get(), &handover_,
        DispatcherOptions{.layout = layout_hash_,
                          .attempt_timeout_ns = Nanos(options_.attempt_timeout),
                          .hedge = options_.hedge,
                          .breaker = options_.breaker,
                          .seed = options_.seed != 0 ? options_.seed : std::random_device()()});
    // Takes up the first session and table. They are there, but the queue may be held just now.
    while (dispatcher_->table() == nullptr) dispatcher_->Progress();
    return absl::OkStatus();
  }

  template <typename Callback>
  CallId Start(absl::StatusOr<std::unique_ptr<Operation>> operation, absl::Duration timeout,
               const Callback& done) {
    if (!operation.ok()) {
      operation =
          MakeFailed(operation.status(), [done](absl::Status status) { done(std::move(status)); });
    }
    return static_cast<CallId>(dispatcher_->Start(*std::move(operation), Deadline(timeout)));
  }

  uint64_t Deadline(absl::Duration timeout) const {
    const absl::Duration effective =
        timeout > absl::ZeroDuration() ? timeout : options_.call_timeout;
    return SteadyNanos() + std::min(Nanos(effective), kNever / 2);
  }

  // A call of two steps: holders say how long the chunks are, then give them.
  CallId StatThenFetch(std::span<const ChunkId> unknown, std::vector<CacheTask> tasks,
                       uint64_t deadline_ns, CacheFetchDone done) {
    const auto call = std::make_shared<uint64_t>(0);
    auto then = [this, call, deadline_ns, tasks = std::move(tasks),
                 done = std::move(done)](absl::StatusOr<std::vector<ChunkStat>> stats) mutable {
      absl::Status status = stats.ok() ? FillIn(*stats, &tasks) : stats.status();
      if (status.ok() && closing_) status = absl::CancelledError("the client is closing");
      if (!status.ok()) return done(std::move(status));
      auto finish = [this, call, done](absl::StatusOr<CacheFetchReport> report) {
        second_steps_.erase(*call);
        done(std::move(report));
      };
      auto fetch = MakeCacheFetch(std::move(tasks), *cache_, std::move(finish));
      if (!fetch.ok()) return done(fetch.status());
      second_steps_[*call] = dispatcher_->Start(*std::move(fetch), deadline_ns);
    };
    // Not empty: it does not fail.
    *call = dispatcher_->Start(*MakeStat(unknown, std::move(then)), deadline_ns);
    return static_cast<CallId>(*call);
  }

  const ClientOptions options_;
  Handover handover_;
  const std::unique_ptr<ClientDevice> device_;  // null without one
  const std::shared_ptr<void> registration_;    // of its buffers
  std::thread::id thread_;
  const std::unique_ptr<Worker> worker_;
  std::unique_ptr<ControlPlane> control_;
  std::unique_ptr<Waiter> waiter_;
  Layout layout_;
  LayoutHash layout_hash_{};
  std::unique_ptr<ChunkCache> cache_;  // null without one
  std::unique_ptr<DataPath> path_;
  // Of calls of two steps that are at their second.
  absl::flat_hash_map<uint64_t, uint64_t> second_steps_;
  bool closing_ = false;
  std::unique_ptr<Dispatcher> dispatcher_;
  bool slept_ = false;
};

// Runs `start` with a callback that takes the result, and turns until it has come.
template <typename Result, typename StartCall>
Result Await(Client& client, StartCall start) {
  std::optional<Result> result;
  start([&result](Result r) { result = std::move(r); });
  client.RunUntil([&result] { return result.has_value(); });
  return *std::move(result);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  return UcxClient::Make(std::move(options));
}

absl::Status Client::Publish(const ChunkRange& range, std::span<const std::byte> records,
                             absl::Duration timeout) {
  return Await<absl::Status>(
      *this, [&](Done done) { StartPublish(range, records, timeout, std::move(done)); });
}

absl::Status Client::PublishFromDevice(const ChunkRange& range, std::span<const std::byte> records,
                                       CudaStream stream, absl::Duration timeout) {
  return Await<absl::Status>(*this, [&](Done done) {
    StartPublishFromDevice(range, records, stream, timeout, std::move(done));
  });
}

absl::Status Client::Seal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum,
                          absl::Duration timeout) {
  return Await<absl::Status>(
      *this, [&](Done done) { StartSeal(chunk, tokens, checksum, timeout, std::move(done)); });
}

absl::StatusOr<AttendAnswer> Client::Attend(const AttendQuery& query, absl::Duration timeout) {
  return Await<absl::StatusOr<AttendAnswer>>(
      *this, [&](AttendDone done) { StartAttend(query, timeout, std::move(done)); });
}

absl::Status Client::Fetch(const ChunkRange& range, std::span<std::byte> records,
                           absl::Duration timeout) {
  return Await<absl::Status>(
      *this, [&](Done done) { StartFetch(range, records, timeout, std::move(done)); });
}

absl::StatusOr<CacheFetchReport> Client::FetchToCache(std::span<const CachePart> parts,
                                                      absl::Duration timeout) {
  return Await<absl::StatusOr<CacheFetchReport>>(
      *this, [&](CacheFetchDone done) { StartFetchToCache(parts, timeout, std::move(done)); });
}

absl::Status Client::Pin(std::span<const ChunkId> chunks, absl::Duration lease,
                         absl::Duration timeout) {
  return Await<absl::Status>(*this,
                             [&](Done done) { StartPin(chunks, lease, timeout, std::move(done)); });
}

absl::Status Client::Release(std::span<const ChunkId> chunks, absl::Duration timeout) {
  return Await<absl::Status>(*this,
                             [&](Done done) { StartRelease(chunks, timeout, std::move(done)); });
}

absl::StatusOr<std::vector<ChunkStat>> Client::Stat(std::span<const ChunkId> chunks,
                                                    absl::Duration timeout) {
  return Await<absl::StatusOr<std::vector<ChunkStat>>>(
      *this, [&](StatDone done) { StartStat(chunks, timeout, std::move(done)); });
}

absl::StatusOr<HolderTiming> Client::Echo(const Holder& holder, std::span<const std::byte> payload,
                                          uint64_t reply_bytes, absl::Duration timeout) {
  return Await<absl::StatusOr<HolderTiming>>(*this, [&](EchoDone done) {
    StartEcho(holder, payload, reply_bytes, timeout, std::move(done));
  });
}

}  // namespace latentd
