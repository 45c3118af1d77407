#include "daemon/etcd/etcd_messages.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr size_t kKeysToName = 3;

etcdserverpb::Compare ToCompare(const EtcdGuard& guard) {
  etcdserverpb::Compare compare;
  compare.set_result(etcdserverpb::Compare::EQUAL);
  compare.set_key(guard.key);
  switch (guard.field) {
    case EtcdGuard::Field::kCreateRevision:
      compare.set_target(etcdserverpb::Compare::CREATE);
      compare.set_create_revision(guard.revision);
      break;
    case EtcdGuard::Field::kModRevision:
      compare.set_target(etcdserverpb::Compare::MOD);
      compare.set_mod_revision(guard.revision);
      break;
  }
  return compare;
}

etcdserverpb::RequestOp ToRequestOp(const EtcdWrite& write) {
  etcdserverpb::RequestOp op;
  if (write.erase_prefix) {
    EtcdRange range = RangeOfPrefix(write.key);
    op.mutable_request_delete_range()->set_key(std::move(range.key));
    op.mutable_request_delete_range()->set_range_end(std::move(range.end));
  } else if (write.erase) {
    op.mutable_request_delete_range()->set_key(write.key);
  } else {
    op.mutable_request_put()->set_key(write.key);
    op.mutable_request_put()->set_value(write.value);
    op.mutable_request_put()->set_lease(static_cast<int64_t>(write.lease));
  }
  return op;
}

}  // namespace

EtcdRange RangeOfPrefix(const std::string& prefix) {
  // etcd's way to say "to the last key": an end of one zero byte.
  const std::string zero(1, '\0');
  std::string end = prefix;
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (end.empty()) return {prefix.empty() ? zero : prefix, zero};
  end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return {prefix, end};
}

etcdserverpb::TxnRequest ToTxnRequest(const EtcdTransaction& transaction) {
  etcdserverpb::TxnRequest request;
  for (const EtcdGuard& guard : transaction.guards) *request.add_compare() = ToCompare(guard);
  for (const EtcdWrite& write : transaction.writes) *request.add_success() = ToRequestOp(write);
  return request;
}

std::string Describe(const EtcdTransaction& transaction) {
  std::string text = "commit of";
  size_t named = 0;
  for (const EtcdWrite& write : transaction.writes) {
    if (named == kKeysToName) {
      return absl::StrCat(text, " and ", transaction.writes.size() - named, " more");
    }
    absl::StrAppend(&text, named++ == 0 ? " '" : ", '", write.key, "'");
  }
  return named == 0 ? absl::StrCat(text, " nothing") : text;
}

EtcdEntry FromKeyValue(mvccpb::KeyValue&& kv) {
  return {.key = std::move(*kv.mutable_key()),
          .value = std::move(*kv.mutable_value()),
          .create_revision = kv.create_revision(),
          .mod_revision = kv.mod_revision(),
          .lease = EtcdLease{kv.lease()}};
}

EtcdEvent FromEvent(mvccpb::Event&& event) {
  return {.erased = event.type() == mvccpb::Event::DELETE,
          .entry = FromKeyValue(std::move(*event.mutable_kv()))};
}

}  // namespace latentd
