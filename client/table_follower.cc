#include "client/table_follower.h"

#include <algorithm>
#include <utility>

#include "client/channel.h"
#include "routing/table_delta.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

constexpr absl::Duration kStreamAge = absl::Seconds(20);
constexpr absl::Duration kLeastBackoff = absl::Milliseconds(100);
constexpr absl::Duration kMostBackoff = absl::Seconds(2);
constexpr absl::Duration kAskTimeout = absl::Seconds(1);
constexpr absl::Duration kAskAgainAfter = absl::Milliseconds(5);

}  // namespace

struct TableFollower::Stream {
  std::string address;
  std::unique_ptr<v1::Cluster::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReader<v1::RoutingTable>> reader;
  v1::RoutingTable message;
  grpc::Status status;
  std::shared_ptr<const RoutingTable> base;  // what the daemon thinks that we have
};

TableFollower::TableFollower(std::vector<std::string> endpoints,
                             std::shared_ptr<grpc::ChannelCredentials> credentials, GrpcLoop* loop,
                             Report report)
    : endpoints_(std::move(endpoints)),
      credentials_(std::move(credentials)),
      loop_(loop),
      report_(std::move(report)),
      backoff_(kLeastBackoff) {}

void TableFollower::Offer(std::shared_ptr<const RoutingTable> table, TableSource source) {
  const TableChoice choice = ChooseTable(table_.get(), *table, source);
  if (choice.conflict) report_(TableConflict{});
  if (!choice.take) return;
  table_ = std::move(table);
  report_(TableChanged{table_});
}

void TableFollower::Receive(const v1::RoutingTable& message, TableSource source) {
  // A table that cannot be read is as good as none: the one in use stays.
  if (auto table = FromProto(message); table.ok()) Offer(*std::move(table), source);
}

bool TableFollower::ReceiveFrom(Stream& stream) {
  const v1::RoutingTable& message = stream.message;
  auto table = message.base_epoch() == 0 ? FromProto(message) : ApplyDelta(*stream.base, message);
  if (!table.ok()) return false;
  stream.base = *std::move(table);
  Offer(stream.base, TableSource::kAnybody);
  return true;
}

std::string TableFollower::NextAddress() {
  const size_t nodes = table_->nodes().size();
  const size_t index = next_address_++ % (nodes + endpoints_.size());
  return index < nodes ? table_->nodes()[index].control_address : endpoints_[index - nodes];
}

void TableFollower::Follow(std::shared_ptr<const RoutingTable> table) {
  table_ = std::move(table);
  Watch();
}

void TableFollower::Watch() {
  if (loop_->stopping()) return;
  auto stream = std::make_shared<Stream>();
  stream_ = stream;
  stream->address = NextAddress();
  stream->stub = v1::Cluster::NewStub(MakeChannel(stream->address, credentials_));
  stream->context.set_deadline(std::chrono::system_clock::now() +
                               absl::ToChronoMilliseconds(kStreamAge));
  v1::WatchTableRequest request;
  request.set_known_epoch(ToInt(table_->epoch()));
  request.set_known_hash(HashTable(*table_));
  request.set_deltas(true);
  stream->base = table_;
  stream->reader =
      stream->stub->AsyncWatchTable(&stream->context, request, loop_->queue(),
                                    loop_->Tag([this, stream](bool) { ReadNext(stream); }));
}

void TableFollower::ReadNext(std::shared_ptr<Stream> stream) {
  stream->reader->Read(&stream->message, loop_->Tag([this, stream](bool ok) {
    if (!ok) return Ended(stream);
    if (ReceiveFrom(*stream)) {
      backoff_ = kLeastBackoff;
    } else if (stream->message.base_epoch() != 0) {
      stream->context.TryCancel();  // what follows cannot be read either: begin anew
    }
    ReadNext(stream);
  }));
}

void TableFollower::Ended(std::shared_ptr<Stream> stream) {
  stream->reader->Finish(&stream->status, loop_->Tag([this, stream](bool) {
    stream_ = nullptr;
    if (loop_->stopping()) return;
    if (stream->status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) return Watch();
    loop_->After(backoff_, [this] { Watch(); });
    backoff_ = std::min(2 * backoff_, kMostBackoff);
  }));
}

void TableFollower::Refresh(const NodeId& node, Epoch epoch) {
  if (table_->epoch() >= epoch || asking_) return;
  if (const auto index = table_->FindNode(node)) next_address_ = *index;
  asking_ = true;
  Ask(0, epoch);
}

void TableFollower::Ask(size_t asked, Epoch epoch) {
  if (table_->epoch() >= epoch || asked > 2 * (table_->nodes().size() + endpoints_.size())) {
    asking_ = false;
    return;
  }
  const std::shared_ptr<v1::Cluster::Stub> stub =
      v1::Cluster::NewStub(MakeChannel(NextAddress(), credentials_));
  loop_->Unary<v1::RoutingTable>(
      kAskTimeout,
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
        return stub->AsyncGetTable(context, v1::GetTableRequest(), queue);
      },
      [this, stub, asked, epoch](const grpc::Status& status, const v1::RoutingTable& table) {
        if (status.ok()) Receive(table);
        if (table_->epoch() >= epoch) return Ask(asked + 1, epoch);
        loop_->After(kAskAgainAfter, [this, asked, epoch] { Ask(asked + 1, epoch); });
      });
}

void TableFollower::AskHolder(const NodeId& node) {
  const auto index = table_->FindNode(node);
  if (!index.has_value()) return report_(HolderAsked{node});
  const std::shared_ptr<v1::Cluster::Stub> stub =
      v1::Cluster::NewStub(MakeChannel(table_->node(*index).control_address, credentials_));
  loop_->Unary<v1::RoutingTable>(
      kAskTimeout,
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) {
        return stub->AsyncGetTable(context, v1::GetTableRequest(), queue);
      },
      [this, stub, node](const grpc::Status& status, const v1::RoutingTable& table) {
        if (status.ok()) Receive(table, TableSource::kRefusal);
        report_(HolderAsked{node});
      });
}

void TableFollower::Suspect(const NodeId& node) {
  const auto index = table_->FindNode(node);
  if (stream_ == nullptr || !index.has_value()) return;
  // A process that hangs keeps its streams open. The next address is another's, and whoever it is
  // sends the table if it is newer.
  if (stream_->address == table_->node(*index).control_address) stream_->context.TryCancel();
}

void TableFollower::Cancel() {
  if (stream_ != nullptr) stream_->context.TryCancel();
}

}  // namespace latentd
