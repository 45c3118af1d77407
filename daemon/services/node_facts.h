// What does not change about a running node and is told to whoever asks. Values; any thread.
#ifndef LATENTD_DAEMON_SERVICES_NODE_FACTS_H_
#define LATENTD_DAEMON_SERVICES_NODE_FACTS_H_

#include <string>

#include "absl/time/time.h"
#include "routing/ids.h"
#include "routing/layout.h"

namespace latentd {

struct NodeFacts {
  NodeId id;
  Generation generation{};
  Layout layout;
  std::string version;
  absl::Time started;  // wall clock
  std::string cuda;    // devices there are, or why there are none
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_NODE_FACTS_H_
