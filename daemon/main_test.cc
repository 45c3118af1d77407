// The binary as a service manager and an operator see it: arguments, exit codes, notifications,
// signals.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/testing/http_get.h"

namespace latentd {
namespace {

constexpr char kBinary[] = "daemon/latentd";

constexpr char kGoodConfig[] = R"(
node: { id: node-a, advertise: 127.0.0.1 }
control: { listen: "127.0.0.1:0" }
data: { lanes: [{ device: cpu, cache: 4MiB }] }
model: tiny
metrics: { listen: "127.0.0.1:0" }
)";

std::string TempPath(const std::string& name) {
  static int count = 0;
  const char* folder = std::getenv("TEST_TMPDIR");
  return std::string(folder == nullptr ? "/tmp" : folder) + "/" + std::to_string(getpid()) + "-" +
         std::to_string(++count) + "-" + name;
}

std::string WriteTemp(const std::string& name, const std::string& text) {
  std::string path = TempPath(name);
  std::ofstream(path) << text;
  return path;
}

std::string Read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class Latentd {
 public:
  explicit Latentd(std::vector<std::string> arguments, std::vector<std::string> environment = {})
      : out_path_(TempPath("out")), err_path_(TempPath("err")) {
    arguments.insert(arguments.begin(), kBinary);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (std::string& variable : environment) envp.push_back(variable.data());
    for (char** variable = environ; *variable != nullptr; ++variable) envp.push_back(*variable);
    envp.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, out_path_.c_str(), O_CREAT | O_WRONLY, 0600);
    posix_spawn_file_actions_addopen(&files, 2, err_path_.c_str(), O_CREAT | O_WRONLY, 0600);
    REQUIRE(posix_spawn(&pid_, kBinary, &files, nullptr, argv.data(), envp.data()) == 0);
    posix_spawn_file_actions_destroy(&files);
  }
  ~Latentd() {
    if (pid_ == 0) return;
    kill(pid_, SIGKILL);
    Wait();
  }

  int Wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  void Signal(int signal) const { kill(pid_, signal); }
  std::string out() const { return Read(out_path_); }
  std::string err() const { return Read(err_path_); }
  // The value of `key=` in the log's line that says it is ready.
  std::string Ready(const std::string& key) const {
    const std::string log = err();
    const size_t line = log.find("ready node=");
    if (line == std::string::npos) return "";
    const size_t at = log.find(" " + key + "=", line);
    const size_t begin = at + key.size() + 2;
    return log.substr(begin, log.find_first_of(" \n", begin) - begin);
  }

 private:
  std::string out_path_;
  std::string err_path_;
  pid_t pid_ = 0;
};

