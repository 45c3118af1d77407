#include "tests/cluster/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/cluster/eventually.h"

namespace latentd::testing {
namespace {

namespace fs = std::filesystem;

// In the child, between fork and exec: only calls that are safe there.
[[noreturn]] void Exec(char* const* argv, int out, int err, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);  // the parent died before the line above
  const int in = open("/dev/null", O_RDONLY);
  dup2(in, 0);
  dup2(out, 1);
  dup2(err, 2);
  // gRPC's and UCX's descriptors of the test are not the child's.
  for (int fd = 3; fd < 1024; ++fd) close(fd);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(argv[0], argv);
  const char message[] = "exec failed\n";
  (void)!write(2, message, sizeof(message) - 1);
  _exit(127);
}

int OpenForAppend(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) throw std::runtime_error(absl::StrCat(path, ": ", std::strerror(errno)));
  return fd;
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const std::string& output_stem)
    : out_path_(output_stem + ".out"), err_path_(output_stem + ".err") {
  if (access(argv[0].c_str(), X_OK) != 0) {
    throw std::runtime_error(absl::StrCat(argv[0], ": ", std::strerror(errno)));
  }
  std::vector<char*> raw;
  for (const std::string& argument : argv) raw.push_back(const_cast<char*>(argument.c_str()));
  raw.push_back(nullptr);
  const int out = OpenForAppend(out_path_);
  const int err = OpenForAppend(err_path_);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) Exec(raw.data(), out, err, parent);
  close(out);
  close(err);
  if (pid_ < 0) throw std::runtime_error(absl::StrCat("fork: ", std::strerror(errno)));
}

Process::Process(Process&& other) noexcept { *this = std::move(other); }

Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  Kill();
  pid_ = std::exchange(other.pid_, -1);
  end_ = other.end_;
  out_path_ = std::move(other.out_path_);
  err_path_ = std::move(other.err_path_);
  return *this;
}

Process::~Process() { Kill(); }

bool Process::Reap(bool block) {
  if (pid_ < 0 || end_.has_value()) return true;
  int status = 0;
  pid_t got;
  do {
    got = waitpid(pid_, &status, block ? 0 : WNOHANG);
  } while (got < 0 && errno == EINTR);
  if (got != pid_) return false;
  end_ = WIFEXITED(status) ? ProcessEnd{.exit_code = WEXITSTATUS(status)}
                           : ProcessEnd{.signal = WTERMSIG(status)};
  return true;
}

bool Process::Running() { return !Reap(/*block=*/false); }

void Process::Signal(int signal) {
  if (Running()) kill(pid_, signal);
}

void Process::Freeze() {
  Signal(SIGSTOP);
  // The signal stops every thread before the state reads T.
  Eventually(absl::Seconds(2), [&] {
    const std::string stat = ReadFile(absl::StrCat("/proc/", pid_, "/stat"));
    const size_t paren = stat.rfind(')');
    return paren != std::string::npos && paren + 2 < stat.size() && stat[paren + 2] == 'T';
  });
}

std::optional<ProcessEnd> Process::WaitForEnd(absl::Duration limit) {
  Eventually(limit, [&] { return !Running(); });
  return end_;
}

void Process::Kill() {
  if (pid_ < 0 || end_.has_value()) return;
  kill(pid_, SIGKILL);
  Reap(/*block=*/true);
}

ProcessUse Process::Use() const {
  const std::string proc = absl::StrCat("/proc/", pid_);
  ProcessUse use;
  std::error_code error;
  for (fs::directory_iterator it(proc + "/fd", error), end; it != end; it.increment(error)) {
    ++use.fds;
  }
  std::ifstream statm(proc + "/statm");
  uint64_t size_pages = 0;
  uint64_t resident_pages = 0;
  statm >> size_pages >> resident_pages;
  use.rss_bytes = resident_pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));

  // Fields are counted from the command's closing parenthesis, which may itself hold anything:
  // state is field 3, utime 14, stime 15, num_threads 20.
  const std::string stat = ReadFile(proc + "/stat");
  const size_t paren = stat.rfind(')');
  if (paren == std::string::npos) throw std::runtime_error(proc + " is gone");
  std::istringstream fields(stat.substr(paren + 1));
  std::string skip;
  for (int field = 3; field < 14; ++field) fields >> skip;
  uint64_t user_ticks = 0;
  uint64_t system_ticks = 0;
  fields >> user_ticks >> system_ticks;
  for (int field = 16; field < 20; ++field) fields >> skip;
  fields >> use.threads;
  use.cpu = absl::Seconds(static_cast<double>(user_ticks + system_ticks) /
                          static_cast<double>(sysconf(_SC_CLK_TCK)));
  return use;
}

std::string Process::Out() const { return ReadFile(out_path_); }
std::string Process::Err() const { return ReadFile(err_path_); }

CommandResult RunCommand(const std::vector<std::string>& argv, absl::Duration limit) {
  const std::string folder = FreshFolder("command");
  Process process(argv, folder + "/output");
  const std::optional<ProcessEnd> end = process.WaitForEnd(limit);
  if (!end.has_value()) process.Kill();
  CommandResult result{.end = end.value_or(ProcessEnd{.signal = SIGKILL}),
                       .timed_out = !end.has_value(),
                       .out = process.Out(),
                       .err = process.Err()};
  fs::remove_all(folder);
  return result;
}

std::string Runfile(const std::string& path) {
  const char* root = std::getenv("TEST_SRCDIR");
  const char* workspace = std::getenv("TEST_WORKSPACE");
  if (root == nullptr || workspace == nullptr) return fs::absolute(path).string();
  return absl::StrCat(root, "/", workspace, "/", path);
}

std::string FreshFolder(const std::string& stem) {
  static std::atomic<int> counter{0};
  const char* base = std::getenv("TEST_TMPDIR");
  const fs::path root = base != nullptr ? fs::path(base) : fs::temp_directory_path();
  const fs::path folder = root / absl::StrCat("latentd-", stem, "-", getpid(), "-", counter++);
  fs::create_directories(folder);
  return folder.string();
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) throw std::runtime_error(path + ": cannot write");
}

}  // namespace latentd::testing
