#include "daemon/services/table_streams.h"

#include <utility>

#include "routing/table_proto.h"

namespace latentd {

// One client's stream. Its lock nests inside TableStreams'. At most one write and one Finish are
// under way, as gRPC demands; OnDone is the last call and comes from a thread that holds no lock of
// ours.
class TableStreams::Stream : public grpc::ServerWriteReactor<v1::RoutingTable> {
 public:
  Stream(TableStreams* streams, uint64_t known_epoch)
      : streams_(streams), sent_epoch_(known_epoch) {}

  void Offer(const Message& table) {
    const std::lock_guard<std::mutex> lock(mutex_);
    next_ = table;
    WriteNext();
  }

  void End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    FinishOnce(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the daemon is shutting down"));
  }

  void OnWriteDone(bool ok) override {
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
  void WriteNext() {
    if (finished_ || writing_ != nullptr || next_ == nullptr) return;
    if (next_->epoch() == sent_epoch_) return;
    writing_ = std::exchange(next_, nullptr);
    sent_epoch_ = writing_->epoch();
    StartWrite(writing_.get());
  }

  void FinishOnce(const grpc::Status& status) {
    if (std::exchange(finished_, true)) return;
    Finish(status);
  }

  TableStreams* const streams_;
  std::mutex mutex_;
  Message next_;
  Message writing_;  // kept until gRPC has written it
  uint64_t sent_epoch_;
  bool finished_ = false;
};

TableStreams::TableStreams() = default;
TableStreams::~TableStreams() = default;

void TableStreams::Publish(const RoutingTable& table) {
  auto message = std::make_shared<const v1::RoutingTable>(ToProto(table));
  const std::lock_guard<std::mutex> lock(mutex_);
  newest_ = std::move(message);
  for (Stream* stream : streams_) stream->Offer(newest_);
}

TableStreams::Message TableStreams::newest() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return newest_;
}

grpc::ServerWriteReactor<v1::RoutingTable>* TableStreams::NewStream(uint64_t known_epoch) {
  auto* stream = new Stream(this, known_epoch);
  const std::lock_guard<std::mutex> lock(mutex_);
  streams_.insert(stream);
  if (closed_) {
    stream->End();
  } else if (newest_ != nullptr) {
    stream->Offer(newest_);
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
