#include "daemon/etcd/etcd_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/etcd/etcd_messages.h"

namespace latentd {

namespace pb = etcdserverpb;

namespace {

std::string Named(const char* verb, EtcdLease lease) {
  return absl::StrCat(verb, " lease ", absl::Hex(static_cast<int64_t>(lease)));
}

// etcd's own renewing is a stream; one question and one answer of it are a call.
std::shared_ptr<Rpc> KeepAliveOnce(RpcSet* rpcs, const EtcdMember& member,
                                   const RpcMetadata& metadata, EtcdLease lease,
                                   const std::shared_ptr<pb::LeaseKeepAliveResponse>& answer,
                                   const EtcdRequest::End& end) {
  using Stream = RpcSet::Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>;
  const auto self = std::make_shared<std::weak_ptr<Stream>>();
  const auto stream = rpcs->Open<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>(
      metadata,
      [stub = member.lease.get()](auto* context, auto* reactor) {
        stub->async()->LeaseKeepAlive(context, reactor);
      },
      [answer, end, self](pb::LeaseKeepAliveResponse& response) {
        *answer = response;
        const auto told = end;  // Cancel destroys what this closure holds
        if (const auto open = self->lock()) open->Cancel();
        told(grpc::Status::OK);
      },
      [end](const grpc::Status& status) {
        end(status.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "ended without an answer")
                        : status);
      });
  *self = stream;
  pb::LeaseKeepAliveRequest request;
  request.set_id(static_cast<int64_t>(lease));
  stream->Write(std::move(request));
  return stream;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EtcdClient>> EtcdClient::Make(EventLoop* loop, EtcdOptions options) {
  if (absl::Status status = CheckEtcdOptions(options); !status.ok()) return status;
  return std::unique_ptr<EtcdClient>(new EtcdClient(loop, std::move(options)));
}

EtcdClient::EtcdClient(EventLoop* loop, EtcdOptions options)
    : options_(std::move(options)),
      members_(options_),
      rpcs_(loop),
      tokens_(options_, &members_, &rpcs_),
      connection_{.loop = loop,
                  .members = &members_,
                  .tokens = &tokens_,
                  .rpcs = &rpcs_,
                  .user = options_.user},
      watchers_(std::make_shared<EtcdWatchers>()) {}

EtcdClient::~EtcdClient() {
  for (EtcdWatcher* watcher : std::exchange(watchers_->open, {})) watcher->Close();
}

void EtcdClient::Run(EtcdRequest::What what) {
  const auto slot = std::make_shared<std::weak_ptr<EtcdRequest>>();
  what.done = [this, slot, done = std::move(what.done)](absl::Status status) {
    requests_.erase(slot->lock());
    done(std::move(status));
  };
  const auto request = std::make_shared<EtcdRequest>(connection_, std::move(what));
  *slot = request;
  requests_.insert(request);
  request->Start();
}

template <typename Response, typename Request, typename T, typename Call, typename Read>
void EtcdClient::Unary(std::string name, bool repeatable, absl::Duration timeout, Request request,
                       Call call, Read read, Done<T> done) {
  const auto answer = std::make_shared<Response>();
  Run({.name = std::move(name),
       .repeatable = repeatable,
       .timeout = timeout,
       .send =
           [this, answer, call, request = std::move(request)](
               const EtcdMember& member, const RpcMetadata& metadata, EtcdRequest::End end) {
             return rpcs_.Unary<Response>(
                 metadata, request,
                 [&member, call](auto... arguments) { call(member, std::move(arguments)...); },
                 [answer, end = std::move(end)](const grpc::Status& status, Response& response) {
                   answer->Swap(&response);
                   end(status);
                 });
           },
       .done =
           [answer, read, done = std::move(done)](absl::Status status) {
             if (status.ok()) {
               done(read(*answer));
             } else {
               done(std::move(status));
             }
           }});
}

void EtcdClient::List(std::string prefix, absl::Duration timeout, Done<EtcdListing> done) {
  EtcdRange range = RangeOfPrefix(prefix);
  pb::RangeRequest request;
  request.set_key(std::move(range.key));
  request.set_range_end(std::move(range.end));
  Unary<pb::RangeResponse>(
      absl::StrCat("list of '", prefix, "'"), /*repeatable=*/true, timeout, std::move(request),
      [](const EtcdMember& member, auto... call) { member.kv->async()->Range(call...); },
      [](pb::RangeResponse& response) {
        EtcdListing listing{.revision = response.header().revision()};
        listing.entries.reserve(static_cast<size_t>(response.kvs_size()));
        for (auto& kv : *response.mutable_kvs()) {
          listing.entries.push_back(FromKeyValue(std::move(kv)));
        }
        return listing;
      },
      std::move(done));
}

void EtcdClient::Commit(EtcdTransaction transaction, absl::Duration timeout,
                        Done<EtcdOutcome> done) {
  Unary<pb::TxnResponse>(
      Describe(transaction), /*repeatable=*/false, timeout, ToTxnRequest(transaction),
      [](const EtcdMember& member, auto... call) { member.kv->async()->Txn(call...); },
      [](pb::TxnResponse& response) {
        return EtcdOutcome{.done = response.succeeded(), .revision = response.header().revision()};
      },
      std::move(done));
}

void EtcdClient::GrantLease(absl::Duration ttl, absl::Duration timeout, Done<Granted> done) {
  pb::LeaseGrantRequest request;
  request.set_ttl(std::max<int64_t>(1, absl::ToInt64Seconds(absl::Ceil(ttl, absl::Seconds(1)))));
  // Of two that are granted, the one that nobody knows runs out.
  Unary<pb::LeaseGrantResponse>(
      "grant of a lease", /*repeatable=*/true, timeout, std::move(request),
      [](const EtcdMember& member, auto... call) { member.lease->async()->LeaseGrant(call...); },
      [](pb::LeaseGrantResponse& response) {
        return Granted{.lease = EtcdLease{response.id()}, .ttl = absl::Seconds(response.ttl())};
      },
      std::move(done));
}

void EtcdClient::RevokeLease(EtcdLease lease, absl::Duration timeout, Done<bool> done) {
  pb::LeaseRevokeRequest request;
  request.set_id(static_cast<int64_t>(lease));
  Unary<pb::LeaseRevokeResponse>(
      Named("revoke of", lease), /*repeatable=*/true, timeout, std::move(request),
      [](const EtcdMember& member, auto... call) { member.lease->async()->LeaseRevoke(call...); },
      [](pb::LeaseRevokeResponse&) { return true; }, std::move(done));
}

void EtcdClient::KeepAlive(EtcdLease lease, absl::Duration timeout, Done<absl::Duration> done) {
  const auto answer = std::make_shared<pb::LeaseKeepAliveResponse>();
  const std::string name = Named("keep alive of", lease);
  Run({.name = name,
       .repeatable = true,
       .timeout = timeout,
       .send =
           [this, answer, lease](const EtcdMember& member, const RpcMetadata& metadata,
                                 EtcdRequest::End end) {
             return KeepAliveOnce(&rpcs_, member, metadata, lease, answer, end);
           },
       .done =
           [answer, name, done = std::move(done)](absl::Status status) {
             if (!status.ok()) {
               done(std::move(status));
             } else if (answer->ttl() <= 0) {
               done(absl::NotFoundError(absl::StrCat("etcd: ", name, ": the lease is over")));
             } else {
               done(absl::Seconds(answer->ttl()));
             }
           }});
}

std::unique_ptr<EtcdWatch> EtcdClient::Watch(
    std::string prefix, int64_t revision,
    std::function<void(int64_t revision, std::vector<EtcdEvent> events)> on_events,
    std::function<void(absl::Status)> on_end) {
  return std::make_unique<EtcdWatcher>(connection_, options_.watch_silence, watchers_,
                                       std::move(prefix), revision, std::move(on_events),
                                       std::move(on_end));
}

}  // namespace latentd
