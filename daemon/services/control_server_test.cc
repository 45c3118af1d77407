// The server's own behaviour: addresses, health, reflection, mutual TLS, shutdown.
#include "daemon/services/control_server.h"

#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/security/credentials.h>

#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <future>
#include <thread>

#include "absl/time/clock.h"
#include "daemon/services/test_certificates.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "proto/latentd/v1/admin.grpc.pb.h"

namespace latentd {
namespace {

// A client that greets as HTTP/2 does and then neither reads nor writes.
class HungClient {
 public:
  explicit HungClient(int port) : socket_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    const std::string greeting =
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") + std::string("\0\0\0\4\0\0\0\0\0", 9);
    REQUIRE(send(socket_, greeting.data(), greeting.size(), 0) ==
            static_cast<ssize_t>(greeting.size()));
    char settings[9];  // the server's: it has taken the greeting
    REQUIRE(recv(socket_, settings, sizeof(settings), MSG_WAITALL) == sizeof(settings));
  }
  ~HungClient() { close(socket_); }

 private:
  const int socket_;
};

// A call that takes until it is let go.
class SlowService : public v1::Admin::Service {
 public:
  grpc::Status Status(grpc::ServerContext*, const v1::StatusRequest*,
                      v1::StatusResponse* response) override {
    entered.set_value();
    let_go.get_future().wait();
    response->set_node_id("slow");
    return grpc::Status::OK;
  }
  std::promise<void> entered;
  std::promise<void> let_go;
};

std::unique_ptr<ControlServer> StartOrFail(const ControlServerOptions& options) {
  auto server = ControlServer::Start(options, {});
  INFO(server.status().message());
  REQUIRE(server.ok());
  return *std::move(server);
}

std::shared_ptr<grpc::ChannelCredentials> ClientTls(const TlsConfig& files) {
  return grpc::SslCredentials({.pem_root_certs = ReadTestFile(files.ca_path),
                               .pem_private_key = ReadTestFile(files.key_path),
                               .pem_cert_chain = ReadTestFile(files.cert_path)});
}

// What grpc.health.v1 answers over a connection of its own.
grpc::StatusCode AskHealth(const std::string& address,
                           const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                           bool* serving = nullptr) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(address, credentials, arguments);
  const auto stub = grpc::health::v1::Health::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  grpc::health::v1::HealthCheckResponse response;
  const grpc::Status status = stub->Check(&context, {}, &response);
  if (serving != nullptr) {
    *serving = response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
  }
  return status.error_code();
}

TEST_CASE("health follows what the daemon says of itself") {
  const auto server = StartOrFail({});
  bool serving = true;
  CHECK(AskHealth(server->address(), grpc::InsecureChannelCredentials(), &serving) ==
        grpc::StatusCode::OK);
  CHECK_FALSE(serving);
  server->SetServing(true);
  AskHealth(server->address(), grpc::InsecureChannelCredentials(), &serving);
  CHECK(serving);
  server->SetServing(false);
  AskHealth(server->address(), grpc::InsecureChannelCredentials(), &serving);
  CHECK_FALSE(serving);
}

TEST_CASE("a second server on the same port is refused by address, never shares it") {
  const auto first = StartOrFail({});
  const auto second = ControlServer::Start({.listen = first->address()}, {});
  CHECK(second.status().code() == absl::StatusCode::kUnavailable);
  const std::string message(second.status().message());
  CHECK(message == "control.listen: " + first->address() + ": Address already in use");
}

TEST_CASE("a client with a certificate of the authority is served") {
  TestCertificates certificates;
  certificates.Issue("client");
  const auto server = StartOrFail({.tls = certificates.files()});
  CHECK(AskHealth(server->address(), ClientTls(certificates.Files("client"))) ==
        grpc::StatusCode::OK);
}

TEST_CASE("a client without a certificate, of another authority or in plaintext is not served") {
  TestCertificates certificates;
  certificates.MakeAuthority("other");
  certificates.Issue("stranger", "other");
  const auto server = StartOrFail({.tls = certificates.files()});
  const std::string& address = server->address();
  CHECK(AskHealth(address, ClientTls(certificates.Files("stranger"))) != grpc::StatusCode::OK);
  CHECK(AskHealth(address, grpc::SslCredentials(
                               {.pem_root_certs = ReadTestFile(certificates.files().ca_path)})) !=
        grpc::StatusCode::OK);
  CHECK(AskHealth(address, grpc::InsecureChannelCredentials()) != grpc::StatusCode::OK);
}

