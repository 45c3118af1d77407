#include "daemon/process/near_cpus.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace latentd {
namespace {

using Cpus = std::set<int>;

TEST_CASE("lists of CPUs are read as the kernel writes them") {
  CHECK(*ParseCpuList("0-3,8,10-11\n") == Cpus{0, 1, 2, 3, 8, 10, 11});
  CHECK(*ParseCpuList("5") == Cpus{5});
  CHECK(ParseCpuList("\n")->empty());
  for (const char* wrong : {"a", "3-1", "-1", "1-", "1,,2", "0-99999999", "1-2-3"}) {
    CAPTURE(wrong);
    CHECK(ParseCpuList(wrong).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("a device's CPUs are those of its file, and a missing or strange one is named") {
  const std::string folder = std::string(std::getenv("TEST_TMPDIR")) + "/devices";
  std::filesystem::create_directories(folder + "/0000:1b:00.0");
  CHECK(CpusNear("0000:1B:00.0", folder).status().message() ==
        folder + "/0000:1b:00.0/local_cpulist: cannot be read");
  const auto write = [&](const char* list) {
    std::ofstream(folder + "/0000:1b:00.0/local_cpulist") << list << "\n";
  };
  write("16-17");
  CHECK(*CpusNear("0000:1B:00.0", folder) == Cpus{16, 17});
  CHECK(CpusNear("0000:1c:00.0", folder).status().code() == absl::StatusCode::kNotFound);
  write("");
  CHECK(CpusNear("0000:1b:00.0", folder).status().code() == absl::StatusCode::kNotFound);
  write("all of them");
  CHECK(CpusNear("0000:1b:00.0", folder).status().code() == absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace latentd