// The service manager's socket.
class Manager {
 public:
  Manager() {
    socket_ = socket(AF_UNIX, SOCK_DGRAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // The abstract namespace has no length limit on where temporary files are.
    name_ = "latentd-main-test-" + std::to_string(getpid()) + "-" + std::to_string(rand());
    std::memcpy(address.sun_path + 1, name_.data(), name_.size());
    const socklen_t length =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name_.size());
    REQUIRE(bind(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    const timeval limit{.tv_sec = 60, .tv_usec = 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  }
  ~Manager() { close(socket_); }

  std::string environment() const { return "NOTIFY_SOCKET=@" + name_; }
  // The next message that begins with `prefix`; others are passed over. Empty after a minute.
  std::string Await(const std::string& prefix) const {
    for (;;) {
      char buffer[1024];
      const ssize_t length = recv(socket_, buffer, sizeof(buffer), 0);
      if (length < 0) return "";
      std::string message(buffer, static_cast<size_t>(length));
      if (message.compare(0, prefix.size(), prefix) == 0) return message;
    }
  }

 private:
  std::string name_;
  int socket_ = -1;
};

TEST_CASE("version and help are printed and are no errors") {
  Latentd version({"--version"});
  CHECK(version.Wait() == 0);
  CHECK(version.out().find("latentd ") == 0);
  Latentd help({"--help"});
  CHECK(help.Wait() == 0);
  CHECK(help.out().find("--check-config") != std::string::npos);
}

TEST_CASE("an unknown argument is exit code 2 and is named") {
  Latentd latentd({"--frobnicate"});
  CHECK(latentd.Wait() == 2);
  CHECK(latentd.err().find("--frobnicate") != std::string::npos);
}

TEST_CASE("checking a configuration tells every fault with its place, on stderr") {
  Latentd good({"--check-config", WriteTemp("good.yaml", kGoodConfig)});
  CHECK(good.Wait() == 0);
  const std::string path =
      WriteTemp("bad.yaml", "node: { id: node-a }\ndata: { lanes: 7 }\nmodl: x\n");
  Latentd bad({"--check-config", path});
  CHECK(bad.Wait() == 2);
  CHECK(bad.out().empty());
  CHECK(bad.err().find(path + ":2:") != std::string::npos);
  CHECK(bad.err().find(path + ":3:") != std::string::npos);
}

TEST_CASE("a broken or missing configuration is exit code 2 and nothing is started") {
  Latentd broken({"--config", WriteTemp("bad.yaml", "node: 7\n")});
  CHECK(broken.Wait() == 2);
  Latentd missing({"--config", "/nonexistent/latentd.yaml"});
  CHECK(missing.Wait() == 2);
  CHECK(missing.err().find("/nonexistent/latentd.yaml") != std::string::npos);
}

TEST_CASE("without a configuration the default one is named") {
  if (std::filesystem::exists("/etc/latentd/latentd.yaml")) return;
  Latentd latentd({});
  CHECK(latentd.Wait() == 2);
  CHECK(latentd.err().find("/etc/latentd/latentd.yaml") != std::string::npos);
}

TEST_CASE("the configuration that takes effect can be printed and loads again") {
  Latentd latentd({"--print-config", WriteTemp("good.yaml", kGoodConfig)});
  REQUIRE(latentd.Wait() == 0);
  Latentd again({"--check-config", WriteTemp("printed.yaml", latentd.out())});
  CHECK(again.Wait() == 0);
}

TEST_CASE("a daemon that cannot start is exit code 1 and says why") {
  std::string config = kGoodConfig;
  config.replace(config.find("4MiB"), 4, "900TiB");
  Latentd latentd({"--config", WriteTemp("huge.yaml", config)});
  CHECK(latentd.Wait() == 1);
  CHECK(latentd.err().find("data.lanes") != std::string::npos);
}

TEST_CASE(
    "the service manager hears READY, a living watchdog and STOPPING, and SIGTERM is exit code 0") {
  const Manager manager;
  Latentd latentd({"--config", WriteTemp("good.yaml", kGoodConfig)},
                  {manager.environment(), "WATCHDOG_USEC=2000000"});
  CHECK(manager.Await("READY=1").find("serving on 127.0.0.1:") != std::string::npos);
  CHECK_FALSE(manager.Await("WATCHDOG=1").empty());
  CHECK_FALSE(manager.Await("WATCHDOG=1").empty());
  latentd.Signal(SIGHUP);
  latentd.Signal(SIGTERM);
  CHECK(manager.Await("STOPPING=1").find("EXTEND_TIMEOUT_USEC=35000000") != std::string::npos);
  CHECK(latentd.Wait() == 0);
  CHECK(latentd.err().find("SIGHUP ignored") != std::string::npos);
}

TEST_CASE("a daemon answers a scrape between READY and SIGINT") {
  const Manager manager;
  Latentd latentd({"--config", WriteTemp("good.yaml", kGoodConfig)}, {manager.environment()});
  REQUIRE_FALSE(manager.Await("READY=1").empty());
  latentd.Signal(SIGHUP);
  while (latentd.Ready("metrics").empty()) usleep(1000);
  CHECK(HttpGet(latentd.Ready("metrics"), "/metrics").find("latentd_build_info{node=\"node-a\"") !=
        std::string::npos);
  latentd.Signal(SIGINT);
  CHECK(latentd.Wait() == 0);
}

TEST_CASE("the log can be JSON") {
  const Manager manager;
  Latentd latentd(
      {"--config", WriteTemp("json.yaml", std::string(kGoodConfig) + "log: { format: json }\n")},
      {manager.environment()});
  REQUIRE_FALSE(manager.Await("READY=1").empty());
  latentd.Signal(SIGTERM);
  CHECK(latentd.Wait() == 0);
  std::istringstream lines(latentd.err());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    CAPTURE(line);
    CHECK(line.find("{\"time\":\"") == 0);
    CHECK(line.back() == '}');
  }
  CHECK(count >= 4);
}

}  // namespace
}  // namespace latentd
