// What the wire costs: round trips and throughput of active messages between two processes of this
// machine.
//
//   transport_benchmark [transport...]        default: tcp shm
//
// A round trip sends a payload of the first size and gets one of the second; "one way" is half of
// it, to be compared with `ucx_perftest -t ucp_am_lat -e`. Throughput keeps 16 messages in flight.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "transport/peer_process.h"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

struct Sizes {
  size_t request;
  size_t reply;
};

// One query token of 16 and of 128 heads and its bf16 answer, then powers of two.
constexpr Sizes kSizes[] = {{0, 0},           {8, 8},           {18432, 16448},    {18432, 18432},
                            {147456, 131584}, {147456, 147456}, {1 << 20, 1 << 20}};

struct Client {
  explicit Client(const std::string& transport)
      : context(MakeContext({transport})), worker(ValueOrThrow(Worker::Create(context))) {
    worker->SetHandler(kPeerAm, [](IncomingMessage) {});
    worker->SetHandler(kPeerAnswerAm, [this](IncomingMessage message) {
      if (message.is_eager()) {
        ++answers;
        return;
      }
      held = std::move(message);
      held.ReceiveInto(buffer.data(), [this](absl::Status status) {
        if (!status.ok()) std::abort();
        ++answers;
      });
    });
    peer = ValueOrThrow(PeerProcess::Start(kSizedRole, transport, worker->address()));
    endpoint = ValueOrThrow(worker->Connect(peer->address(), [](absl::Status) { std::abort(); }));
  }

  void Send(Sizes sizes) {
    const uint64_t reply = sizes.reply;
    std::byte header[sizeof(reply)];
    std::memcpy(header, &reply, sizeof(reply));
    endpoint->Send(kPeerAm, header, std::span(payload).first(sizes.request),
                   [this](absl::Status status) {
                     if (!status.ok()) std::abort();
                     ++sent;
                   });
  }

  std::shared_ptr<Context> context;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<PeerProcess> peer;
  std::unique_ptr<Endpoint> endpoint;
  std::vector<std::byte> payload = std::vector<std::byte>(4 << 20);
  std::vector<std::byte> buffer = std::vector<std::byte>(4 << 20);
  IncomingMessage held;
  uint64_t sent = 0;
  uint64_t answers = 0;
};

void RoundTrips(Client* client, const std::string& transport, Sizes sizes, int rounds) {
  std::vector<double> us;
  for (int i = 0; i < rounds + rounds / 4; ++i) {
    const uint64_t expected = client->answers + 1;
    const auto start = Clock::now();
    client->Send(sizes);
    while (client->answers < expected) client->worker->Progress();
    const std::chrono::duration<double, std::micro> took = Clock::now() - start;
    if (i >= rounds / 4) us.push_back(took.count());
  }
  std::sort(us.begin(), us.end());
  const auto at = [&](double share) { return us[static_cast<size_t>(share * (us.size() - 1))]; };
  std::printf(
      "%-4s %8zu -> %8zu B  round trip p10 %8.2f  p50 %8.2f  p99 %8.2f us   one way %8.2f us\n",
      transport.c_str(), sizes.request, sizes.reply, at(0.1), at(0.5), at(0.99), at(0.5) / 2);
  std::fflush(stdout);
}

void Throughput(Client* client, const std::string& transport, size_t bytes, int messages) {
  constexpr uint64_t kWindow = 16;
  const uint64_t first = client->answers;
  const uint64_t end = first + static_cast<uint64_t>(messages);
  uint64_t next = first;
  const auto start = Clock::now();
  while (client->answers < end) {
    while (next < end && next - client->answers < kWindow) {
      client->Send({bytes, 0});
      ++next;
    }
    client->worker->Progress();
  }
  const std::chrono::duration<double> took = Clock::now() - start;
  std::printf("%-4s %8zu B x %llu in flight: %9.0f messages/s  %7.3f GB/s\n", transport.c_str(),
              bytes, static_cast<unsigned long long>(kWindow), messages / took.count(),
              static_cast<double>(bytes) * messages / took.count() / 1e9);
  std::fflush(stdout);
}

void Run(const std::string& transport) {
  Client client(transport);
  for (const Sizes sizes : kSizes) {
    RoundTrips(&client, transport, sizes, sizes.request < (1 << 20) ? 8000 : 1000);
  }
  for (const size_t bytes : {size_t{18432}, size_t{147456}, size_t{1} << 20}) {
    Throughput(&client, transport, bytes, bytes < (1 << 20) ? 20000 : 2000);
  }
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  latentd::RunIfPeer(argc, argv);
  std::vector<std::string> transports(argv + 1, argv + argc);
  if (transports.empty()) transports = {"tcp", "shm"};
  for (const std::string& transport : transports) latentd::Run(transport);
  return 0;
}
