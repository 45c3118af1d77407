// `ListenerCheck` finds out whether this daemon's control plane still takes connections, by making
// one every few seconds. gRPC of this version stops accepting for good when it once finds no
// descriptor left; nothing but a new process helps then.
//
// A connection that is refused or fails in its handshake was taken by somebody, or could not be made
// here: only silence counts. Any thread; owns one of its own.
#ifndef LATENTD_DAEMON_SERVICES_LISTENER_CHECK_H_
#define LATENTD_DAEMON_SERVICES_LISTENER_CHECK_H_

#include <grpcpp/security/credentials.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/time/time.h"
#include "config/config.h"

namespace latentd {

struct ListenerCheckOptions {
  std::optional<TlsConfig> tls;  // none: plaintext
  absl::Duration interval = absl::Seconds(5);
  absl::Duration timeout = absl::Seconds(5);
  int silences = 3;  // in a row
};

class ListenerCheck {
 public:
  // `address` is where the control plane listens.
  ListenerCheck(std::string address, ListenerCheckOptions options);
  ~ListenerCheck();

  // Until proven otherwise.
  bool answers() const { return answers_; }

 private:
  void Run();
  bool Silent() const;
  void Note(bool silent);

  const std::string address_;
  const ListenerCheckOptions options_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::atomic<bool> answers_ = true;
  int silences_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_LISTENER_CHECK_H_
