#include "daemon/services/table_streams.h"

#include <utility>

#include "routing/table_delta.h"
#include "routing/table_proto.h"

namespace latentd {

namespace {

constexpr size_t kPastTables = 16;

}  // namespace

// One client's stream. Its lock nests inside TableStreams'. At most one write and one Finish are
// under way, as gRPC demands; OnDone is the last call and comes from a thread that holds no lock of
// ours.
class TableStreams::Stream : public grpc::ServerWriteReactor<v1::RoutingTable> {
 public:
  Stream(TableStreams* streams, const v1::WatchTableRequest& request)
      : streams_(streams),
        deltas_(request.deltas()),
        sent_epoch_(request.known_epoch()),
        sent_hash_(request.known_hash()) {}

  // TableStreams' lock is held.
  void OfferNewest() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ready_ = true;
    WriteNext();
  }

  void End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the daemon is shutting down"));
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard<std::mutex> tables(streams_->mutex_);
    const std::lock_guard<std::mutex> lock(mutex_);
    writing_.reset();
    if (!ok) return FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the stream broke"));
    WriteNext();
  }

  void OnCancel() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    FinishOnce(grpc::Status::CANCELLED);
  }

  void OnDone() override {
    {
      const std::lock_guard<std::mutex> lock(streams_->mutex_);
      streams_->streams_.erase(this);
    }
    delete this;
  }

 private:
  // Both locks are held.
  void WriteNext() {
    if (finished_ || writing_ != nullptr || !ready_) return;
    if (streams_->newest_->epoch() == sent_epoch_) return;
    writing_ = deltas_ ? streams_->SinceLocked(sent_hash_) : streams_->newest_;
    sent_epoch_ = streams_->newest_->epoch();
    sent_hash_ = streams_->newest_hash_;
    StartWrite(writing_.get());
  }

  void FinishOnce(const grpc::Status& status) {
    if (std::exchange(finished_, true)) return;
    Finish(status);
  }

  TableStreams* const streams_;
  std::mutex mutex_;
  const bool deltas_;
  bool ready_ = false;  // there is a table
  Message writing_;     // kept until gRPC has written it
  uint64_t sent_epoch_;
  uint64_t sent_hash_;
  bool finished_ = false;
};

TableStreams::TableStreams() = default;
TableStreams::~TableStreams() = default;

void TableStreams::Publish(TablePtr table) {
  auto message = std::make_shared<const v1::RoutingTable>(ToProto(*table));
  const uint64_t hash = HashTable(*table);
  const std::lock_guard<std::mutex> lock(mutex_);
  newest_ = std::move(message);
  newest_hash_ = hash;
  for (Past& past : past_) past.delta = nullptr;
  past_.push_back({std::move(table), hash, nullptr});
  if (past_.size() > kPastTables) past_.pop_front();
  for (Stream* stream : streams_) stream->OfferNewest();
}

TableStreams::Message TableStreams::SinceLocked(uint64_t hash) {
  for (Past& past : past_) {
    if (past.hash != hash) continue;
    if (past.delta == nullptr) {
      auto delta = MakeDelta(*past.table, *past_.back().table);
      past.delta =
          delta.has_value() ? std::make_shared<const v1::RoutingTable>(*std::move(delta)) : newest_;
    }
    return past.delta;
  }
  return newest_;
}

TableStreams::Message TableStreams::newest() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return newest_;
}

grpc::ServerWriteReactor<v1::RoutingTable>* TableStreams::NewStream(
    const v1::WatchTableRequest& request) {
  auto* stream = new Stream(this, request);
  const std::lock_guard<std::mutex> lock(mutex_);
  streams_.insert(stream);
  if (closed_) {
    stream->End();
  } else if (newest_ != nullptr) {
    stream->OfferNewest();
  }
  return stream;
}

void TableStreams::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  for (Stream* stream : streams_) stream->End();
}

size_t TableStreams::count() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return streams_.size();
}

}  // namespace latentd
