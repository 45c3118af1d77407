#include "daemon/process/memory_check.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace latentd {
namespace {

// A folder that stands for "/", with one file each call.
class FakeRoot {
 public:
  FakeRoot() {
    std::string name = std::filesystem::temp_directory_path() / "memory_check_XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  void Write(const std::string& file, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + file).parent_path());
    std::ofstream(path_ + file) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

Config WithCaches(std::vector<uint64_t> caches) {
  Config config;
  for (const uint64_t bytes : caches) {
    config.data.lanes.emplace_back();
    config.data.lanes.back().cache_bytes = bytes;
  }
  return config;
}

TEST_CASE("what is available and the limits of all enclosing control groups bound memory") {
  const FakeRoot root;
  root.Write("/proc/meminfo",
             "MemTotal:  100 kB\nHugePages_Total:       0\nMemAvailable:  70 kB\n");
  root.Write("/proc/self/cgroup", "1:name=systemd:/x\n0::/system.slice/latentd.service\n");
  root.Write("/sys/fs/cgroup/system.slice/latentd.service/memory.max", "max\n");
  root.Write("/sys/fs/cgroup/system.slice/memory.max", "50000\n");
  const std::vector<MemoryBound> bounds = ReadMemoryBounds(root.path());
  REQUIRE(bounds.size() == 2);
  CHECK(bounds[0].bytes == 70 * 1024);
  CHECK(bounds[1].bytes == 50000);
  CHECK(bounds[1].source == "/sys/fs/cgroup/system.slice/memory.max");
}

TEST_CASE("what cannot be read bounds nothing") {
  const FakeRoot root;
  CHECK(ReadMemoryBounds(root.path()).empty());
  root.Write("/proc/meminfo", "nonsense");
  root.Write("/proc/self/cgroup", "0::/\n");
  CHECK(ReadMemoryBounds(root.path()).empty());
}

TEST_CASE("this machine has some memory") {
  const std::vector<MemoryBound> bounds = ReadMemoryBounds();
  REQUIRE_FALSE(bounds.empty());
  CHECK(bounds[0].bytes > 0);
}

TEST_CASE("caches in the host's memory fit every bound together") {
  const std::vector<MemoryBound> bounds = {{1000, "the machine"}, {900, "the unit"}};
  CHECK(CheckHostMemory(WithCaches({400, 500}), bounds).ok());
  CHECK(CheckHostMemory(WithCaches({400, 501}), {}).ok());
  const absl::Status status = CheckHostMemory(WithCaches({400, 501}), bounds);
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(status.message() ==
        "data.lanes: the caches in the host's memory need 901 bytes together, but there are 900 "
        "(the unit)");
}

TEST_CASE("a GPU's cache takes none of the host's memory") {
  Config config = WithCaches({2000});
  config.data.lanes[0].device.kind = DeviceKind::kCuda;
  CHECK(CheckHostMemory(config, {{1000, "the machine"}}).ok());
}

}  // namespace
}  // namespace latentd
