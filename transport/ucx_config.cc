#include "transport/ucx_config.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace latentd {
namespace {

bool IsSharedMemory(const std::string& transport) {
  return transport == "shm" || transport == "sm" || transport == "mm" || transport == "posix" ||
         transport == "sysv";
}

// 31 KiB of header are 1,300 chunks of an ATTEND. A worker keeps 256 buffers of it: 8 MiB, of which
// it touches few.
constexpr char kSegSize[] = "SEG_SIZE";
constexpr char kSegSizeValue[] = "32K";
constexpr size_t kSafeHeaderBytes = 31 << 10;
// UCX's own default is 8 KiB; whoever sets it in the environment is not asked what to.
constexpr size_t kSafeHeaderBytesUnknown = 4 << 10;

}  // namespace

size_t SafeHeaderBytes(const UcxEnvironment& environment) {
  return environment(kSegSize) != nullptr ? kSafeHeaderBytesUnknown : kSafeHeaderBytes;
}

bool UsesSharedMemory(const std::vector<std::string>& transports) {
  return transports.front()[0] != '^' &&
         std::any_of(transports.begin(), transports.end(), IsSharedMemory);
}

std::vector<std::string> ChosenTransports(const ContextOptions& options,
                                          const UcxEnvironment& environment) {
  std::vector<std::string> names = options.transports;
  if (const char* value = environment("TLS"); names.empty() && value != nullptr) {
    names = absl::StrSplit(value, ',', absl::SkipWhitespace());
  }
  if (names.empty() || names.front() == "all") return {"^shm"};
  if (names.front()[0] == '^') {
    names.push_back("shm");
    return names;
  }
  const bool has_cuda = std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.rfind("cuda", 0) == 0;
  });
  // Without any CUDA transport UCX cannot even stage device memory through the host.
  if (options.cuda && !has_cuda) names.push_back("cuda");
  return names;
}

std::vector<UcxSetting> UcxSettings(const ContextOptions& options,
                                    const UcxEnvironment& environment) {
  const std::vector<std::string> transports = ChosenTransports(options, environment);
  std::vector<UcxSetting> settings = {{"TLS", absl::StrJoin(transports, ","), true}};
  const auto add = [&](const std::string& name, const std::string& value) {
    if (environment(name) == nullptr) settings.push_back({name, value});
  };
  if (UsesSharedMemory(transports)) {
    // UCX hides that its shared memory can handle errors, and would then refuse it to endpoints
    // that want to hear of a peer's death. With these, keepalive finds a dead peer by its process.
    // What UCX has in mind stays true: a sender that dies while it writes leaves a hole in the
    // receiver's queue. See README.md before asking for shm.
    add("POSIX_ERROR_HANDLING", "y");
    add("SYSV_ERROR_HANDLING", "y");
  }
  add(kSegSize, kSegSizeValue);
  // UCX cuts messages over tcp into 8 KiB pieces by default, which costs a copy and a header each:
  // 128 heads' query (147,456 B) there and back takes 262 us, with 64 KiB pieces 115, 128 KiB 91,
  // 256 KiB 75, 512 KiB 81; throughput goes from 1.0 to 4.8 GB/s. Longer
  // headers need it too.
  add("TCP_TX_SEG_SIZE", "256K");
  add("TCP_RX_SEG_SIZE", "256K");
  // 20 s by default: a peer whose host vanished would hold its requests for that long.
  add("KEEPALIVE_INTERVAL", "1s");
  return settings;
}

}  // namespace latentd
