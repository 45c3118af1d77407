#include "client/data_path.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "routing/lane_choice.h"
#include "transport/errors.h"

namespace latentd {
namespace {

constexpr uint16_t kNotChosen = std::numeric_limits<uint16_t>::max();

std::string NameOf(const LaneLink& link) {
  return absl::StrCat("node ", link.node, " lane ", link.lane);
}

// Of HELLO, PING and ECHO the layout is no matter.
bool CarriesLayout(wire::Opcode opcode) {
  return opcode != wire::Opcode::kHello && opcode != wire::Opcode::kPing &&
         opcode != wire::Opcode::kEcho;
}

// What bounds a request is the holder's to say.
WireLimits Unbounded(WireLimits limits) {
  limits.max_query_tokens = std::numeric_limits<uint32_t>::max();
  limits.max_groups = std::numeric_limits<uint32_t>::max();
  limits.max_chunks = std::numeric_limits<uint32_t>::max();
  limits.max_payload_bytes = std::numeric_limits<uint64_t>::max();
  limits.max_echo_bytes = std::numeric_limits<uint64_t>::max();
  return limits;
}

}  // namespace

DataPath::DataPath(Worker* worker, DataPathOptions options)
    : worker_(worker), options_(std::move(options)), own_wire_(Unbounded(options_.wire)) {
  const std::weak_ptr<int> alive = alive_;
  worker_->SetHandler(wire::kReplyAm, [this, alive](IncomingMessage message) {
    if (!alive.expired()) OnReply(std::move(message));
  });
  worker_->SetHandler(wire::kRequestAm, [this, alive](IncomingMessage message) {
    if (!alive.expired()) OnRequest(message);
  });
}

DataPath::~DataPath() {
  for (auto& [id, node] : nodes_) {
    for (const auto& link : node.links)
      FailLink(*link, absl::CancelledError("the client is closing"));
  }
  // UCX finishes what it was still sending once its endpoints are closed.
  const uint64_t give_up_ns = SteadyNanos() + 1'000'000'000;
  while (exchanges_.size() > 0 && SteadyNanos() < give_up_ns) {
    closing_.clear();
    worker_->Progress();
  }
}

void DataPath::SetSession(const SessionInfo& session) {
  Node& node = nodes_[session.node];
  if (!node.links.empty() && node.session.token == session.token) {
    node.in_doubt = false;
    for (auto& link : node.links) {
      if (link->state != LaneLink::State::kFailed) continue;
      // Exchanges of the failed link keep the old one.
      link = std::make_shared<LaneLink>(session, link->lane, options_.liveness);
      // The daemon's control plane lives; whether its lane does, HELLO tells.
      link->recovering = true;
      Greet(link);
    }
    return;
  }
  for (const auto& link : node.links) {
    FailLink(*link,
             absl::UnavailableError(absl::StrCat(NameOf(*link), ": its session was replaced")));
  }
  node = Node{.session = session};
  for (uint32_t lane = 0; lane < session.lanes.size(); ++lane) {
    node.links.push_back(std::make_shared<LaneLink>(session, lane, options_.liveness));
    node.lane_weights.push_back(session.lanes[lane].cache_bytes);
  }
  if (session.lanes.size() > 1) node.lane_of_slot.assign(kSlotCount, kNotChosen);
}

void DataPath::DropSession(const NodeId& id, const absl::Status& why) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return;
  found->second.in_doubt = true;
  for (const auto& link : found->second.links) FailLink(*link, why);
}

const SessionInfo* DataPath::FindSession(const NodeId& id) const {
  const auto found = nodes_.find(id);
  return found == nodes_.end() || found->second.in_doubt ? nullptr : &found->second.session;
}

bool DataPath::InDoubt(const NodeId& id) const {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return false;
  const auto recovering = [](const auto& link) { return link->recovering; };
  const auto& links = found->second.links;
  return found->second.in_doubt || std::any_of(links.begin(), links.end(), recovering);
}

std::optional<TokenBits> DataPath::DoubtedToken(const NodeId& id) const {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || !found->second.in_doubt) return std::nullopt;
  return found->second.session.token;
}

uint32_t DataPath::LaneOf(const NodeId& id, Slot slot) {
  Node& node = nodes_.at(id);
  if (node.lane_of_slot.empty()) return 0;
  uint16_t& lane = node.lane_of_slot[ToInt(slot)];
  if (lane == kNotChosen) lane = static_cast<uint16_t>(LaneOfSlot(slot, node.lane_weights));
  return lane;
}

std::string DataPath::TransportsTo(const NodeId& id, uint32_t lane) const {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || lane >= found->second.links.size()) return "";
  const auto& endpoint = found->second.links[lane]->endpoint;
  return endpoint == nullptr ? "" : endpoint->Transports();
}

