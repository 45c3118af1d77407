#include "transport/peer_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

// Addresses go over a pair of pipes: length, then bytes.
bool WriteAll(int fd, const void* data, size_t bytes) {
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = write(fd, at, bytes);
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

bool ReadAll(int fd, void* data, size_t bytes) {
  char* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = read(fd, at, bytes);
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

bool WriteText(int fd, const std::string& text) {
  const uint64_t bytes = text.size();
  return WriteAll(fd, &bytes, sizeof(bytes)) && WriteAll(fd, text.data(), text.size());
}

bool ReadText(int fd, std::string* text) {
  uint64_t bytes = 0;
  if (!ReadAll(fd, &bytes, sizeof(bytes)) || bytes > (1 << 20)) return false;
  text->resize(bytes);
  return ReadAll(fd, text->data(), bytes);
}

[[noreturn]] void Die(const std::string& why) {
  std::fprintf(stderr, "peer: %s\n", why.c_str());
  std::_Exit(3);
}

// Echoes: payloads are received into one of a few buffers that stay put until the answer is sent.
class EchoPeer {
 public:
  EchoPeer(Worker* worker, const std::string& role)
      : worker_(worker), may_quit_(role == kQuitRole), sized_(role == kSizedRole) {
    worker_->SetHandler(kPeerAm, [this](IncomingMessage message) { Handle(std::move(message)); });
  }
  void Run(std::unique_ptr<Endpoint> endpoint) {
    endpoint_ = std::move(endpoint);
    while (!quit_) worker_->Progress();
    endpoint_.reset();
    worker_->Progress();
  }

 private:
  struct Echo {
    IncomingMessage message;
    std::vector<std::byte> payload;
  };

  void Handle(IncomingMessage message) {
    const auto header = message.header();
    if (may_quit_ && header.size() == 4 && std::memcmp(header.data(), "quit", 4) == 0) {
      quit_ = true;
      return;
    }
    Echo* echo = Take();
    echo->message = std::move(message);
    if (echo->message.is_eager()) return Answer(echo, echo->message.eager_payload());
    if (echo->payload.size() < echo->message.payload_bytes()) {
      echo->payload.resize(echo->message.payload_bytes());
    }
    echo->message.ReceiveInto(echo->payload.data(), [this, echo](const absl::Status& status) {
      if (status.ok()) {
        Answer(echo, std::span(echo->payload).first(echo->message.payload_bytes()));
      }
    });
  }

  void Answer(Echo* echo, std::span<const std::byte> payload) {
    uint64_t asked = 0;
    if (sized_ && echo->message.header().size() == sizeof(asked)) {
      std::memcpy(&asked, echo->message.header().data(), sizeof(asked));
      if (answer_.size() < asked) answer_.resize(asked);
      payload = std::span(answer_).first(asked);
    }
    endpoint_->Send(kPeerAnswerAm, echo->message.header(), payload, [this, echo](absl::Status) {
      echo->message = IncomingMessage();
      free_.push_back(echo);
    });
  }

  Echo* Take() {
    if (free_.empty()) return &echoes_.emplace_back();
    Echo* echo = free_.back();
    free_.pop_back();
    return echo;
  }

  Worker* const worker_;
  const bool may_quit_;
  const bool sized_;
  std::unique_ptr<Endpoint> endpoint_;
  std::deque<Echo> echoes_;
  std::vector<Echo*> free_;
  std::vector<std::byte> answer_;  // grows before the first answer of its size is under way
  bool quit_ = false;
};

[[noreturn]] void RunFlood(Worker* worker, std::unique_ptr<Endpoint> endpoint) {
  const std::vector<std::byte> payload(8000);
  uint64_t sent = 0;
  uint64_t done = 0;
  while (true) {
    while (sent - done < 64) {
      ++sent;
      endpoint->Send(kPeerAm, {}, payload, [&done](absl::Status) { ++done; });
    }
    worker->Progress();
  }
}

[[noreturn]] void RunPeer(const std::string& role, const std::string& transport) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // a peer never outlives its test
  setenv("UCX_NET_DEVICES", "lo", 0);
  auto context = Context::Create({.transports = {transport}});
  if (!context.ok()) Die(context.status().ToString());
  auto worker = Worker::Create(*std::move(context));
  if (!worker.ok()) Die(worker.status().ToString());
  std::string address;
  if (!WriteText(STDOUT_FILENO, (*worker)->address()) || !ReadText(STDIN_FILENO, &address)) {
    Die("no address");
  }
  std::unique_ptr<EchoPeer> echo;
  if (role != kFloodRole) echo = std::make_unique<EchoPeer>(worker->get(), role);
  auto endpoint = (*worker)->Connect(address, [](absl::Status) {});
  if (!endpoint.ok()) Die(endpoint.status().ToString());
  if (echo == nullptr) RunFlood(worker->get(), *std::move(endpoint));
  echo->Run(*std::move(endpoint));
  worker->reset();
  std::exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<PeerProcess>> PeerProcess::Start(const std::string& role,
                                                                const std::string& transport,
                                                                const std::string& address) {
  int to_peer[2];
  int from_peer[2];
  if (pipe(to_peer) != 0 || pipe(from_peer) != 0) return absl::InternalError("pipe failed");
  const pid_t pid = fork();
  if (pid < 0) return absl::InternalError("fork failed");
  if (pid == 0) {
    dup2(to_peer[0], STDIN_FILENO);
    dup2(from_peer[1], STDOUT_FILENO);
    for (int fd = 3; fd < 1024; ++fd) close(fd);
    execl("/proc/self/exe", "peer", "--peer", role.c_str(), transport.c_str(), nullptr);
    _exit(4);
  }
  close(to_peer[0]);
  close(from_peer[1]);
  std::string peer_address;
  const bool ok = ReadText(from_peer[0], &peer_address) && WriteText(to_peer[1], address);
  close(to_peer[1]);
  close(from_peer[0]);
  std::unique_ptr<PeerProcess> peer(new PeerProcess(pid, std::move(peer_address)));
  if (!ok) return absl::InternalError("the peer did not start");
  return peer;
}

PeerProcess::~PeerProcess() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  Wait();
}

void PeerProcess::Signal(int signal) const { kill(pid_, signal); }

int PeerProcess::Wait() {
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

void RunIfPeer(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--peer") == 0) RunPeer(argv[2], argv[3]);
}

}  // namespace latentd
