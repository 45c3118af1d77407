#include "daemon/process/run.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/process/descriptors.h"
#include "daemon/process/lanes.h"
#include "daemon/process/log.h"
#include "daemon/process/notify.h"
#include "daemon/process/parts.h"
#include "daemon/process/server.h"
#include "daemon/process/signals.h"
#include "daemon/process/version.h"
#include "daemon/process/watchdog.h"
#include "daemon/services/listener_check.h"

namespace latentd {
namespace {

LogSeverity SeverityOf(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return LogSeverity::kTrace;
    case LogLevel::kDebug:
      return LogSeverity::kDebug;
    case LogLevel::kInfo:
      return LogSeverity::kInfo;
    case LogLevel::kWarn:
      return LogSeverity::kWarn;
    case LogLevel::kError:
      return LogSeverity::kError;
  }
  return LogSeverity::kInfo;
}

LogStyle StyleOf(LogFormat format) {
  if (format == LogFormat::kJson) return LogStyle::kJson;
  return StderrIsJournal() ? LogStyle::kJournal : LogStyle::kText;
}

// Lanes whose devices work. A daemon that has lost them all holds nothing and ends; its successor is
// a new generation.
std::atomic<size_t> working_lanes{0};

void WatchDevices(const std::vector<std::unique_ptr<Lane>>& lanes) {
  working_lanes = lanes.size();
  for (const auto& lane : lanes) {
    lane->SetDeviceLostCallback([](const absl::Status&) {
      if (--working_lanes == 0) kill(getpid(), SIGTERM);
    });
  }
}

absl::StatusOr<std::unique_ptr<Server>> StartServer(const Config& config) {
  const Layout layout = LayoutOf(config);
  const Generation generation = DrawGeneration();
  LogInfo("starting", {{"version", kVersion},
                       {"node", config.node.id},
                       {"generation", absl::StrCat(absl::Hex(ToInt(generation), absl::kZeroPad16))},
                       {"layout", ToString(layout)},
                       {"layout_hash", ToString(HashLayout(layout))}});
  absl::StatusOr<ServerParts> parts = MakeParts(config, generation);
  if (!parts.ok()) return parts.status();
  WatchDevices(parts->lanes);
  return Server::Start(config, generation, *std::move(parts));
}

// Requests in flight of a server, until that is gone. Any thread.
class InFlight {
 public:
  explicit InFlight(const Server* server) : server_(server) {}
  uint64_t Get() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return server_ == nullptr ? 0 : server_->RequestsInFlight();
  }
  void Forget() {
    const std::lock_guard<std::mutex> lock(mutex_);
    server_ = nullptr;
  }

 private:
  std::mutex mutex_;
  const Server* server_;
};

std::unique_ptr<Watchdog> MakeWatchdog(const Server& server, const ListenerCheck& listener) {
  const std::optional<absl::Duration> timeout = WatchdogTimeout();
  if (!timeout) return nullptr;
  return std::make_unique<Watchdog>(
      *timeout, [&server] { return server.LaneTurns(); },
      [&listener] {
        if (listener.answers()) NotifyWatchdog();
      });
}

int Serve(const Config& config) {
  const absl::Time began = absl::Now();
  RaiseDescriptorLimit(config);
  absl::StatusOr<std::unique_ptr<Server>> started = StartServer(config);
  if (!started.ok()) {
    LogError("cannot start", {{"reason", std::string(started.status().message())}});
    return kExitFailure;
  }
  Server& server = **started;
  NotifyReady(absl::StrCat("serving on ", server.control_address()));
  LogInfo("ready", {{"node", config.node.id},
                    {"control", server.control_address()},
                    {"metrics", server.metrics_address()},
                    {"lanes", config.data.lanes.size()},
                    {"startup_ms", absl::ToInt64Milliseconds(absl::Now() - began)}});
  const ListenerCheck listener(server.control_address(), {.tls = config.control.tls});
  const std::unique_ptr<Watchdog> watchdog = MakeWatchdog(server, listener);

  const int signal = AwaitTermination();
  const auto in_flight = std::make_shared<InFlight>(&server);
  ExitOnTermination(kExitFailure, [in_flight] { return in_flight->Get(); });
  const absl::Duration limit = absl::Milliseconds(config.drain.timeout_ms);
  NotifyStopping(absl::StrCat("draining ", server.RequestsInFlight(), " requests"), limit);
  LogInfo("stopping", {{"signal", SignalName(signal)},
                       {"requests_in_flight", server.RequestsInFlight()},
                       {"drain_timeout_ms", config.drain.timeout_ms}});
  const absl::Status stopped = server.Stop(absl::Now() + limit);
  in_flight->Forget();
  if (!stopped.ok()) {
    LogWarn("drained incompletely", {{"reason", std::string(stopped.message())}});
  }
  LogInfo("stopped");
  if (working_lanes > 0) return kExitOk;
  LogError("every lane has lost its device");
  return kExitFailure;
}

}  // namespace

int RunDaemon(const Config& config) {
  StartLogging(SeverityOf(config.log.level), StyleOf(config.log.format));
  const int code = Serve(config);
  FlushLog();
  return code;
}

}  // namespace latentd