uint64_t DataPath::Submit(const NodeId& id, uint32_t lane, Outgoing out, Epoch epoch,
                          uint64_t deadline_ns, uint64_t request_id) {
  const std::shared_ptr<LaneLink>& link = nodes_.at(id).links.at(lane);
  if (request_id != 0) {
    for (const Exchange* attempt : exchanges_.Attempts(request_id)) {
      if (attempt->link == link) request_id = 0;  // their answers could not be told apart
    }
  }
  Exchange& exchange = exchanges_.Add(std::move(out), request_id);
  exchange.link = link;
  exchange.epoch = epoch;
  exchange.deadline_ns = deadline_ns;
  const uint64_t exchange_id = exchange.id;

  if (link->state == LaneLink::State::kFailed) {
    Fail(exchange, link->failure);
  } else if (link->waiting.size() >= options_.max_waiting) {
    Fail(exchange, WithRetryAfter(absl::ResourceExhaustedError(
                                      absl::StrCat(NameOf(*link), ": ", link->waiting.size(),
                                                   " requests wait for their turn")),
                                  absl::Milliseconds(10)));
  } else {
    link->waiting.push_back(exchange_id);
    if (link->state == LaneLink::State::kIdle) Greet(link);
    if (link->state == LaneLink::State::kBound) Pump(*link);
  }
  return exchange_id;
}

uint64_t DataPath::RequestIdOf(uint64_t id) const {
  const Exchange* exchange = exchanges_.Find(id);
  return exchange == nullptr ? 0 : exchange->request_id;
}

void DataPath::Abandon(uint64_t id) {
  Exchange* exchange = exchanges_.Find(id);
  if (exchange == nullptr) return;
  const std::shared_ptr<LaneLink> link = exchange->link;
  std::erase(link->waiting, id);
  const bool in_flight = IsInFlight(exchange->state);
  Fail(*exchange, absl::CancelledError("given up by the caller"));
  exchange = exchanges_.Find(id);
  // Only closing the endpoint takes a message back that the peer has not fetched.
  if (in_flight && exchange != nullptr && exchange->state == ExchangeState::kHeldBack) {
    FailLink(*link, absl::UnavailableError(absl::StrCat(
                        NameOf(*link), ": connection reset: it did not take a request in time")));
  }
}

bool DataPath::LetGo(uint64_t id) {
  const Exchange* exchange = exchanges_.Find(id);
  if (exchange == nullptr) return true;
  if (exchange->state == ExchangeState::kWaiting) {
    Abandon(id);
    return true;
  }
  if (!exchange->lends() || !IsReadByUcx(exchange->state)) return true;
  Abandon(id);
  return false;
}

bool DataPath::Progress(uint64_t now_ns, std::vector<ExchangeResult>* results) {
  now_ns_ = now_ns;
  closing_.clear();
  unsigned events = worker_->Progress();
  for (size_t i = 0; i < to_pump_.size(); ++i) Pump(*to_pump_[i]);
  to_pump_.clear();
  if (now_ns >= next_tick_ns_) CheckLiveness(now_ns);
  events += results_.size();
  for (ExchangeResult& result : results_) results->push_back(std::move(result));
  results_.clear();
  return events > 0;
}

uint64_t DataPath::next_timer_ns() const {
  uint64_t next_ns = kNever;
  for (const auto& [id, node] : nodes_) {
    for (const auto& link : node.links) {
      if (link->endpoint != nullptr) {
        next_ns = std::min(next_ns, SteadyNanosOf(link->liveness.next_tick()));
      }
    }
  }
  return next_ns;
}

void DataPath::CheckLiveness(uint64_t now_ns) {
  for (auto& [id, node] : nodes_) {
    for (const auto& link : node.links) {
      if (link->endpoint == nullptr) continue;
      switch (link->liveness.Tick(SteadyTime(now_ns))) {
        case Liveness::Action::kNothing:
          break;
        case Liveness::Action::kPing:
          // Before HELLO is answered the peer takes nothing else; that answer will do.
          if (link->state != LaneLink::State::kBound) break;
          ++counters_.pings_sent;
          SendInternal(link, wire::Opcode::kPing);
          break;
        case Liveness::Action::kDead:
          FailLink(*link,
                   absl::UnavailableError(absl::StrCat(
                       NameOf(*link), ": it does not answer, although its connection stands")));
          break;
      }
    }
  }
  // Looked at a few times in each period: exactness is not worth asking every link at every turn.
  next_tick_ns_ =
      now_ns + static_cast<uint64_t>(absl::ToInt64Nanoseconds(options_.liveness.ping_after) / 8);
}

