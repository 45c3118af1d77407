// A second process for tests and benchmarks: this binary again, started with --peer. Test support.
#ifndef LATENTD_TRANSPORT_PEER_PROCESS_H_
#define LATENTD_TRANSPORT_PEER_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "transport/worker.h"

namespace latentd {

// What a peer does with its worker, for ever.
inline constexpr char kEchoRole[] =
    "echo";  // answers each kPeerAm message with its header and payload
inline constexpr char kFloodRole[] = "flood";  // sends 8000-byte messages as fast as it can
inline constexpr char kQuitRole[] =
    "quit";  // echoes; on the header "quit" closes its endpoint and exits in order

// Receives each kPeerAm message whole and answers with as many bytes as its header, a uint64_t,
// says.
inline constexpr char kSizedRole[] = "sized";

inline constexpr unsigned kPeerAm = 1;
inline constexpr unsigned kPeerAnswerAm = 2;

// A running peer. Killed (-9) when destroyed.
class PeerProcess {
 public:
  // Starts a peer and exchanges addresses with it: `address` is the caller's worker's.
  static absl::StatusOr<std::unique_ptr<PeerProcess>> Start(const std::string& role,
                                                            const std::string& transport,
                                                            const std::string& address);
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  const std::string& address() const { return address_; }
  pid_t pid() const { return pid_; }
  void Signal(int signal) const;
  // Waits for its exit; the status of waitpid.
  int Wait();

 private:
  PeerProcess(pid_t pid, std::string address) : pid_(pid), address_(std::move(address)) {}

  pid_t pid_;
  const std::string address_;
};

// To be called first thing in main(): does not return if this process was started as a peer.
void RunIfPeer(int argc, char** argv);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_PEER_PROCESS_H_
