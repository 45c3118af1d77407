#include "transport/ucx_config.h"

#include <map>
#include <string>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

using Environment = std::map<std::string, std::string>;

UcxEnvironment Lookup(const Environment& environment) {
  return [&environment](const std::string& name) {
    const auto found = environment.find(name);
    return found == environment.end() ? nullptr : found->second.c_str();
  };
}

std::map<std::string, std::string> Settings(const ContextOptions& options,
                                            const Environment& environment = {}) {
  std::map<std::string, std::string> out;
  for (const UcxSetting& setting : UcxSettings(options, Lookup(environment))) {
    out[setting.name] = setting.value;
  }
  return out;
}

TEST_CASE("automatic transports are all but shared memory, which only a peer would use") {
  const auto settings = Settings({});
  CHECK(settings.at("TLS") == "^shm");
  CHECK(settings.count("POSIX_ERROR_HANDLING") == 0);
  CHECK(settings.at("KEEPALIVE_INTERVAL") == "1s");
  CHECK(settings.at("TCP_TX_SEG_SIZE") == "256K");
  CHECK(Settings({.cuda = true}).at("TLS") == "^shm");
  CHECK(Settings({.transports = {"all"}}).at("TLS") == "^shm");
}

TEST_CASE("the environment narrows automatic transports, and may ask for shared memory by name") {
  CHECK(Settings({}, {{"TLS", "tcp"}}).at("TLS") == "tcp");
  CHECK(Settings({}, {{"TLS", ""}}).at("TLS") == "^shm");
  CHECK(Settings({}, {{"TLS", "all"}}).at("TLS") == "^shm");
  CHECK(Settings({}, {{"TLS", "^cuda_ipc"}}).at("TLS") == "^cuda_ipc,shm");
  CHECK(Settings({}, {{"TLS", "^shm"}}).count("POSIX_ERROR_HANDLING") == 0);
  CHECK(Settings({}, {{"TLS", "tcp,posix"}}).at("TLS") == "tcp,posix");
  CHECK(Settings({}, {{"TLS", "tcp,posix"}}).at("POSIX_ERROR_HANDLING") == "y");
}

TEST_CASE("named transports are asked for, with CUDA where device memory is used") {
  CHECK(Settings({.transports = {"rc", "tcp"}}).at("TLS") == "rc,tcp");
  CHECK(Settings({.transports = {"tcp"}, .cuda = true}).at("TLS") == "tcp,cuda");
  CHECK(Settings({.transports = {"tcp", "cuda_copy"}, .cuda = true}).at("TLS") == "tcp,cuda_copy");
}

TEST_CASE("shared memory is made to report dead peers") {
  for (const std::string name : {"shm", "posix", "sysv"}) {
    const auto settings = Settings({.transports = {"tcp", name}});
    CHECK(settings.at("POSIX_ERROR_HANDLING") == "y");
    CHECK(settings.at("SYSV_ERROR_HANDLING") == "y");
  }
  CHECK(Settings({.transports = {"tcp"}}).count("POSIX_ERROR_HANDLING") == 0);
}

TEST_CASE("what the environment sets is left alone, except for transports that are configured") {
  const auto settings =
      Settings({.transports = {"shm"}},
               {{"TLS", "tcp"}, {"KEEPALIVE_INTERVAL", "9s"}, {"POSIX_ERROR_HANDLING", "n"}});
  CHECK(settings.count("KEEPALIVE_INTERVAL") == 0);
  CHECK(settings.count("POSIX_ERROR_HANDLING") == 0);
  CHECK(settings.at("SYSV_ERROR_HANDLING") == "y");
  CHECK(settings.at("TLS") == "shm");
}

TEST_CASE("the longest header fits the buffers that are asked for") {
  CHECK(Settings({}).at("SEG_SIZE") == "32K");
  const Environment none;
  CHECK(SafeHeaderBytes(Lookup(none)) < 32 << 10);
  const Environment other = {{"SEG_SIZE", "8K"}};
  CHECK(SafeHeaderBytes(Lookup(other)) < 8 << 10);
}

}  // namespace
}  // namespace latentd
