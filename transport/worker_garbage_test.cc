// Bytes that no latentd would send, through real workers and through plain UCX, into a handler that
// parses.
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/ucx_address.h"
#include "transport/wire_corpus.h"
#include "transport/wire_parse.h"
#include "transport/worker.h"
#include "transport/worker_test_util.h"
#include "ucp/api/ucp.h"

namespace latentd {
namespace {

constexpr unsigned kAm = wire::kRequestAm;

// A worker whose handler does what a lane does first.
struct Receiver {
  Receiver() : context(MakeContext({"tcp"})), worker(ValueOrThrow(Worker::Create(context))) {
    worker->SetHandler(kAm, [this](IncomingMessage message) {
      ++messages;
      const auto request = ParseRequest(message.header(), message.payload_bytes(), CorpusLimits());
      if (!request.ok()) ++refused;
    });
  }

  std::shared_ptr<Context> context;
  std::unique_ptr<Worker> worker;
  int messages = 0;
  int refused = 0;
};

// UCX without latentd: sends whatever header it is told to, and no preamble.
class PlainSender {
 public:
  explicit PlainSender(const std::string& address) {
    ucp_config_t* config = nullptr;
    REQUIRE(ucp_config_read(nullptr, nullptr, &config) == UCS_OK);
    ucp_config_modify(config, "TLS", "tcp");
    ucp_params_t params = {};
    params.field_mask = UCP_PARAM_FIELD_FEATURES;
    params.features = UCP_FEATURE_AM;
    REQUIRE(ucp_init(&params, config, &context_) == UCS_OK);
    ucp_config_release(config);
    ucp_worker_params_t worker_params = {};
    REQUIRE(ucp_worker_create(context_, &worker_params, &worker_) == UCS_OK);
    ucp_ep_params_t ep_params = {};
    ep_params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
    const auto inner = UnwrapAddress(address);
    REQUIRE(inner.ok());
    ep_params.address = reinterpret_cast<const ucp_address_t*>(inner->ucx.data());
    ep_params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
    REQUIRE(ucp_ep_create(worker_, &ep_params, &endpoint_) == UCS_OK);
  }
  ~PlainSender() {
    ucp_request_param_t param = {};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_EP_CLOSE_FLAG_FORCE;
    Finish(ucp_ep_close_nbx(endpoint_, &param), nullptr);
    ucp_worker_destroy(worker_);
    ucp_cleanup(context_);
  }
  PlainSender(const PlainSender&) = delete;
  PlainSender& operator=(const PlainSender&) = delete;

  void Send(std::span<const std::byte> header, std::span<const std::byte> payload, unsigned flags,
            Worker* receiver) {
    ucp_request_param_t param = {};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = flags;
    Finish(ucp_am_send_nbx(endpoint_, kAm, header.data(), header.size(), payload.data(),
                           payload.size(), &param),
           receiver);
  }

 private:
  void Finish(ucs_status_ptr_t request, Worker* receiver) {
    if (!UCS_PTR_IS_PTR(request)) return;
    while (ucp_request_check_status(request) == UCS_INPROGRESS) {
      ucp_worker_progress(worker_);
      if (receiver != nullptr) receiver->Progress();
    }
    ucp_request_free(request);
  }

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_ep_h endpoint_ = nullptr;
};

TEST_CASE("random headers with random payloads are refused, every one") {
  Receiver receiver;
  auto sender = ValueOrThrow(Worker::Create(receiver.context));
  auto endpoint = ValueOrThrow(sender->Connect(receiver.worker->address(), [](absl::Status) {}));
  std::mt19937 random(1);
  constexpr int kMessages = 300;
  std::vector<std::vector<std::byte>> payloads;
  int done = 0;
  for (int i = 0; i < kMessages; ++i) {
    const auto header = Pattern(random() % 2000, static_cast<uint32_t>(i));
    payloads.push_back(Pattern(i % 20 == 0 ? 400'000 : random() % 20'000, 1));
    endpoint->Send(kAm, header, payloads.back(), [&](absl::Status s) { done += s.ok() ? 1 : 0; });
  }
  CHECK(ProgressUntil({sender.get(), receiver.worker.get()},
                      [&] { return receiver.messages == kMessages && done == kMessages; }));
  CHECK(receiver.refused == kMessages);
}

TEST_CASE("messages of a program that is not latentd are dropped, and latentd's still arrive") {
  Receiver receiver;
  {
    PlainSender plain(receiver.worker->address());
    const auto small = Pattern(100, 1);
    const auto large = Pattern(1 << 20, 1);
    for (const unsigned flags : {0U, static_cast<unsigned>(UCP_AM_SEND_FLAG_REPLY)}) {
      for (size_t header = 0; header < 24; ++header) {
        plain.Send(Pattern(header, 1), small, flags, receiver.worker.get());
        plain.Send(Pattern(header, 1), {}, flags, receiver.worker.get());
      }
      plain.Send(Pattern(3, 1), large, flags | UCP_AM_SEND_FLAG_RNDV, receiver.worker.get());
      // Long enough to pass for one of ours.
      plain.Send(Pattern(104, 1), large, flags | UCP_AM_SEND_FLAG_RNDV, receiver.worker.get());
    }
    REQUIRE(ProgressUntil({receiver.worker.get()}, [&] { return receiver.messages == 2; }));
  }
  CHECK(receiver.refused == 2);
  auto sender = ValueOrThrow(Worker::Create(receiver.context));
  auto endpoint = ValueOrThrow(sender->Connect(receiver.worker->address(), [](absl::Status) {}));
  MessageBytes ping;
  BuildPing({}, &ping);
  endpoint->Send(kAm, {ping.data(), ping.size()}, {}, [](absl::Status) {});
  CHECK(
      ProgressUntil({sender.get(), receiver.worker.get()}, [&] { return receiver.messages == 3; }));
  CHECK(receiver.refused == 2);
}

}  // namespace
}  // namespace latentd
