#include "transport/ucx_config.h"

#include <map>
#include <set>
#include <string>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

std::map<std::string, std::string> Settings(const ContextOptions& options,
                                            const std::set<std::string>& environment = {}) {
  std::map<std::string, std::string> out;
  for (const UcxSetting& setting : UcxSettings(
           options, [&](const std::string& name) { return environment.count(name) != 0; })) {
    out[setting.name] = setting.value;
  }
  return out;
}

TEST_CASE("automatic transports leave the choice to UCX") {
  const auto settings = Settings({});
  CHECK(settings.count("TLS") == 0);
  CHECK(settings.count("POSIX_ERROR_HANDLING") == 0);
  CHECK(settings.at("KEEPALIVE_INTERVAL") == "1s");
  CHECK(settings.at("TCP_TX_SEG_SIZE") == "256K");
}

TEST_CASE("named transports are asked for, with CUDA where device memory is used") {
  CHECK(Settings({.transports = {"rc", "tcp"}}).at("TLS") == "rc,tcp");
  CHECK(Settings({.transports = {"tcp"}, .cuda = true}).at("TLS") == "tcp,cuda");
  CHECK(Settings({.transports = {"tcp", "cuda_copy"}, .cuda = true}).at("TLS") == "tcp,cuda_copy");
  CHECK(Settings({.cuda = true}).count("TLS") == 0);
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
      Settings({.transports = {"shm"}}, {"TLS", "KEEPALIVE_INTERVAL", "POSIX_ERROR_HANDLING"});
  CHECK(settings.count("KEEPALIVE_INTERVAL") == 0);
  CHECK(settings.count("POSIX_ERROR_HANDLING") == 0);
  CHECK(settings.at("SYSV_ERROR_HANDLING") == "y");
  CHECK(settings.at("TLS") == "shm");
}

TEST_CASE("the longest header fits the buffers that are asked for") {
  const auto none = [](const std::string&) { return false; };
  CHECK(Settings({}).at("SEG_SIZE") == "32K");
  CHECK(SafeHeaderBytes(none) < 32 << 10);
  CHECK(SafeHeaderBytes([](const std::string& name) { return name == "SEG_SIZE"; }) < 8 << 10);
}

}  // namespace
}  // namespace latentd
