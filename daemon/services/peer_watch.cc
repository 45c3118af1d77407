#include "daemon/services/peer_watch.h"

#include <grpcpp/grpcpp.h>

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"
#include "daemon/services/credentials.h"
#include "proto/latentd/v1/admin.grpc.pb.h"

namespace latentd {
namespace {

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments;
  // A peer that is back is found at the next question; gRPC's own backoff goes up to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  // Nodes of a cluster are named as they are reached: no proxy in between.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

void Log(const PeerRecord& peer, const PeerNews& news) {
  const LogField id("peer", peer.id);
  const LogField address("address", peer.control_address);
  switch (news.event) {
    case PeerEvent::kUnreachable:
      return LogWarn("peer unreachable", {id, address, {"reason", news.detail}});
    case PeerEvent::kReachable:
      return LogInfo("peer reachable", {id, address, {"version", peer.version}});
    case PeerEvent::kRestarted:
      return LogInfo("peer restarted", {id, address});
    case PeerEvent::kDiffers:
      return LogWarn("peer differs from this node", {id, address, {"difference", news.detail}});
    case PeerEvent::kAgrees:
      return LogInfo("peer agrees with this node again", {id, address});
  }
}

}  // namespace

class PeerWatch::Channel {
 public:
  Channel(const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials)
      : address_(address), stub_(v1::Admin::NewStub(MakeChannel(address, credentials))) {}

  const std::string& address() const { return address_; }
  v1::Admin::Stub& stub() { return *stub_; }

 private:
  const std::string address_;
  const std::unique_ptr<v1::Admin::Stub> stub_;
};

struct PeerWatch::Question {
  NodeId id;
  grpc::ClientContext context;
  v1::StatusResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::StatusResponse>> reader;
};

PeerWatch::PeerWatch(const NodeFacts* facts, const Membership* membership, PeerWatchOptions options)
    : facts_(facts),
      membership_(membership),
      options_(std::move(options)),
      credentials_(PeerCredentials(options_.tls, options_.tls_reload)) {}

PeerWatch::~PeerWatch() { Stop(); }

void PeerWatch::Start() {
  thread_ = std::thread([this] { Run(); });
}

void PeerWatch::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    for (const auto& question : questions_) question->context.TryCancel();
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::vector<PeerRecord> PeerWatch::peers() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<PeerRecord> peers;
  for (const auto& [id, peer] : peers_) peers.push_back(peer);
  return peers;
}

std::optional<PeerRecord> PeerWatch::Find(const NodeId& id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto peer = peers_.find(id);
  if (peer == peers_.end()) return std::nullopt;
  return peer->second;
}

void PeerWatch::Run() {
  for (;;) {
    FollowMembership();
    AskAll();
    std::unique_lock<std::mutex> lock(mutex_);
    wake_.wait_for(lock, absl::ToChronoMilliseconds(options_.interval), [&] { return stopping_; });
    if (stopping_) return;
  }
}

void PeerWatch::FollowMembership() {
  std::set<NodeId> listed;
  for (const Member& member : membership_->ListNodes()) {
    if (member.node.id == facts_->id) continue;
    listed.insert(member.node.id);
    std::unique_ptr<Channel>& channel = channels_[member.node.id];
    if (channel != nullptr && channel->address() == member.node.control_address) continue;
    channel = std::make_unique<Channel>(member.node.control_address, credentials_);
    const std::lock_guard<std::mutex> lock(mutex_);
    PeerRecord& peer = peers_[member.node.id];
    peer.id = member.node.id;
    peer.control_address = member.node.control_address;
  }
  std::erase_if(channels_, [&](const auto& entry) { return !listed.contains(entry.first); });
  const std::lock_guard<std::mutex> lock(mutex_);
  std::erase_if(peers_, [&](const auto& entry) { return !listed.contains(entry.first); });
}

void PeerWatch::AskAll() {
  grpc::CompletionQueue queue;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;
    for (const auto& [id, channel] : channels_) {
      questions_.push_back(std::make_unique<Question>());
      Question& question = *questions_.back();
      question.id = id;
      question.context.set_deadline(absl::ToChronoTime(absl::Now() + options_.timeout));
      question.reader = channel->stub().AsyncStatus(&question.context, {}, &queue);
      question.reader->Finish(&question.response, &question.status, &question);
    }
  }
  const OwnSide own = Own();
  void* tag = nullptr;
  bool ok = false;
  for (size_t answers = 0; answers < channels_.size() && queue.Next(&tag, &ok); ++answers) {
    Take(*static_cast<const Question*>(tag), own);
  }
  queue.Shutdown();
  const std::lock_guard<std::mutex> lock(mutex_);
  questions_.clear();
}

void PeerWatch::Take(const Question& question, const OwnSide& own) {
  absl::StatusOr<v1::StatusResponse> answer = question.response;
  if (!question.status.ok()) {
    answer = absl::Status(static_cast<absl::StatusCode>(question.status.error_code()),
                          question.status.error_message());
  }
  PeerRecord peer;
  std::vector<PeerNews> news;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (stopping_) return;  // cancelled by us, which says nothing of the peer
    PeerRecord& record = peers_.at(question.id);
    news = Observe(answer, own, SteadyNow(), record);
    peer = record;
  }
  for (const PeerNews& item : news) Log(peer, item);
}

OwnSide PeerWatch::Own() {
  OwnSide own{.layout = facts_->layout, .epochs_move = membership_->authority().has_value()};
  if (const TablePtr table = membership_->table()) {
    own.epoch = ToInt(table->epoch());
    own.table_fingerprint = fingerprints_.Of(table);
  }
  return own;
}

}  // namespace latentd