TEST_CASE("a client does not accept a server of another authority") {
  TestCertificates certificates;
  certificates.Issue("client");
  certificates.MakeAuthority("other");
  TlsConfig trusting_other = certificates.Files("client");
  trusting_other.ca_path = certificates.directory() + "/other.pem";
  const auto server = StartOrFail({.tls = certificates.files()});
  CHECK(AskHealth(server->address(), ClientTls(trusting_other)) != grpc::StatusCode::OK);
}

TEST_CASE("certificates that are replaced are used without a restart") {
  TestCertificates certificates;
  certificates.Issue("client");
  const auto server = StartOrFail({.tls = certificates.files(), .tls_reload = absl::Seconds(1)});
  const auto old_client = ClientTls(certificates.Files("client"));
  CHECK(AskHealth(server->address(), old_client) == grpc::StatusCode::OK);

  certificates.MakeAuthority("ca");
  certificates.Issue("server");
  certificates.Issue("client");
  const auto new_client = ClientTls(certificates.Files("client"));
  const absl::Time deadline = absl::Now() + absl::Seconds(50);
  grpc::StatusCode code = grpc::StatusCode::UNAVAILABLE;
  while (code != grpc::StatusCode::OK && absl::Now() < deadline) {
    code = AskHealth(server->address(), new_client);
  }
  CHECK(code == grpc::StatusCode::OK);
  CHECK(AskHealth(server->address(), old_client) != grpc::StatusCode::OK);
}

TEST_CASE("TLS files that cannot work stop the start") {
  const TestCertificates certificates;
  TlsConfig files = certificates.files();
  files.key_path = certificates.directory() + "/none.key";
  const auto server = ControlServer::Start({.tls = files}, {});
  CHECK(server.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(std::string(server.status().message()).find("control.tls.key") == 0);
}

TEST_CASE("a health watch does not hold up the shutdown") {
  const auto server = StartOrFail({});
  const auto stub = grpc::health::v1::Health::NewStub(
      grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  const auto watch = stub->Watch(&context, {});
  grpc::health::v1::HealthCheckResponse response;
  REQUIRE(watch->Read(&response));
  const absl::Time begin = absl::Now();
  server->Shutdown(absl::Now() + absl::Milliseconds(100));
  CHECK(absl::Now() - begin < absl::Seconds(5));
  while (watch->Read(&response)) {
  }
  CHECK_FALSE(watch->Finish().ok());
}

TEST_CASE("only loopback addresses count as such") {
  CHECK(IsLoopback("127.0.0.1:7400"));
  CHECK(IsLoopback("127.9.9.9:7400"));
  CHECK(IsLoopback("localhost:7400"));
  CHECK(IsLoopback("[::1]:7400"));
  CHECK_FALSE(IsLoopback("0.0.0.0:7400"));
  CHECK_FALSE(IsLoopback("10.0.0.1:7400"));
  CHECK_FALSE(IsLoopback("[::]:7400"));
  CHECK_FALSE(IsLoopback("localhost.example.com:7400"));
}

TEST_CASE("a shutdown without calls does not wait for a client that hangs") {
  const auto server = StartOrFail({});
  const HungClient client(server->port());
  server->Shutdown(absl::Now() + absl::Hours(1));
}

TEST_CASE("a shutdown gives a call that runs the time that it was given") {
  SlowService service;
  auto server = ControlServer::Start({}, {&service});
  REQUIRE(server.ok());
  const auto stub = v1::Admin::NewStub(
      grpc::CreateChannel((*server)->address(), grpc::InsecureChannelCredentials()));
  v1::StatusResponse response;
  auto called = std::async(std::launch::async, [&] {
    grpc::ClientContext context;
    return stub->Status(&context, {}, &response);
  });
  service.entered.get_future().wait();
  auto stopped =
      std::async(std::launch::async, [&] { (*server)->Shutdown(absl::Now() + absl::Hours(1)); });
  // Longer than an idle server would take.
  CHECK(stopped.wait_for(std::chrono::milliseconds(300)) == std::future_status::timeout);
  service.let_go.set_value();
  CHECK(called.get().ok());
  CHECK(response.node_id() == "slow");
  stopped.get();
}

}  // namespace
}  // namespace latentd