void DataPath::Greet(const std::shared_ptr<LaneLink>& link) {
  const std::weak_ptr<int> alive = alive_;
  const std::weak_ptr<LaneLink> weak = link;
  auto endpoint = worker_->Connect(link->worker_address, [this, alive, weak](absl::Status status) {
    const auto failed = weak.lock();
    if (alive.expired() || failed == nullptr) return;
    FailLink(*failed, absl::UnavailableError(absl::StrCat(
                          NameOf(*failed), ": connection lost: ", std::string(status.message()))));
  });
  if (!endpoint.ok()) {
    FailLink(*link, absl::UnavailableError(absl::StrCat(NameOf(*link), ": cannot connect: ",
                                                        std::string(endpoint.status().message()))));
    return;
  }
  link->endpoint = *std::move(endpoint);
  link->state = LaneLink::State::kGreeting;
  SendInternal(link, wire::Opcode::kHello);
}

void DataPath::SendInternal(const std::shared_ptr<LaneLink>& link, wire::Opcode opcode) {
  Outgoing out;
  out.opcode = opcode;
  if (opcode == wire::Opcode::kHello) {
    BuildHello({}, &out.header);
  } else {
    BuildPing({}, &out.header);
  }
  Exchange& exchange = exchanges_.Add(std::move(out));
  exchange.internal = true;
  exchange.link = link;
  // The link's liveness is the deadline of both.
  exchange.deadline_ns =
      SteadyNanos() + static_cast<uint64_t>(absl::ToInt64Nanoseconds(options_.liveness.dead_after));
  Send(exchange);
}

void DataPath::Pump(LaneLink& link) {
  while (link.state == LaneLink::State::kBound && !link.waiting.empty()) {
    Exchange* exchange = exchanges_.Find(link.waiting.front());
    if (exchange == nullptr || exchange->state != ExchangeState::kWaiting) {
      link.waiting.pop_front();
    } else if (exchange->deadline_ns <= SteadyNanos()) {
      link.waiting.pop_front();
      Fail(*exchange,
           absl::DeadlineExceededError("the deadline passed before the request was sent"));
    } else {
      if (!link.window.TryTake(exchange->window_bytes())) return;
      link.waiting.pop_front();
      Send(*exchange);
    }
  }
}

void DataPath::Send(Exchange& exchange) {
  LaneLink& link = *exchange.link;
  const uint64_t now_ns = SteadyNanos();
  exchanges_.GoesOut(exchange);
  exchange.sent_ns = now_ns;
  wire::RequestHeader header;
  std::memcpy(&header, exchange.out.header.data(), sizeof(header));
  header.request_id = exchange.request_id;
  header.token_hi = link.token.hi;
  header.token_lo = link.token.lo;
  header.epoch = ToInt(exchange.epoch);
  header.generation = ToInt(link.generation);
  header.layout_hash = CarriesLayout(exchange.out.opcode) ? options_.wire.layout_hash : 0;
  header.payload_bytes = exchange.out.payload.size();
  const uint64_t left_us =
      exchange.deadline_ns > now_ns ? (exchange.deadline_ns - now_ns) / 1000 : 0;
  header.deadline_us =
      static_cast<uint32_t>(std::min<uint64_t>(left_us, std::numeric_limits<uint32_t>::max()));
  std::memcpy(exchange.out.header.data(), &header, sizeof(header));

  // A ping owes its answer to the liveness that sent it.
  if (exchange.out.opcode != wire::Opcode::kPing) link.liveness.OnSent(SteadyTime(now_ns));
  const std::weak_ptr<int> alive = alive_;
  link.endpoint->Send(wire::kRequestAm, exchange.out.header, exchange.out.payload,
                      [this, alive, id = exchange.id](absl::Status status) {
                        if (!alive.expired()) Sent(id, status);
                      });
}

void DataPath::Sent(uint64_t id, const absl::Status& status) {
  Exchange* exchange = exchanges_.Find(id);
  if (exchange == nullptr) return;
  const std::shared_ptr<LaneLink> link = exchange->link;
  Report(exchanges_.PayloadTaken(*exchange), link);
  if (status.ok()) return;
  if (exchange = exchanges_.Find(id); exchange != nullptr) {
    Fail(*exchange, absl::UnavailableError(absl::StrCat(
                        NameOf(*link), ": cannot send: ", std::string(status.message()))));
  }
}

void DataPath::FailLink(LaneLink& link, const absl::Status& status) {
  if (link.state == LaneLink::State::kFailed) return;
  link.state = LaneLink::State::kFailed;
  link.failure = status;
  link.waiting.clear();
  if (link.endpoint != nullptr) closing_.push_back(std::move(link.endpoint));
  ++counters_.links_failed;
  const auto node = nodes_.find(link.node);
  if (node != nodes_.end() && node->second.session.token == link.token)
    node->second.in_doubt = true;
  for (const uint64_t id : exchanges_.ids()) {
    Exchange* exchange = exchanges_.Find(id);
    if (exchange != nullptr && exchange->link.get() == &link) Fail(*exchange, status);
  }
}

LaneLink* DataPath::FindBySender(uint64_t sender) {
  if (sender == 0) return nullptr;
  for (auto& [id, node] : nodes_) {
    for (const auto& link : node.links) {
      if (link->sender == sender) return link.get();
    }
  }
  return nullptr;
}

}  // namespace latentd
