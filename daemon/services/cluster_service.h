// The gRPC service `Cluster`: the routing table, its changes, the nodes. Any daemon answers for the
// whole cluster.
//
// Any thread. What it is given must outlive the gRPC server.
#ifndef LATENTD_DAEMON_SERVICES_CLUSTER_SERVICE_H_
#define LATENTD_DAEMON_SERVICES_CLUSTER_SERVICE_H_

#include <grpcpp/grpcpp.h>

#include "daemon/calibration/calibrator.h"
#include "daemon/membership/membership.h"
#include "daemon/services/node_facts.h"
#include "daemon/services/peer_watch.h"
#include "daemon/services/table_streams.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"

namespace latentd {

class ClusterService : public v1::Cluster::CallbackService {
 public:
  ClusterService(const NodeFacts* facts, const Membership* membership, TableStreams* streams,
                 const PeerWatch* peers, const Calibrator* calibration)
      : facts_(facts),
        membership_(membership),
        streams_(streams),
        peers_(peers),
        calibration_(calibration) {}

  grpc::ServerUnaryReactor* GetTable(grpc::CallbackServerContext* context,
                                     const v1::GetTableRequest* request,
                                     v1::RoutingTable* response) override;
  grpc::ServerWriteReactor<v1::RoutingTable>* WatchTable(
      grpc::CallbackServerContext* context, const v1::WatchTableRequest* request) override;
  grpc::ServerUnaryReactor* ListNodes(grpc::CallbackServerContext* context,
                                      const v1::ListNodesRequest* request,
                                      v1::ListNodesResponse* response) override;
  grpc::ServerUnaryReactor* GetCosts(grpc::CallbackServerContext* context,
                                     const v1::GetCostsRequest* request,
                                     v1::GetCostsResponse* response) override;

 private:
  const NodeFacts* const facts_;
  const Membership* const membership_;
  TableStreams* const streams_;
  const PeerWatch* const peers_;
  const Calibrator* const calibration_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_CLUSTER_SERVICE_H_
