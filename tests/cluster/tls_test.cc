// Mutual TLS from end to end: daemons, the client library and both tools with certificates of one
// authority; and everybody who has another one, none, or one that is over, is told so.
#include <catch2/catch.hpp>

#include "absl/strings/str_cat.h"
#include "daemon/services/test_certificates.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/frontend.h"
#include "tests/cluster/load.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;

// An authority and certificates of it and of another one: "server", "client", "stranger" and
// "expired".
class Certificates {
 public:
  Certificates() {
    made_.Issue("client");
    made_.Issue("expired", "ca", -1);
    made_.MakeAuthority("other");
    made_.Issue("stranger", "other");
  }

  TlsFiles Of(const std::string& name, const std::string& authority = "ca") const {
    const auto files = made_.Files(name);
    return {.ca = made_.directory() + "/" + authority + ".pem",
            .cert = files.cert_path,
            .key = files.key_path};
  }

 private:
  TestCertificates made_;
};

// Making them takes openssl some processes: once for all tests.
const Certificates& TheCertificates() {
  static const Certificates* const certificates = new Certificates;
  return *certificates;
}

ClientOptions OptionsWith(const std::string& endpoint, const TlsFiles& tls) {
  ClientOptions options = Frontend::Options(endpoint);
  options.tls = tls;
  options.connect_timeout = Scaled(absl::Seconds(5));
  return options;
}

CommandResult RunTool(const std::string& tool, const std::string& endpoint, const TlsFiles& tls,
                      const std::vector<std::string>& arguments) {
  std::vector<std::string> argv = {Runfile(tool), "--endpoint", endpoint, "--timeout", "5"};
  if (!tls.ca.empty()) argv.insert(argv.end(), {"--tls-ca", tls.ca});
  if (!tls.cert.empty()) argv.insert(argv.end(), {"--tls-cert", tls.cert, "--tls-key", tls.key});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return RunCommand(argv, Scaled(absl::Seconds(30)));
}

TEST_CASE("with certificates of one authority everything works as without TLS") {
  Cluster cluster({.nodes = 2, .tls = TheCertificates().Of("server")});
  const TlsFiles tls = TheCertificates().Of("client");

  Frontend frontend(OptionsWith(cluster.endpoint(), tls));
  std::mt19937_64 random(43);
  std::vector<ChunkData> chunks;
  for (int i = 0; i < 2; ++i) {
    chunks.push_back(
        RandomChunk(frontend.IdOn(cluster.node(i).id(), 1), 100, 2, RecordFormat::kBf16, random));
    REQUIRE(frontend.Publish(chunks.back()) == absl::OkStatus());
  }
  const Question question =
      MakeQuestion(1, 3, 8, true, {{&chunks[0], 100}, {&chunks[1], 60}}, random);
  CHECK(frontend.AskAndCheck(question) == absl::OkStatus());

  // A restarted daemon is found again through TLS.
  cluster.node(1).Kill();
  cluster.node(1).Start();
  cluster.node(1).WaitUntilReady();
  REQUIRE(Eventually(Scaled(absl::Seconds(20)),
                     [&] { return frontend.Publish(chunks[1], absl::Seconds(2)).ok(); }));
  CHECK(frontend.AskAndCheck(question) == absl::OkStatus());

  for (const char* command : {"status", "nodes", "table", "chunks", "drain", "resume"}) {
    const CommandResult result = RunTool("tools/latentctl", cluster.endpoint(), tls, {command});
    INFO(command << ": " << result.out << result.err);
    CHECK(result.end.exit_code == 0);
  }
  const CommandResult bench =
      RunTool("tools/latent-bench", cluster.endpoint(), tls,
              {"replay", "--trace", Runfile("tests/data/mla-h16-tiny.safetensors")});
  INFO(bench.out << bench.err);
  CHECK(bench.end.exit_code == 0);
}

TEST_CASE("whoever has not the right certificates is refused, and told why") {
  Cluster cluster({.tls = TheCertificates().Of("server")});
  const std::string& endpoint = cluster.endpoint();
  TlsFiles none = TheCertificates().Of("client");
  none.cert.clear();
  none.key.clear();

  struct Case {
    const char* name;
    TlsFiles tls;
    const char* words;  // one of which the error must have
  };
  const std::vector<Case> cases = {
      {"a certificate of another authority", TheCertificates().Of("stranger"), "certificate"},
      {"no certificate", none, "certificate"},
      {"a certificate that is over", TheCertificates().Of("expired"), "expired"},
      {"a daemon of another authority", TheCertificates().Of("client", "other"), "certificate"},
      {"plaintext", {}, "TLS"},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const absl::Time start = absl::Now();
    const auto client = Client::Connect(OptionsWith(endpoint, c.tls));
    CHECK(absl::Now() - start < Scaled(absl::Seconds(6)));
    INFO("client: " << client.status());
    CHECK(client.status().code() == absl::StatusCode::kUnavailable);
    CHECK_THAT(std::string(client.status().message()), Contains(endpoint));
    CHECK_THAT(std::string(client.status().message()), Contains(c.words, Catch::CaseSensitive::No));

    const CommandResult ctl = RunTool("tools/latentctl", endpoint, c.tls, {"status"});
    INFO("latentctl: " << ctl.out << ctl.err);
    CHECK(ctl.end.exit_code == 1);
    CHECK_THAT(ctl.err, Contains(endpoint) && Contains(c.words, Catch::CaseSensitive::No));

    const CommandResult bench =
        RunTool("tools/latent-bench", endpoint, c.tls, {"latency", "--requests", "1"});
    INFO("latent-bench: " << bench.out << bench.err);
    CHECK(bench.end.exit_code == 1);
    CHECK_THAT(bench.err, Contains(endpoint) && Contains(c.words, Catch::CaseSensitive::No));
  }
  // None of them had a session.
  CHECK(cluster.node(0).Status().sessions() == 0);
}

TEST_CASE("a client with TLS is told that a daemon has none") {
  Cluster cluster;
  const TlsFiles tls = TheCertificates().Of("client");
  const auto client = Client::Connect(OptionsWith(cluster.endpoint(), tls));
  INFO(client.status());
  CHECK(client.status().code() == absl::StatusCode::kUnavailable);
  CHECK_THAT(std::string(client.status().message()),
             Contains(cluster.endpoint()) && Contains("TLS"));
}

TEST_CASE("files that cannot be used are named by client and daemon") {
  TlsFiles missing = TheCertificates().Of("client");
  missing.cert = "/nonexistent/client.pem";
  const auto client = Client::Connect(OptionsWith("127.0.0.1:1", missing));
  CHECK_THAT(std::string(client.status().message()), Contains(missing.cert));
  const CommandResult ctl = RunTool("tools/latentctl", "127.0.0.1:1", missing, {"status"});
  CHECK(ctl.end.exit_code == 1);
  CHECK_THAT(ctl.err, Contains(missing.cert));

  const TlsFiles expired = TheCertificates().Of("expired");
  REQUIRE_THROWS_WITH(Cluster({.tls = expired}), Contains("control.tls.cert") &&
                                                     Contains(expired.cert) &&
                                                     Contains("expired on"));
}

}  // namespace
}  // namespace latentd::testing
