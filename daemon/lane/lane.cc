// Making a lane, and what other threads call: they post to the mailbox or read snapshots.
#include "daemon/lane/lane.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/lane/lane_device.h"
#include "daemon/lane/lane_impl.h"
#include "daemon/lane/make_lane.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"
#include "routing/layout_rope.h"

namespace latentd {
namespace {

// Memory kept for the next payloads; what is lent is bounded by admission.
constexpr uint64_t kKeptBufferBytes = uint64_t{128} << 20;
// Rows of one batch. A batch ends before the next begins: this bounds how long a newcomer waits.
constexpr BatchLimits kBatchLimits = {.rows = 4096, .requests = 256};

BatchLimits BatchLimitsOf(const LaneOptions& options) {
  BatchLimits limits = kBatchLimits;
  limits.work = options.limits.work_per_request;
  return limits;
}

WireLimits LimitsOf(const LaneOptions& options) {
  const LaneLimits& limits = options.limits;
  return {.geometry = options.layout.geometry(),
          .format = options.layout.record_format,
          .layers = options.layout.layers,
          .layout_hash = ToInt(HashLayout(options.layout)),
          .max_query_tokens = limits.rows_per_request,
          .max_groups = limits.rows_per_request,
          .max_chunks = limits.chunks_per_request,
          .max_payload_bytes = limits.payload_bytes_per_request,
          .max_echo_bytes = limits.payload_bytes_per_request};
}

AdmissionLimits AdmissionOf(const LaneLimits& limits) {
  return {.session_requests = limits.inflight_per_session,
          .session_bytes = limits.inflight_bytes_per_session,
          .lane_requests = limits.inflight,
          .lane_bytes = limits.inflight_bytes};
}

// One page at least: without it nothing could be published.
uint64_t OpenPages(const LaneOptions& options) {
  const uint64_t page_bytes = std::max<uint64_t>(options.layout.page_bytes(), 1);
  return std::max<uint64_t>(options.limits.open_bytes_per_session / page_bytes, 1);
}

std::optional<PayloadPool> PoolOf(std::optional<PayloadMemory> memory) {
  if (!memory.has_value()) return std::nullopt;
  return std::optional<PayloadPool>(std::in_place, kKeptBufferBytes, *std::move(memory));
}

absl::Status CheckOptions(const LaneOptions& options) {
  // Partials are sent as bf16 out, then fp32 lse: an odd number of values would leave lse
  // unaligned.
  if (options.layout.latent_width % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("lane ", options.index, ": latent width ",
                                                   options.layout.latent_width, " is odd"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Lane>> Lane::Create(LaneOptions options,
                                                   std::shared_ptr<Context> context) {
  auto device = MakeLaneDevice(options);
  if (!device.ok()) return device.status();
  return MakeLane(std::move(options), std::move(context), *device);
}

absl::StatusOr<std::unique_ptr<Lane>> MakeLane(LaneOptions options,
                                               std::shared_ptr<Context> context,
                                               const LaneDevice& device) {
  if (absl::Status s = CheckOptions(options); !s.ok()) return s;
  LaneImpl::Parts parts;
  parts.context = context;
  auto mailbox = Mailbox::Create();
  if (!mailbox.ok()) return mailbox.status();
  parts.mailbox = *std::move(mailbox);
  auto store = LatentStore::Create({.layout = options.layout,
                                    .cache_bytes = options.cache_bytes,
                                    .high_watermark = options.high_watermark,
                                    .low_watermark = options.low_watermark,
                                    .max_chunks = options.limits.chunks,
                                    .max_open_pages = OpenPages(options),
                                    .max_lease = options.max_lease},
                                   device.allocate_records);
  if (!store.ok()) return store.status();
  parts.store = *std::move(store);
  const PageArena& arena = parts.store->arena();
  // What a device holds leaves through payload buffers.
  if (arena.memory().on_host()) {
    auto registration = context->RegisterMemory(arena.memory().base(), arena.memory().bytes());
    if (!registration.ok()) return registration.status();
    parts.registrations.push_back(*std::move(registration));
  }
  auto worker = Worker::Create(context);
  if (!worker.ok()) return worker.status();
  parts.worker = *std::move(worker);
  auto waiter =
      IdleWaiter::Create(options.idle, options.spin, parts.worker->event_fd(), parts.mailbox->fd());
  if (!waiter.ok()) return waiter.status();
  parts.waiter = *std::move(waiter);
  auto backend = device.make_backend(parts.store->view(), arena.pages_total());
  if (!backend.ok()) return backend.status();
  parts.engine = std::make_unique<Engine>(
      *std::move(backend),
      EngineOptions{.batch = BatchLimitsOf(options), .max_in_flight = device.max_in_flight});
  parts.payloads = device.payloads;
  parts.rows_in_payloads = device.rows_in_payloads;
  parts.device_payloads = device.device_payloads;
  parts.enter_thread = device.enter_thread;
  for (const std::span<std::byte> slab : device.slabs()) {
    if (slab.empty()) continue;
    auto registration = context->RegisterMemory(slab.data(), slab.size());
    if (!registration.ok()) return registration.status();
    parts.registrations.push_back(*std::move(registration));
  }
  return std::make_unique<LaneImpl>(std::move(options), std::move(parts));
}

LaneImpl::LaneImpl(LaneOptions options, Parts parts)
    : options_(std::move(options)),
      address_(parts.worker->address()),
      backend_(parts.engine->DescribeBackend()),
      wire_limits_(LimitsOf(options_)),
      rope_(Rope::Make(RopeOf(options_.layout))),
      context_(std::move(parts.context)),
      mailbox_(std::move(parts.mailbox)),
      store_(std::move(parts.store)),
      buffers_(kKeptBufferBytes, std::move(parts.payloads)),
      rows_in_buffers_(parts.rows_in_payloads),
      device_buffers_(PoolOf(std::move(parts.device_payloads))),
      registrations_(std::move(parts.registrations)),
      enter_thread_(std::move(parts.enter_thread)),
      worker_(std::move(parts.worker)),
      waiter_(std::move(parts.waiter)),
      engine_(std::move(parts.engine)),
      admission_(AdmissionOf(options_.limits)) {
  worker_->SetHandler(wire::kRequestAm,
                      [this](IncomingMessage message) { OnRequest(std::move(message)); });
  worker_->SetHandler(wire::kReplyAm,
                      [this](IncomingMessage message) { OnReply(std::move(message)); });
  last_turn_ns_.store(absl::ToUnixNanos(SteadyNow()), std::memory_order_relaxed);
  UpdateGauges();
}

LaneImpl::~LaneImpl() {
  (void)Stop(absl::InfinitePast());
  TearDown();
}

void LaneImpl::SetSessionLostCallback(std::function<void(SessionToken, absl::Status)> callback) {
  on_session_lost_ = std::move(callback);
}

void LaneImpl::SetDeviceLostCallback(std::function<void(absl::Status)> callback) {
  on_device_lost_ = std::move(callback);
}

void LaneImpl::Start() {
  LogInfo("lane started", {{"lane", options_.index},
                           {"backend", backend_},
                           {"pages", stats_.pages_total.Get()},
                           {"page_bytes", options_.layout.page_bytes()}});
  thread_ = std::thread([this] { Run(); });
}

absl::Status LaneImpl::Stop(absl::Time deadline) {
  const std::lock_guard<std::mutex> lock(stop_mutex_);
  if (thread_.joinable()) {
    const absl::Time stop_at = SteadyNow() + (deadline - absl::Now());
    mailbox_->Post([this, stop_at] {
      stopping_ = true;
      stop_at_ = stop_at;
    });
    thread_.join();
  }
  return stop_status_;
}

std::string LaneImpl::Transports() const {
  const std::lock_guard<std::mutex> lock(transports_mutex_);
  return transports_;
}

void LaneImpl::AddSession(SessionGrant grant, std::function<void()> done) {
  // Shared, because a closed mailbox keeps nothing of what it is given.
  auto shared_done = std::make_shared<std::function<void()>>(std::move(done));
  const bool posted = mailbox_->Post([this, grant = std::move(grant), shared_done]() mutable {
    Add(std::move(grant));
    (*shared_done)();
  });
  if (!posted) (*shared_done)();
}

void LaneImpl::RemoveSession(SessionToken token, std::string reason) {
  mailbox_->Post([this, token, reason = std::move(reason)] {
    const auto it = sessions_.find(token);
    if (it == sessions_.end()) return;
    const SessionPtr session = it->second;
    const size_t dropped = EndSession(session);
    LogDebug("session ended on a lane", {{"client", session->grant.client_name},
                                         {"lane", options_.index},
                                         {"reason", reason},
                                         {"requests_in_flight", dropped}});
  });
}

void LaneImpl::SetTable(std::shared_ptr<const RoutingTable> table) {
  // Looked through here, so that the lane only swaps a pointer.
  auto slots = std::make_shared<const SlotOwnership>(std::move(table), options_.node_id,
                                                     options_.index, options_.all_lane_cache_bytes);
  mailbox_->Post([this, slots = std::move(slots)] { TakeTable(slots); });
}

void LaneImpl::SetAdmitting(bool admitting) {
  mailbox_->Post([this, admitting] { admitting_ = admitting; });
}

void LaneImpl::ListChunks(std::string hex_prefix, uint32_t limit,
                          std::function<void(ChunkListing)> done) {
  auto shared_done = std::make_shared<std::function<void(ChunkListing)>>(std::move(done));
  const bool posted =
      mailbox_->Post([this, hex_prefix = std::move(hex_prefix), limit, shared_done] {
        (*shared_done)(store_->List(hex_prefix, limit, SteadyNow()));
      });
  if (!posted) (*shared_done)({});
}

absl::Time LaneImpl::last_turn() const {
  const int64_t last = last_turn_ns_.load(std::memory_order_relaxed);
  return last == kStopped ? absl::InfiniteFuture() : absl::FromUnixNanos(last);
}

}  // namespace latentd
