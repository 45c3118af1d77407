// The types of `Etcd` as etcd's messages, and back. Pure; any thread.
#ifndef LATENTD_DAEMON_ETCD_ETCD_MESSAGES_H_
#define LATENTD_DAEMON_ETCD_ETCD_MESSAGES_H_

#include <string>

#include "daemon/etcd/etcd.h"
#include "proto/etcd/rpc.pb.h"

namespace latentd {

// Where keys that start with `prefix` begin and end.
struct EtcdRange {
  std::string key;
  std::string end;
};
EtcdRange RangeOfPrefix(const std::string& prefix);

etcdserverpb::TxnRequest ToTxnRequest(const EtcdTransaction& transaction);
// For people: the keys of the transaction, not all if there are many.
std::string Describe(const EtcdTransaction& transaction);

EtcdEntry FromKeyValue(mvccpb::KeyValue&& kv);
EtcdEvent FromEvent(mvccpb::Event&& event);

}  // namespace latentd

#endif  // LATENTD_DAEMON_ETCD_ETCD_MESSAGES_H_
